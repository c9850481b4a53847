"""What destinations cost the relay over RTMPS: CPU as a share of a core, memory each. `python benchmarks/rtmps.py`.

One encoder, ten destinations at 6 Mbit/s, certificates checked. The relay is pinned to one core and everything else to
another, where there are two. Figures go to standard output as a table, with the share of time that the relay had to
wait for its core: above a few percent somebody else used the machine.

Exit status: 0 = within the promised figures and nothing lost, 1 = not.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
import destinations as d

from relay.media.packets import MediaKind
from relay.media.snow import Snow
from relay.testing import Authority, FakePlatform

CPU_PERCENT = 25.0
MEMORY_MIB = 1.0
SETTLE_S = 6.0


def cpu_s(pid: int) -> float:
    """User and system time so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def waited_s(pid: int) -> float:
    """Time spent ready to run but not running."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


def rss_mib(pid: int) -> float:
    """Resident memory."""
    line = next(one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def child_of(pid: int) -> int:
    """The relay, which is our only child."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


async def measure(count: int, *, tls: bool, mbps: float, seconds: float) -> dict[str, float]:
    """Run one relay with *count* destinations; return its figures."""
    with tempfile.TemporaryDirectory() as directory:
        authority = Authority(Path(directory) / "ca") if tls else None
        case = d.Case(0, "cost")
        case.places = [FakePlatform(d.clock, tls=tls, authority=authority) for _ in range(count)]
        for place in case.places:
            place.start()
        table = case.table()
        if authority is not None:
            table = table.replace("\nkey = ", f'\nca_file = "{authority.ca_file}"\nkey = ')
        with d.relay(Path(directory), table) as port:
            pid = child_of(os.getpid())
            cores = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(pid, {cores[0]})
            os.sched_setaffinity(0, {cores[-1]})
            d.SETTLE_S = SETTLE_S
            encoder = await begin(case, port, mbps)
            cpu, waited, began = cpu_s(pid), waited_s(pid), d.clock.seconds()
            await d.sleep(seconds)
            took = d.clock.seconds() - began
            figures = {
                "cpu_percent": 100 * (cpu_s(pid) - cpu) / took,
                "wait_percent": 100 * (waited_s(pid) - waited) / took,
                "rss_mib": rss_mib(pid),
            }
            encoder.stop()
            await d.sleep(1.0)
            if case.places:
                span = encoder.pictures[-1][1] - encoder.began
                figures["mbps"] = min(one.sessions[0].bytes_in for one in case.places) * 8 / 1e6 / span
            whole = [place.sessions[0] for place in case.places]
            figures["lost"] = float(sum(len(one.of(MediaKind.VIDEO)) < len(encoder.pictures) for one in whole))
            for place in case.places:
                await place.stop().asFuture(d.LOOP)
            os.sched_setaffinity(0, set(cores))
    return figures


async def begin(case: d.Case, port: int, mbps: float) -> d.Encoder:
    """Publish at the rate that is asked for."""
    encoder: Any = d.Encoder(case.key)
    encoder.snow = Snow(round(mbps * 1000), os.urandom(262144))
    await d.connectProtocol(d.TCP4ClientEndpoint(d.clock, "127.0.0.1", port), encoder).asFuture(d.LOOP)
    await encoder.live.asFuture(d.LOOP)
    await d.until(lambda: all(d.live_sessions(one) for one in case.places), 20)
    await d.sleep(d.SETTLE_S)
    return encoder


def main() -> int:
    """Measure and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--destinations", type=int, default=10)
    parser.add_argument("--mbps", type=float, default=6.0)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--write", action="store_true", help="write benchmarks/RTMPS.md")
    options = parser.parse_args()
    d.clock.startRunning()
    rows = {}
    for name, count, tls in (
        ("none", 0, False),
        (f"{options.destinations} RTMP", options.destinations, False),
        (f"{options.destinations} RTMPS", options.destinations, True),
    ):
        rows[name] = d.LOOP.run_until_complete(measure(count, tls=tls, mbps=options.mbps, seconds=options.seconds))
    alone = rows["none"]["rss_mib"]
    titles = ["arrived, Mbit/s each", "CPU, % of a core", "waited, %", "RSS, MiB", "MiB each", "incomplete"]
    lines = [f"| destinations at {options.mbps:g} Mbit/s | {' | '.join(titles)} |", "|---" * 7 + "|"]
    faults = []
    for name, one in rows.items():
        each = (one["rss_mib"] - alone) / options.destinations if name != "none" else 0.0
        values = [one.get("mbps", 0.0), one["cpu_percent"], one["wait_percent"], one["rss_mib"], each]
        lines.append(f"| {name} | {' | '.join(f'{value:.2f}' for value in values)} | {one['lost']:.0f} |")
        if one["lost"] or each > MEMORY_MIB or (name.endswith("RTMPS") and one["cpu_percent"] > CPU_PERCENT):
            faults.append(name)
    print("\n".join(lines))
    if options.write:
        command = " ".join(["python", "benchmarks/rtmps.py", *sys.argv[1:]])
        text = f"# What RTMPS destinations cost\n\nMade by `{command}` on {date.today()}, {os.cpu_count()} cores. "
        text += (
            f"Promised: ten RTMPS destinations under {CPU_PERCENT:g} % of a core, under {MEMORY_MIB:g} MiB each.\n\n"
        )
        text += (
            "Waited: the relay was ready and had no core. Above a few percent others used the machine, and CPU is a\n"
        )
        text += "little low: who runs late finds more to do at once.\n\n"
        (d.ROOT / "benchmarks" / "RTMPS.md").write_text(text + "\n".join(lines) + "\n")
    print("not kept: " + ", ".join(faults) if faults else "kept", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
