"""Measures rtmp-relay against nginx-rtmp on this machine: `python benchmarks/run.py [SCENARIO ...] [--quick]`.

The server is pinned to one core, the load program (`load/rtmpload.c`, compiled here) to another. Within each
repetition the servers take turns, each run has a fresh server, and the median of the repetitions counts. Ratios
mean more than absolute figures, because both sides meet the same machine in the same minute. No third-party packages.

Exit status: 0 = everything delivered and every gate met, 1 = messages lost or spoilt, or something did not start,
2 = a gate missed (not with --quick, whose windows are too short to judge by).
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
import report
from servers import (
    BenchError,
    Contender,
    Cores,
    Running,
    Setup,
    free_port,
    nginx_available,
    raise_file_limit,
    relay_available,
    serve,
)

HERE = Path(__file__).resolve().parent
LOAD = HERE / "bin" / "rtmpload"
NGINX = Contender("nginx")
RELAY = Contender("relay")

DISTURBED_PERCENT = 8.0
"""Waiting for a core above this share of the window means that somebody else uses the machine. A server that gets to
run late finds more to do at once, and looks cheaper than it is."""

PACES = {
    "OBS": {"mux": "video", "writes": "chunk"},
    "FFmpeg": {"mux": "video", "writes": "header"},
    "FFmpeg -tune zerolatency": {"mux": "audio", "writes": "header"},
}
"""How encoders send, by `strace` and times of arrival (FFmpeg) and by its source (OBS): in order of time, so that both
tracks leave together, 30 or 43 times a second, each message in more than one write. Everything else here is measured
with each track on a clock of its own and a write for each message, which gives a server the most to wake up for."""

MERGED = {RELAY: 0.8, Contender("relay", merge_ms=50): 0.45, Contender("relay", merge_ms=350): 0.33}
"""Most that a delivered byte may cost, by how long the relay may wait for more."""

INGEST_LIMITS = {4096: 2.2, 128: 3.0}
"""Most that a message of a publisher may cost, by its chunk size. Times nginx-rtmp, both."""

Run = dict[str, Any]
"""What the load program printed, with derived figures added by `measure`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much to do: the whole thing, or a smoke run that only proves that it works."""

    repetitions: int = 5
    warmup_ms: int = 2200
    window_ms: int = 5000
    fanout: tuple[int, ...] = (500, 1000)
    publishers: int = 100
    destinations: int = 50
    joiners: int = 100
    players_memory: int = 1000
    stalled: int = 500
    stalled_ms: int = 15000
    capacity_start: int = 1500
    capacity_most: int = 9500


QUICK = Plan(
    repetitions=1,
    warmup_ms=2000,
    window_ms=2000,
    fanout=(200,),
    publishers=20,
    destinations=10,
    joiners=30,
    players_memory=200,
    stalled=100,
    stalled_ms=4000,
)


@dataclass(slots=True)
class Bench:
    """One invocation: where to run, what to compare, what went wrong so far."""

    plan: Plan
    cores: Cores
    servers: tuple[str, ...]
    faults: list[str] = field(default_factory=list)
    disturbed: bool = False

    def contenders(self, *wanted: Contender) -> list[Contender]:
        """Those of the wanted whose server takes part."""
        return [one for one in wanted if one.server in self.servers]

    def measure(self, contender: Contender, setup: Setup, running: Running, **options: int | str) -> Run:
        """Run the load program against a started server; faults are noted, not raised."""
        plan = self.plan
        asked: dict[str, int | str] = {"publishers": setup.streams, "warmup-ms": plan.warmup_ms}
        asked |= {"window-ms": plan.window_ms, "sink-port": setup.sink_port, "sinks": setup.destinations}
        asked |= {"publish-name": running.publish_name, "play-name": running.play_name}
        asked |= {"port": running.port, "pid": running.pid}
        asked |= {key.replace("_", "-"): value for key, value in options.items()}
        run = run_load(self.cores, asked)
        receivers = int(asked.get("players", 0)) - int(asked.get("stall", 0)) + setup.destinations
        run["faults"] = list(find_faults(run, setup.streams, receivers))
        run["cpu_percent"] = 100 * run["server_cpu_s"] / run["window_s"]
        run["load_percent"] = 100 * run["load_cpu_s"] / run["window_s"]
        run["wait_percent"] = 100 * (run["server_wait_s"] + run["load_wait_s"]) / run["window_s"]
        self.disturbed |= run["wait_percent"] > DISTURBED_PERCENT
        run["s_per_gb"] = run["server_cpu_s"] / run["bytes"] * 1e9 if run["bytes"] else 0.0
        run["us_per_message"] = run["server_cpu_s"] / run["messages"] * 1e6 if run["messages"] else 0.0
        run["us_per_message_in"] = run["server_cpu_s"] / run["sent_messages"] * 1e6 if run["sent_messages"] else 0.0
        return run

    def take_turns(
        self, title: str, setup: Setup, contenders: list[Contender], **options: int | str
    ) -> dict[Contender, Run]:
        """Measure every contender in each repetition; return the medians. A contender that fails is left out."""
        runs: dict[Contender, list[Run]] = {one: [] for one in contenders}
        failed: set[Contender] = set()
        for repetition in range(self.plan.repetitions):
            for one in [one for one in contenders if one not in failed]:
                progress(f"{title}: {one.label} ({repetition + 1}/{self.plan.repetitions})")
                try:
                    with serve(one, setup, self.cores) as running:
                        idle = idle_rss_kib(running)
                        run = self.measure(one, setup, running, **options)
                    run["idle_mib"] = idle / 1024
                    run["rise_mib"] = (run["rss_max_kib"] - idle) / 1024
                    runs[one].append(run)
                except BenchError as error:
                    self.faults.append(f"{title}: {one.label}: {error}")
                    failed.add(one)
                    continue
                self.faults += [f"{title}: {one.label}: {fault}" for fault in run["faults"]]
        return {one: median_of(found) for one, found in runs.items() if found}


def run_load(cores: Cores, asked: dict[str, int | str]) -> Run:
    """Call the load program and read its one line of JSON."""
    command = ["taskset", "-c", str(cores.load), str(LOAD)]
    command += [f"--{key}={value}" for key, value in asked.items() if value not in (0, "")]
    if asked["publishers"] == 0:
        command.append("--publishers=0")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    except subprocess.TimeoutExpired as error:
        raise BenchError("the load program did not end") from error
    if done.returncode != 0:
        raise BenchError(f"the load program ended with {done.returncode}: {done.stderr[-1000:]}")
    run: Run = json.loads(done.stdout)
    run["stderr"] = done.stderr
    return run


def find_faults(run: Run, publishers: int, receivers: int) -> Iterator[str]:
    """Say what a viewer would have noticed, and what makes a run worthless."""
    for when in ("early", "errors"):
        for what, number in run[when].items():
            if number:
                yield f"{number} {what} ({'before' if when == 'early' else 'in'} the window)"
    if run["publishing"] < publishers or run["live"] < receivers:
        yield f"live: {run['publishing']} of {publishers} publishers, {run['live']} of {receivers} receivers"
    if run["refused"] or run["closed"]:
        yield f"{run['refused']} connections refused, {run['closed']} closed: {run['stderr'].strip()[-300:]}"
    if run["complete_messages"] < run["expected_messages"]:
        yield f"{run['complete_messages']} of the {run['expected_messages']} messages of the window delivered"
    if run["load_cpu_s"] > 0.93 * run["window_s"]:
        yield "the load program had no time left: its core is the limit, not the server"
    if receivers and run["messages"] == 0:
        yield "nothing was delivered"


def idle_rss_kib(running: Running) -> int:
    """The memory of a server that has only started."""
    time.sleep(0.7)
    return running.rss_kib()


def median_of(runs: list[Run]) -> Run:
    """The median of each figure, and how far the CPU figures lie apart."""
    keys = [key for key, value in runs[0].items() if isinstance(value, (int, float))]
    middle: Run = {key: statistics.median(run[key] for run in runs) for key in keys}
    cpu = [run["cpu_percent"] for run in runs]
    middle["spread"] = (max(cpu) - min(cpu)) / 2 / middle["cpu_percent"] * 100 if middle["cpu_percent"] else 0.0
    middle["n"] = len(runs)
    middle["bad"] = sum(sum(run["errors"].values()) + sum(run["early"].values()) for run in runs)
    return middle


def progress(text: str) -> None:
    """Tell whoever waits."""
    print(f"  {text}", file=sys.stderr, flush=True)


# -- scenarios: each yields sections ------------------------------------------------------------------------------


def fanout(bench: Bench) -> Iterator[report.Section]:
    """One stream of 2.5 Mbit/s to many players."""
    for players in bench.plan.fanout:
        yield _fan_out(bench, f"fan-out to {players} players, 2.5 Mbit/s", players, MERGED, {})


def _fan_out(
    bench: Bench, title: str, players: int, limits: dict[Contender, float], pace: dict[str, str]
) -> report.Section:
    found = bench.take_turns(title, Setup(), bench.contenders(NGINX, *limits), players=players, **pace)
    section = report.Section(title, "one publisher, all players on its stream", report.FANOUT)
    section.add_runs(found, "s_per_gb")
    for one, limit in limits.items():
        section.gate_ratio(found, one, NGINX, "s_per_gb", "CPU per delivered GB", limit)
    section.gate_ratio(found, RELAY, NGINX, "p99_ms", "p99 latency", 1.0)
    return section


def ingest(bench: Bench) -> Iterator[report.Section]:
    """Many publishers, nobody watches."""
    for chunk in INGEST_LIMITS:
        title = f"ingest of {bench.plan.publishers} streams, 2.5 Mbit/s, {chunk}-byte chunks"
        yield _ingest(bench, title, chunk, {})


def _ingest(bench: Bench, title: str, chunk: int, pace: dict[str, str]) -> report.Section:
    setup = Setup(streams=bench.plan.publishers)
    found = bench.take_turns(title, setup, bench.contenders(NGINX, RELAY), chunk=chunk, **pace)
    section = report.Section(title, "no players, no destinations", report.INGEST)
    section.add_runs(found, "us_per_message_in")
    section.gate_ratio(found, RELAY, NGINX, "us_per_message_in", "CPU per message in", INGEST_LIMITS[chunk])
    return section


def encoders(bench: Bench) -> Iterator[report.Section]:
    """Fan-out and ingest again, with messages that come as encoders send them."""
    few = bench.plan.fanout[0]
    for name, pace in PACES.items():
        usual = name == "OBS"
        for players in bench.plan.fanout if usual else (few,):
            title = f"fan-out to {players} players, sent as {name} does"
            yield _fan_out(bench, title, players, MERGED if usual else {RELAY: MERGED[RELAY]}, pace)
    for name in ("OBS", "FFmpeg"):
        title = f"ingest of {bench.plan.publishers} streams, sent as {name} does"
        yield _ingest(bench, title, 4096, PACES[name])  # smaller chunks are sent by older encoders only


def push(bench: Bench) -> Iterator[report.Section]:
    """One publisher to many RTMP destinations."""
    number = bench.plan.destinations
    title = f"push to {number} destinations, 2.5 Mbit/s"
    setup = Setup(destinations=number, sink_port=free_port())
    found = bench.take_turns(title, setup, bench.contenders(NGINX, RELAY))
    how = "nginx: as many `push` lines; relay: as many restream targets"
    section = report.Section(title, how, report.FANOUT)
    section.add_runs(found, "s_per_gb")
    section.gate_ratio(found, RELAY, NGINX, "s_per_gb", "CPU per delivered GB", 1.0)
    yield section


def join(bench: Bench) -> Iterator[report.Section]:
    """How long a new player waits for its first key frame."""
    number = bench.plan.joiners
    title = f"join: {number} players at 37/s over several GOPs of 2 s"
    options = {"players": number, "rate": 37, "player_delay_ms": 2500, "window_ms": 1000}
    found = bench.take_turns(title, Setup(), bench.contenders(NGINX, RELAY), **options)
    section = report.Section(
        title, "ms from `play` to the whole first key frame; nginx-rtmp has no GOP cache", report.JOIN
    )
    section.add_runs(found, None)
    section.gate_limit(found, RELAY, "first_key_max_ms", "first key frame, slowest player", 100, "ms")
    yield section


def memory(bench: Bench) -> Iterator[report.Section]:
    """Resident memory, idle, with players, and with players that stopped reading."""
    plan = bench.plan
    contenders = bench.contenders(NGINX, RELAY)
    title = f"memory with {plan.players_memory} players"
    found = bench.take_turns(title, Setup(), contenders, players=plan.players_memory)
    section = report.Section(title, "rise = highest RSS in the window above idle", report.MEMORY)
    section.add_runs(found, None)
    section.gate_limit(found, RELAY, "idle_mib", "idle RSS", 80, "MiB")
    section.gate_limit(found, RELAY, "rise_mib", f"rise with {plan.players_memory} players", 40, "MiB")
    yield section

    title = f"memory with {plan.stalled} stalled players"
    options = {"players": plan.stalled + 10, "stall": plan.stalled, "window_ms": plan.stalled_ms}
    found = bench.take_turns(title, Setup(), contenders, **options)
    how = (
        f"they stop reading after the first key frame; 10 more read on and are checked; {plan.stalled_ms / 1000:.0f} s"
    )
    section = report.Section(title, how, report.MEMORY)
    section.add_runs(found, None)
    section.gate_limit(found, RELAY, "rise_mib", f"rise with {plan.stalled} stalled players", 64, "MiB")
    yield section


def capacity(bench: Bench) -> Iterator[report.Section]:
    """The most players that one core serves with nothing lost and p99 <= 500 ms."""
    title = "capacity of one core, 2.5 Mbit/s"
    found: dict[Contender, Run] = {}
    for one in bench.contenders(NGINX, RELAY, Contender("relay", merge_ms=50)):
        try:
            best = search_capacity(bench, title, one)
        except BenchError as error:
            bench.faults.append(f"{title}: {one.label}: {error}")
            continue
        if best:
            found[one] = best
    how = "one search each: all players live, none closed, 0 lost, p99 <= 500 ms; the load program polls every 2 ms"
    section = report.Section(title, how, report.CAPACITY)
    section.add_runs(found, "players")
    section.gate_at_least(found, RELAY, NGINX, "players", "players sustained", 1.2)
    yield section


def search_capacity(bench: Bench, title: str, one: Contender) -> Run | None:
    """Grow until a trial fails, then halve the gap until it is below 6 %. A fresh server for each trial."""
    best: Run | None = None
    most = bench.plan.capacity_most
    good, bad, players = 0, most, bench.plan.capacity_start
    for _ in range(9):
        progress(f"{title}: {one.label}: {players} players")
        with serve(one, Setup(), bench.cores) as running:
            run = bench.measure(one, Setup(), running, players=players, poll_us=2000, pace=100, setup_ms=60000)
        run |= {"players": players, "spread": 0.0, "n": 1, "bad": 0}
        delivered = run["complete_messages"] >= run["expected_messages"]
        in_window = not any(run["errors"].values()) and not run["refused"] and not run["closed"]
        if run["live"] == players and in_window and delivered and run["p99_ms"] <= 500:
            best, good = run, players
        else:
            bad = players
            why = run["faults"][0] if run["faults"] else f"p99 {run['p99_ms']:.0f} ms"
            progress(f"    failed: {why} (load program at {run['load_percent']:.0f} %)")
        if bad <= good * 1.06 or players >= most:
            break
        players = min(int(good * 1.5), most) if bad == most and good else (good + bad) // 2
    return best


SCENARIOS: dict[str, Callable[[Bench], Iterator[report.Section]]] = {
    "fanout": fanout,
    "encoders": encoders,
    "capacity": capacity,
    "ingest": ingest,
    "push": push,
    "join": join,
    "memory": memory,
}


# -- the command --------------------------------------------------------------------------------------------------


def compile_load() -> None:
    """Build the load program when its sources are newer than it."""
    LOAD.parent.mkdir(exist_ok=True)
    sources = sorted((HERE / "load").glob("*.[ch]"))
    if LOAD.exists() and LOAD.stat().st_mtime >= max(one.stat().st_mtime for one in sources):
        return
    programs = [str(one) for one in sources if one.suffix == ".c"]
    subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-o", str(LOAD), *programs], check=True)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Wait until no other benchmark runs from this tree: two at a time measure each other."""
    with (LOAD.parent / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another benchmark to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of {', '.join(SCENARIOS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="a smoke run of about two minutes, without capacity")
    parser.add_argument("--repetitions", type=int, help="runs of each server, of which the median counts (default 5)")
    parser.add_argument("--servers", default="nginx,relay", help="which to compare (default nginx,relay)")
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--load-core", type=int, default=1)
    parser.add_argument("--no-write", action="store_true", help="leave RESULTS.md and results.json alone")
    options = parser.parse_args(arguments)
    for name in options.scenarios:
        if name not in SCENARIOS:
            parser.error(f"no scenario {name!r}; there are {', '.join(SCENARIOS)}")
    return options


def choose_servers(wanted: str) -> tuple[str, ...]:
    """Those of the wanted that this machine can start; says which it cannot."""
    available = {"nginx": nginx_available(), "relay": relay_available()}
    chosen = tuple(name for name in wanted.split(",") if available.get(name))
    for name in wanted.split(","):
        if name not in chosen:
            hint = " (install nginx and libnginx-mod-rtmp)" if name == "nginx" else ""
            progress(f"{name} cannot be started here and is left out{hint}")
    return chosen


def main(arguments: list[str]) -> int:
    """Run the scenarios that were asked for; print tables; write the results of a full run."""
    options = parse_arguments(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers are stopped by their finally clauses
    compile_load()
    raise_file_limit()
    plan = QUICK if options.quick else Plan()
    if options.repetitions:
        plan = Plan(**{**{name: getattr(plan, name) for name in plan.__slots__}, "repetitions": options.repetitions})
    cores = os.sched_getaffinity(0)
    load_core = options.load_core if options.load_core in cores else options.server_core
    bench = Bench(plan, Cores(server=options.server_core, load=load_core), choose_servers(options.servers))
    if not bench.servers:
        return 1
    os.sched_setaffinity(0, {load_core})
    names = options.scenarios or [name for name in SCENARIOS if not (options.quick and name == "capacity")]
    sections: dict[str, list[report.Section]] = {}
    with alone():
        for name in names:
            sections[name] = []
            for section in SCENARIOS[name](bench):
                sections[name].append(section)
                print(section.as_text(), flush=True)
    if not options.quick and not options.no_write:
        report.write(HERE, sections, " ".join(["python benchmarks/run.py", *arguments]))
    if bench.disturbed:
        print("NOTE something else used the cores: see the column `wait %` and measure again", file=sys.stderr)
    for fault in bench.faults:
        print(f"FAULT {fault}", file=sys.stderr)
    missed = any(gate.passed is False for found in sections.values() for one in found for gate in one.gates)
    return 1 if bench.faults else 2 if missed and not options.quick else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
