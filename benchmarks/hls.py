"""Measures what HLS costs and writes HLS.md: `python benchmarks/hls.py [--repetitions N]`.

Packaging: 20 streams of 2.5 Mbit/s arrive from the load program; nginx-rtmp and the relay package them, each pinned to
one core, in turns. Serving: viewers on the other core fetch segments of one stream as fast as they can, over
connections that stay open. What counts is the CPU time of the server's whole process.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from run import LOAD, compile_load
from servers import Contender, Cores, Running, Setup, free_port, raise_file_limit, serve

HERE = Path(__file__).resolve().parent
STREAMS = 20
MBIT = 2.5
SERVED_MBIT = 6.0
WARM_UP_S = 6.0
WINDOW_S = 12.0
SERVE_S = 4.0
VIEWERS = 8
PACKAGING_GATE = 1.5
SERVING_GATE_MS = 1.3

RELAY = {
    "relay, no HLS": "",
    "relay, fMP4 with parts of 200 ms": "[plugins.hls]\n",
    "relay, fMP4 without parts": "[plugins.hls]\npart_ms = 0\n",
    "relay, TS without parts": '[plugins.hls]\ncontainer = "ts"\npart_ms = 0\n',
    "relay, fMP4 with parts, on disk too": '[plugins.hls]\nmin_free_mb = 0\ndirectory = "{directory}/hls"\n',
}
NGINX = "nginx-rtmp, TS (hls on)"


def cpu_seconds(pid: int) -> float:
    """CPU time of a process to the nanosecond; the ticks of /proc/PID/stat miss what is shorter than one."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def loaded(running: Running, cores: Cores, streams: int, mbit: float, work: Callable[[], float], lasts: float) -> float:
    """Publish to a server; return what *work* finds meanwhile."""
    load = [str(LOAD), "--port", str(running.port), "--publishers", str(streams), "--mbit", str(mbit)]
    load += ["--players", "0", "--publish-name", running.publish_name, "--play-name", running.play_name]
    load += [
        "--warmup-ms",
        str(int(WARM_UP_S * 1000)),
        "--window-ms",
        str(int(lasts * 1000)),
        "--pid",
        str(running.pid),
    ]
    with subprocess.Popen(["taskset", "-c", str(cores.load), *load], stdout=subprocess.DEVNULL) as loading:
        time.sleep(WARM_UP_S)
        found = work()
        if loading.wait(60) != 0:
            raise SystemExit("the load program failed")
    return found


def package(label: str, cores: Cores) -> tuple[float, float]:
    """Return per cent of a core, and resident MiB."""
    with tempfile.TemporaryDirectory(prefix="relay-hls-") as directory:
        nginx = f"      hls on; hls_path {directory}; hls_fragment 4s; hls_playlist_length 60s; hls_cleanup off;"
        extra = RELAY.get(label, "").format(directory=directory)
        contender = Contender("nginx" if label == NGINX else "relay")
        rss = [0.0]
        with serve(contender, Setup(streams=STREAMS, extra=extra, nginx=nginx), cores) as running:

            def window() -> float:
                began, before = time.monotonic(), cpu_seconds(running.pid)
                time.sleep(WINDOW_S)
                rss[0] = running.rss_kib() / 1024
                return (cpu_seconds(running.pid) - before) / (time.monotonic() - began) * 100

            percent = loaded(running, cores, STREAMS, MBIT, window, WINDOW_S + 1)
            if label == NGINX and len(list(Path(directory).glob("*.ts"))) < STREAMS:
                raise SystemExit("nginx packaged nothing")
        return percent, rss[0]


def serving(extra: str, cores: Cores) -> float:
    """Return ms of CPU per MB that viewers got."""
    port = free_port()
    with serve(Contender("relay"), Setup(extra=extra, http_port=port), cores) as running:

        def window() -> float:
            base = f"/hls/{running.play_name}/"
            text = ""
            while "#EXTINF" not in text:
                time.sleep(0.3)
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}{base}main.m3u8") as answer:
                        text = answer.read().decode()
                except OSError:
                    continue
            path = base + next(line for line in text.splitlines() if line and line[0] != "#")
            idle_from, idle_before = time.monotonic(), cpu_seconds(running.pid)
            time.sleep(2)
            idle = (cpu_seconds(running.pid) - idle_before) / (time.monotonic() - idle_from)
            got = [0] * VIEWERS
            until = time.monotonic() + SERVE_S
            began, before = time.monotonic(), cpu_seconds(running.pid)
            viewers = [threading.Thread(target=view, args=(port, path, until, got, n)) for n in range(VIEWERS)]
            for viewer in viewers:
                viewer.start()
            for viewer in viewers:
                viewer.join()
            spent = cpu_seconds(running.pid) - before - idle * (time.monotonic() - began)
            return spent * 1000 / (sum(got) / 1e6)

        return loaded(running, cores, 1, SERVED_MBIT, window, SERVE_S + 12)


def view(port: int, path: str, until: float, got: list[int], number: int) -> None:
    """Fetch a segment again and again."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    buffer = bytearray(1 << 20)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        while time.monotonic() < until:
            connection.sendall(request)
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(4096)
            start, _, rest = head.partition(b"\r\n\r\n")
            size = int(start.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]) - len(rest)
            while size > 0:
                size -= connection.recv_into(buffer, min(size, len(buffer)))
            got[number] += int(start.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])


def main() -> int:
    """Measure everything; print the tables and write them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    compile_load()
    raise_file_limit()
    cores = Cores(server=0, load=max(os.sched_getaffinity(0)))
    os.sched_setaffinity(0, {cores.load})
    runs: dict[str, list[tuple[float, float]]] = {label: [] for label in (NGINX, *RELAY)}
    served: dict[str, list[float]] = {"with parts": [], "without parts": []}
    for _ in range(options.repetitions):
        for label in runs:  # in turns, so that all meet the same machine
            runs[label].append(package(label, cores))
            print(label, runs[label][-1], flush=True)
        for label in served:
            served[label].append(serving("[plugins.hls]\n" + ("part_ms = 0\n" if "out" in label else ""), cores))
            print("serving", label, served[label][-1], flush=True)
    text = table(runs, served, options.repetitions)
    print(text)
    path = HERE / "HLS.md"
    head, _, rest = path.read_text().partition("<!-- cost -->")
    path.write_text(f"{head}<!-- cost -->\n{text}<!-- end -->{rest.partition('<!-- end -->')[2]}")
    return 0


def table(runs: dict[str, list[tuple[float, float]]], served: dict[str, list[float]], repetitions: int) -> str:
    """Return the figures as Markdown."""
    nginx = statistics.median(percent for percent, _ in runs[NGINX])
    lines = [
        f"`python benchmarks/hls.py --repetitions {repetitions}`, {os.cpu_count()} cores, "
        f"Python {sys.version.split()[0]}.",
        "",
        f"{STREAMS} streams of {MBIT:g} Mbit/s are packaged; medians of {repetitions} runs of {WINDOW_S:g} s; the",
        "whole process, ingest and threads included, in per cent of a core.",
        "",
        "| server | CPU | × nginx-rtmp | memory |",
        "|---|---|---|---|",
    ]
    for label, found in runs.items():
        percent, rss = (statistics.median(column) for column in zip(*found, strict=True))
        lines.append(f"| {label} | {percent:.1f} % | {percent / nginx:.2f} | {rss:.0f} MiB |")
    lines += [
        "",
        f"Gate: at most {PACKAGING_GATE:g} × nginx-rtmp.",
        "",
        f"A segment of {SERVED_MBIT:g} Mbit/s is fetched from memory by {VIEWERS} viewers at once, over",
        "connections that stay open.",
        "",
        "| segments | CPU per MB served |",
        "|---|---|",
        *(f"| {label} | {statistics.median(found):.2f} ms |" for label, found in served.items()),
        "",
        f"Gate: at most {SERVING_GATE_MS:g} ms.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
