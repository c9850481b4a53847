"""What enemies cost the live stream (promise P17): `python benchmarks/siege.py [--rounds N] [--seconds S]`.

One stream with 20 players, measured by the load program: in each round first in peace, then with a thousand half-open
handshakes and six threads of the attacks of `tests/fuzz/siege.py` around the clock. The relay has one core to itself;
players and enemies share the other, where the players go first.

Exit status: 0 = nothing lost, 99 of 100 messages at most 100 ms later, at most 200 MiB more memory; 1 = not.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT)]
import run as bench  # noqa: E402 - found by the line above
from servers import Cores, Running, Setup, free_port, raise_file_limit  # noqa: E402

from tests.fuzz.siege import HEALTHY, HEALTHY_KEY  # noqa: E402
from tests.integration.harness import Relay, make_certificates, relay, stream_table  # noqa: E402
from tests.spec import wire  # noqa: E402

PLAYERS = 20
ON_AIR_S, WARM_UP_S = 3.0, 6
"""The enemies come when all players are there: a crowd keeps newcomers out, which is not what is measured here."""

HALF_OPEN = 1000
ADDED_MS = 100.0
GROWTH_MIB = 200.0


def keep_open(port: int, new_per_s: float) -> None:
    """Keep a thousand connections that never finish their handshake, from addresses of their own; never returns."""
    poll, ends, count = select.poll(), dict[int, socket.socket](), 0
    while True:
        while len(ends) < HALF_OPEN:
            count += 1
            end = socket.socket()
            end.bind((f"127.{count // 62500 % 60 + 2}.{count // 250 % 250 + 1}.{count % 250 + 1}", 0))
            with contextlib.suppress(OSError):
                end.connect(("127.0.0.1", port))
                end.sendall(b"\3" + wire.c1()[: count % 1500])
            ends[end.fileno()] = end
            poll.register(end, select.POLLIN)
        for number, _ in poll.poll(1000):
            poll.unregister(number)
            ends.pop(number).close()
            time.sleep(1 / new_per_s)


@contextlib.contextmanager
def enemies(running: Relay, evil: int, seconds: int, new_per_s: float) -> Iterator[None]:
    """Begin to attack once the stream is on air."""
    ports = (running.port, running.tls_port, running.http_port, evil, seconds + WARM_UP_S, time.time_ns() % 10**6)
    attack = ["nice", "-n19", sys.executable, "-m", "tests.fuzz.siege", "127.0.0.1", *map(str, ports)]
    crowd = ["nice", "-n19", sys.executable, __file__, "--half-open", str(running.port)]
    crowd += ["--new-per-s", str(new_per_s)]
    started: list[subprocess.Popen[bytes]] = []

    def begin() -> None:
        started.extend(subprocess.Popen(one, cwd=ROOT, stdout=subprocess.DEVNULL) for one in (attack, crowd))

    timer = threading.Timer(ON_AIR_S, begin)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        for process in started:
            process.kill()
            process.wait()


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=15, help="each measurement")
    parser.add_argument("--new-per-s", type=float, default=200.0, help="half-open connections that come anew")
    parser.add_argument("--half-open", type=int, metavar="PORT", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.new_per_s <= 0:
        parser.error("--new-per-s must be more than 0")
    raise_file_limit()
    if asked.half_open:
        keep_open(asked.half_open, asked.new_per_s)
    bench.compile_load()
    cores = sorted(os.sched_getaffinity(0))
    where = Cores(server=cores[0], load=cores[-1])
    plan = bench.Plan(window_ms=asked.seconds * 1000, warmup_ms=WARM_UP_S * 1000)
    table = bench.Bench(plan, where, ("relay",))
    os.sched_setaffinity(0, {where.load})
    kept = True
    with tempfile.TemporaryDirectory() as name:
        directory, evil = Path(name), free_port()
        streams = stream_table(HEALTHY, HEALTHY_KEY)
        streams += stream_table(wire.STREAM, wire.KEY, targets={"evil": f"rtmp://127.0.0.1:{evil}/live"})
        with relay(directory, streams, certificates=make_certificates(directory)) as running:
            pid = running.program.process.pid
            os.sched_setaffinity(pid, {where.server})
            server = Running(pid=pid, port=running.port, publish_name=HEALTHY_KEY, play_name=HEALTHY)
            idle = server.rss_kib() / 1024
            for _ in range(asked.rounds):
                kept &= _round(table, running, server, evil, asked.seconds, asked.new_per_s)
            rise = running.memory_peak() / 1024 / 1024 - idle
    print(f"memory: {rise:.0f} MiB more at most (allowed {GROWTH_MIB:.0f})")
    return 0 if kept and rise <= GROWTH_MIB else 1


def _round(table: bench.Bench, running: Relay, server: Running, evil: int, seconds: int, new_per_s: float) -> bool:
    setup = Setup()
    calm = table.measure(bench.RELAY, setup, server, players=PLAYERS)
    with enemies(running, evil, seconds, new_per_s):
        siege = table.measure(bench.RELAY, setup, server, players=PLAYERS)
    added = siege["p99_ms"] - calm["p99_ms"]
    for word, found in (("peace", calm), ("siege", siege)):
        figures = f"p50 {found['p50_ms']:6.1f} ms, p99 {found['p99_ms']:6.1f} ms, worst {found['max_ms']:6.1f} ms"
        print(f"{word}: {figures}, {found['cpu_percent']:5.1f} % of a core, faults {found['faults'] or 'none'}")
    print(f"added: p99 {added:.1f} ms (allowed {ADDED_MS:.0f})", flush=True)
    return added <= ADDED_MS and not calm["faults"] and not siege["faults"]


if __name__ == "__main__":
    sys.exit(main())
