"""Measures what recording costs and writes RECORDING.md: `python benchmarks/recording.py [--repetitions N]`.

20 streams of 6 Mbit/s arrive from the load program; the relay records none of them, or all of them in one format. The
relay is pinned to one core. What counts is the CPU time of its whole process, threads included, over a window in the
middle. Files are checked afterwards: finished, readable, as many frames as were sent.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from run import LOAD, compile_load
from servers import Contender, Cores, Running, Setup, raise_file_limit, serve

HERE = Path(__file__).resolve().parent
STREAMS = 20
MBIT = 6.0
WARM_UP_S = 4.0
WINDOW_S = 12.0
GATE_PERCENT = 15.0
FORMATS = ("none", "flv", "fmp4", "ts")
TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Measured:
    """One run."""

    percent: float
    """Of a core, the whole process."""
    threads: float
    """Of a core, the threads that are not the reactor's."""
    rss_mib: float
    written_mbyte_s: float
    files: int


def cpu_seconds(stat: Path) -> float:
    """User and system time of a process or thread."""
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def written(pid: int) -> int:
    """Bytes that the process made the disk write."""
    for line in Path(f"/proc/{pid}/io").read_text().splitlines():
        if line.startswith("wchar:"):
            return int(line.split()[1])
    return 0


def measure(form: str, directory: Path, cores: Cores) -> Measured:
    """Record once in one format."""
    extra = "" if form == "none" else f'[plugins.record]\ndirectory = "{directory}"\nformat = "{form}"\n'
    with serve(Contender("relay"), Setup(streams=STREAMS, extra=extra), cores) as running:
        load = [str(LOAD), "--port", str(running.port), "--publishers", str(STREAMS), "--mbit", str(MBIT)]
        load += ["--players", "0", "--publish-name", running.publish_name, "--play-name", running.play_name]
        load += ["--warmup-ms", str(int(WARM_UP_S * 1000)), "--window-ms", str(int((WINDOW_S + 2) * 1000))]
        load = [*load, "--pid", str(running.pid)]
        with subprocess.Popen(["taskset", "-c", str(cores.load), *load], stdout=subprocess.DEVNULL) as loading:
            time.sleep(WARM_UP_S)
            found = _window(running)
            if loading.wait(30) != 0:
                raise SystemExit("the load program failed")
        time.sleep(2)
    files = sorted(directory.glob("*/*_001.*"))
    torn = list(directory.glob("*/*.part"))
    if form != "none" and (len(files) != STREAMS or torn):
        raise SystemExit(f"{form}: {len(files)} files, {len(torn)} torn")
    return Measured(*found, files=len(files))


def _window(running: Running) -> tuple[float, float, float, float]:
    process, reactor = Path(f"/proc/{running.pid}/stat"), Path(f"/proc/{running.pid}/task/{running.pid}/stat")
    began, whole, main, bytes_before = (
        time.monotonic(),
        cpu_seconds(process),
        cpu_seconds(reactor),
        written(running.pid),
    )
    time.sleep(WINDOW_S)
    lasted = time.monotonic() - began
    whole, main = cpu_seconds(process) - whole, cpu_seconds(reactor) - main
    rate = (written(running.pid) - bytes_before) / lasted / 1e6
    return whole / lasted * 100, (whole - main) / lasted * 100, running.rss_kib() / 1024, rate


def main() -> int:
    """Measure everything; print the table and write it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--directory", type=Path, help="where to record; a temporary directory otherwise")
    options = parser.parse_args()
    compile_load()
    raise_file_limit()
    cores = Cores(server=0, load=max(os.sched_getaffinity(0)))
    runs: dict[str, list[Measured]] = {form: [] for form in FORMATS}
    for _ in range(options.repetitions):
        for form in FORMATS:  # in turns, so that all meet the same machine
            with tempfile.TemporaryDirectory(prefix="relay-recording-", dir=options.directory) as name:
                runs[form].append(measure(form, Path(name), cores))
                print(form, runs[form][-1], flush=True)
    text = table(runs)
    print(text)
    path = HERE / "RECORDING.md"
    before = (
        path.read_text()
        if path.exists()
        else "# Recording: what it costs, what it loses\n\n<!-- cost -->\n<!-- end -->\n"
    )
    head, _, rest = before.partition("<!-- cost -->")
    path.write_text(f"{head}<!-- cost -->\n{text}<!-- end -->{rest.partition('<!-- end -->')[2]}")
    base = median(runs["none"], "percent")
    return int(any(median(found, "percent") - base > GATE_PERCENT for found in runs.values())) * 2


def median(found: list[Measured], field: str) -> float:
    """The median of a field."""
    return statistics.median(getattr(one, field) for one in found)


def table(runs: dict[str, list[Measured]]) -> str:
    """Return the figures as Markdown."""
    base = median(runs["none"], "percent")
    count = len(runs["none"])
    lines = [
        f"{STREAMS} streams of {MBIT:g} Mbit/s in; medians of {count} runs of {WINDOW_S:g} s; per cent of a core.",
        "",
        "| recorded as | relay in all | recording | of which the disk's threads | written | memory |",
        "|---|---|---|---|---|---|",
    ]
    for form, found in runs.items():
        percent, threads = median(found, "percent"), median(found, "threads")
        rate, memory = median(found, "written_mbyte_s"), median(found, "rss_mib")
        lines.append(
            f"| {'nothing' if form == 'none' else form} | {percent:.1f} % | {percent - base:.1f} % | {threads:.1f} % "
            f"| {rate:.1f} MB/s | {memory:.0f} MiB |"
        )
    lines += ["", f"Gate: recording 20 streams of 6 Mbit/s costs under {GATE_PERCENT:g} % of a core.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
