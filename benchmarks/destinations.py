"""The promises about destinations, measured where they count: at the destinations. `python benchmarks/destinations.py`.

A relay of its own, started as an operator starts it; encoders that send numbered pictures; fake platforms on real
sockets, each on a loopback address of its own, that break in every way. Many streams run side by side, so two hundred
runs of each promise take minutes. What is judged is what a platform received and when.

    P13  a destination that broke the connection sees us again within 0.5 s; one that was away, within the back-off
    P14  the new session begins with metadata, headers, keyframe, time 0, and no burst of old media: a picture that
         is at most 2 s old, and within a second at most 2 s more than that second
    P15  a destination that stalls, crawls, resets, closes, is silent or gone costs two healthy ones nothing
    P16  a target whose first address died is on its second within 6 s

Exit status: 0 = every promise kept in every run, 1 = not.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import platform as machine
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "plugins")]

from twisted.internet import asyncioreactor  # noqa: E402

LOOP = asyncio.new_event_loop()
asyncioreactor.install(LOOP)

from twisted.internet import reactor  # noqa: E402, TID251 - this is a program
from twisted.internet.defer import Deferred  # noqa: E402
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol  # noqa: E402
from twisted.internet.protocol import Protocol  # noqa: E402

from relay.media.packets import MediaKind, Packet, Role  # noqa: E402
from relay.media.snow import Snow  # noqa: E402
from relay.net.monotonic import use_monotonic_time  # noqa: E402
from relay.rtmp.client import ClientConnection  # noqa: E402
from relay.rtmp.events import PublishAccepted  # noqa: E402
from relay.secret import Secret  # noqa: E402
from relay.testing import FakePlatform  # noqa: E402
from relay.testing_received import Session, digest  # noqa: E402

clock: Any = reactor
use_monotonic_time(clock)

KBPS = 300
SETTLE_S = 6.0
"""Before anything breaks: an accepted session that ends sooner counts as refused."""
AWAY_S = 12.0
FAULTS = ("stall", "slow=60", "reset", "close", "half-open", "silent", "refuse")
P15_WATCH_S = 12.0
"""After the fault: longer than the 10 s after which a stalled destination is dropped."""
GOP_S = 2.0
BURST_S = 1.0 + 2.0 + 0.25
"""Programme time that may come within a second: that second, the 2 s that may leave at once, and a quarter of one for a
machine that hands over late what came in time."""
OLDEST_S = 2.0 + 0.5
"""Age of a first picture: what is further behind than 2 s begins with a later keyframe."""


# -- an encoder ---------------------------------------------------------------------------------------------------


class Encoder(Protocol):
    """Publishes numbered pictures at their pace, and remembers when each was sent."""

    def __init__(self, key: str) -> None:
        url = Secret("rtmp://relay.example/live")
        self.rtmp = ClientConnection(role="publish", app="live", tc_url=url, name=Secret(key), random=os.urandom)
        self.snow = Snow(KBPS, os.urandom(16384))
        self.live: Deferred[None] = Deferred()
        self.pictures: list[tuple[bytes, float]] = []
        self.sounds = 0
        self.began = 0.0
        self.over = False

    def connectionMade(self) -> None:
        self.rtmp.start()
        self._flush()

    def dataReceived(self, data: bytes) -> None:
        for event in self.rtmp.receive_data(data, clock.seconds()):
            if isinstance(event, PublishAccepted):
                self.began = clock.seconds()
                self._write(self.snow.tracks.opening())
                self._go_on()
                self.live.callback(None)
        self._flush()

    def _go_on(self) -> None:
        if not self.over:
            self._write(self.snow.until((clock.seconds() - self.began) * 1000))
            clock.callLater(0.02, self._go_on)

    def _write(self, packets: Any) -> None:
        for packet in packets:
            self.transport.write(self.rtmp.send_media(packet.kind, packet.dts, packet.body))
            self._note(packet)

    def _note(self, packet: Packet) -> None:
        if packet.role is not Role.FRAME:
            return
        if packet.kind is MediaKind.VIDEO:
            self.pictures.append((digest(packet.body), clock.seconds()))
        else:
            self.sounds += 1

    def _flush(self) -> None:
        self.transport.write(self.rtmp.data_to_send())

    def stop(self) -> None:
        """Unpublish and leave."""
        if not self.over:
            self.over = True
            self.rtmp.unpublish()
            self._flush()
            self.transport.loseConnection()

    def connectionLost(self, reason: object = None) -> None:
        self.over = True


# -- the relay ----------------------------------------------------------------------------------------------------


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def relay(directory: Path, tables: str) -> Iterator[int]:
    """Run `twistd -n rtmp-relay`; yield its port. Its log must hold no traceback and no key."""
    port, http = free_port(), free_port()
    config = directory / "relay.toml"
    config.touch(mode=0o600)
    config.write_text(
        f'[[listen]]\nurl = "rtmp://127.0.0.1:{port}"\n[http]\nlisten = "127.0.0.1:{http}"\n'
        f"[limits]\nunauthenticated_per_ip = 200\n[plugins.streamkeys]\n[plugins.restream]\n{tables}"
    )
    twistd = shutil.which("twistd", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}") or "twistd"
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}"}
    with (directory / "log").open("w+b") as log:
        args = [sys.executable, twistd, "-n", "--pidfile=", "rtmp-relay", "--config", str(config)]
        child = subprocess.Popen(args, cwd=directory, env=env, stdout=log, stderr=log)
        try:
            wait_ready(child, http)
            yield port
        finally:
            child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(10)
            child.kill()
            child.wait()
        log.seek(0)
        said = log.read()
    if b"Traceback" in said or b"canary" in said:
        raise SystemExit("the relay's log holds a traceback or a key:\n" + said[-3000:].decode())


def wait_ready(child: subprocess.Popen[bytes], http: int) -> None:
    """Return once the relay listens."""
    for _ in range(200):
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{http}/readyz", timeout=2):
            return
        if child.poll() is not None:
            break
        time.sleep(0.1)
    raise SystemExit("the relay did not start")


# -- one run ------------------------------------------------------------------------------------------------------


@dataclass
class Case:
    """One run: a stream, its targets, and the platforms behind them."""

    number: int
    promise: str
    places: list[FakePlatform] = field(default_factory=list)
    backup: FakePlatform | None = None

    @property
    def key(self) -> str:
        return f"canary-{self.promise}-{self.number:05}"

    def table(self) -> str:
        """The stream's part of the configuration."""
        name = f"{self.promise}-{self.number}"
        text = f'[streams.{name}.streamkeys]\nprimary = "{self.key}"\n[streams.{name}.failover]\nhold_s = 0\n'
        for index, place in enumerate(self.places):
            text += f'[streams.{name}.restream.t{index}]\nurl = "{place.url}"\nkey = "canary-out-{self.number:05}"\n'
            if self.backup is not None and index == 0:
                text += f'backup_url = "{self.backup.url}"\n'
        return text


def new_platform(number: int) -> FakePlatform:
    """A platform on a loopback address of its own: attempts at one host are kept apart."""
    platform = FakePlatform(clock)
    platform.start(f"127.{1 + number // 60000}.{number // 250 % 240}.{1 + number % 250}")
    return platform


async def sleep(seconds: float) -> None:
    """Let the reactor run."""
    await asyncio.sleep(seconds)


async def until(found: Callable[[], Any], seconds: float) -> Any:
    """Return what *found* finds, or None when time is up."""
    end = clock.seconds() + seconds
    while not (result := found()):
        if clock.seconds() > end:
            return None
        await asyncio.sleep(0.01)
    return result


def live_sessions(platform: FakePlatform) -> list[Session]:
    """Sessions whose publish was granted."""
    return [one for one in platform.sessions if one.live_at is not None]


async def begin(case: Case, port: int) -> Encoder | None:
    """Publish, and wait until every platform is on air and has settled."""
    for _ in range(3):  # as encoders do; what is measured begins later
        encoder = Encoder(case.key)
        await connectProtocol(TCP4ClientEndpoint(clock, "127.0.0.1", port), encoder).asFuture(LOOP)
        if await until(lambda: encoder.live.called or encoder.over, 15) and encoder.live.called:  # noqa: B023
            break
        print(f"{case.key}: an encoder was not let in, {encoder.rtmp.phase}", file=sys.stderr)
        encoder.transport.abortConnection()
        await sleep(1.0)
    else:
        return None
    if await until(lambda: all(live_sessions(one) for one in case.places), 10) is None:
        return None
    await sleep(SETTLE_S)
    return encoder


Figures = dict[str, Any]


async def p13(case: Case, encoder: Encoder) -> Figures:
    """Break the connection; measure until we are back, and look at how the new session begins (P14)."""
    [place] = case.places
    how = ("reset", "close", "half-close")[case.number % 3]
    first, before = live_sessions(place)[-1], len(place.sessions)
    place.inject(how)
    place.faults = ()  # for this connection only, not for the next one
    lost = await until(lambda: first.closed_at, 5)
    again = await until(lambda: place.sessions[before] if len(place.sessions) > before else None, 10)
    if lost is None or again is None:
        return {"fault": f"did not come back after {how}"}
    if await until(lambda: again.live_at, 5) is None:
        return {"how": how, "fault": f"the new publish was not granted: {again.commands} {again.close}"}
    await sleep(GOP_S + 3.0)
    if before > 1:
        return {"how": how, "fault": f"{before} sessions before the fault"}
    return {"how": how, "retry_s": again.opened_at - first.closed_at, **beginning(again, encoder)}


def beginning(session: Session, encoder: Encoder) -> Figures:
    """Judge how a session begins."""
    media = session.media
    roles = [one.role for one in media[:3]]
    frames = session.frames
    pictures = session.of(MediaKind.VIDEO)
    if not pictures:
        return {"fault": "no picture came"}
    order = roles[0] is Role.METADATA and roles[1:] == [Role.HEADER, Role.HEADER] and media[3].keyframe
    times = [one.timestamp for one in media]
    rising = times == sorted(times) and times[0] == 0 and frames[0].timestamp == 0
    _, age = next(latencies(session, encoder))
    first_second = [one.timestamp for one in pictures if one.at - pictures[0].at <= 1.0]
    found = {
        "picture_s": pictures[0].at - (session.live_at or 0.0),
        "age_s": age,
        "burst": (first_second[-1] - first_second[0]) / 1000,
    }
    if not order:
        return {**found, "fault": f"began with {[role.name for role in roles]}"}
    if not rising:
        return {**found, "fault": f"times {times[:5]}"}
    return {**found, **whole(session, encoder)}


def align(session: Session, encoder: Encoder) -> int:
    """Return which picture of the encoder's is the first of a session; -1 when none fits. Small pictures are alike."""
    counts = Counter(name for name, _ in encoder.pictures)
    numbers = {name: number for number, (name, _) in enumerate(encoder.pictures)}
    for position, one in enumerate(session.of(MediaKind.VIDEO)):
        if counts[one.digest] == 1:
            return numbers[one.digest] - position
    return -1


def whole(session: Session, encoder: Encoder) -> Figures:
    """Compare what came with what was sent: from the first picture on, nothing is missing, repeated or changed."""
    start = align(session, encoder)
    got = [one.digest for one in session.of(MediaKind.VIDEO)]
    if start < 0 or [name for name, _ in encoder.pictures[start : start + len(got)]] != got:
        return {"fault": "pictures are missing or changed"}
    return {}


def latencies(session: Session, encoder: Encoder) -> Iterator[tuple[float, float]]:
    """Yield when each picture was sent and how long it took."""
    pictures = session.of(MediaKind.VIDEO)
    for (_, sent), one in zip(encoder.pictures[align(session, encoder) :], pictures, strict=False):
        yield sent, one.at - sent


async def away(case: Case, encoder: Encoder) -> Figures:
    """Take the whole platform away for a while; measure how soon it has us after it is back."""
    [place] = case.places
    await place.stop().asFuture(LOOP)
    before = len(place.sessions)
    await sleep(AWAY_S)
    place.start(place.host)
    opened = clock.seconds()
    if await until(lambda: len(live_sessions(place)) > 1, 31) is None:
        return {"fault": "did not come back"}
    return {"return_s": place.sessions[before].opened_at - opened}


async def p15(case: Case, encoder: Encoder) -> Figures:
    """Break the last of three destinations; the other two must not notice."""
    *healthy, victim = case.places
    how = FAULTS[case.number % len(FAULTS)]
    broken_at = clock.seconds()
    if how in ("silent", "refuse"):
        await victim.stop().asFuture(LOOP)
        if how == "silent":
            victim.inject(how)
            victim.start(victim.host)
    else:
        victim.inject(how)
    await sleep(P15_WATCH_S)
    encoder.stop()
    await until(lambda: all(one.sessions[0].closed_at for one in healthy), 5)
    last = encoder.pictures[-1][0]
    before, after = [], []
    for place in healthy:
        session = place.sessions[0]
        problem = whole(session, encoder)
        if problem or len(place.sessions) > 1 or session.of(MediaKind.VIDEO)[-1].digest != last:
            return {"how": how, "fault": problem.get("fault") or "the healthy one lost its end or its session"}
        if len(session.of(MediaKind.AUDIO)) < encoder.sounds - 2:
            return {"how": how, "fault": "sound is missing"}
        for sent, took in latencies(session, encoder):
            (before if sent < broken_at else after).append(took)
    return {"how": how, "before": before, "after": after}


async def p16(case: Case, encoder: Encoder) -> Figures:
    """Let the first address die; measure until the second one has the programme."""
    [place] = case.places
    backup = case.backup
    assert backup is not None
    how = ("refuse", "silent")[case.number % 2]
    first = live_sessions(place)[0]
    await place.stop().asFuture(LOOP)
    if how == "silent":
        place.inject("silent")
        place.start(place.host)
    lost = first.closed_at or clock.seconds()
    if await until(lambda: live_sessions(backup), 15) is None:
        return {"how": how, "fault": "the second address never got it"}
    await sleep(GOP_S + 1.5)
    session = live_sessions(backup)[0]
    return {"how": how, "failover_s": (session.live_at or 0.0) - lost, **beginning(session, encoder)}


@dataclass(frozen=True)
class Promise:
    """A scenario: how many platforms a run needs, what it does, and what it must keep."""

    run: Callable[[Case, Encoder], Awaitable[Figures]]
    places: int = 1
    backup: bool = False
    gates: dict[str, float] = field(default_factory=dict)


BEGINNING = {"picture_s": GOP_S + 0.5, "age_s": OLDEST_S, "burst": BURST_S}
PROMISES = {
    "p13": Promise(p13, gates={"retry_s": 0.75, **BEGINNING}),
    "away": Promise(away, gates={"return_s": 30.5}),
    "p15": Promise(p15, places=3),
    "p16": Promise(p16, backup=True, gates={"failover_s": 6.0, **BEGINNING}),
}
"""`retry_s` has 0.25 s for the tick of the relay and a busy machine on top of the promised 0.5 s."""
ADDED_P99_S = 0.05


# -- all runs -----------------------------------------------------------------------------------------------------


async def run_all(name: str, runs: int, parallel: int) -> list[Figures]:
    """Run one promise; a fresh relay for all of its runs."""
    promise = PROMISES[name]
    numbers = itertools.count(list(PROMISES).index(name) * 2000)
    cases = []
    for number in range(runs):
        case = Case(number, name, [new_platform(next(numbers)) for _ in range(promise.places)])
        case.backup = new_platform(next(numbers)) if promise.backup else None
        cases.append(case)
    results: list[Figures] = []
    with tempfile.TemporaryDirectory() as directory, relay(Path(directory), "".join(map(Case.table, cases))) as port:
        gate = asyncio.Semaphore(parallel)

        async def one(case: Case) -> None:
            async with gate:
                await sleep(case.number % parallel * 0.05)
                encoder = await begin(case, port)
                figures = await promise.run(case, encoder) if encoder is not None else {"fault": "did not begin"}
                if encoder is not None:
                    encoder.stop()
                for place in [*case.places, *([case.backup] if case.backup else [])]:
                    await place.stop().asFuture(LOOP)
                    place.sessions.clear()
                results.append(figures)
                print(f"\r{name}: {len(results)} of {runs}", end="", file=sys.stderr, flush=True)

        await asyncio.gather(*map(one, cases))
    print(file=sys.stderr)
    return results


def percentile(values: Sequence[float], share: float) -> float:
    """The value that *share* of the others do not exceed."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def summary(name: str, results: list[Figures]) -> dict[str, Any]:
    """Figures of all runs of a promise, and what was not kept."""
    faults = [f"{one.get('how', '')}: {one['fault']}" for one in results if "fault" in one]
    found: dict[str, Any] = {"runs": len(results), "faults": faults, "figures": {}}
    for figure in sorted({key for one in results for key, value in one.items() if isinstance(value, float)}):
        values = [one[figure] for one in results if figure in one]
        found["figures"][figure] = spread(values)
        limit = PROMISES[name].gates.get(figure)
        late = [value for value in values if limit is not None and value > limit]
        faults += [f"{figure} {value:.2f} > {limit}" for value in late]
    if name == "p15":
        before = [value for one in results for value in one.get("before", [])]
        after = [value for one in results for value in one.get("after", [])]
        if before and after:
            found["figures"] |= {"latency_before_s": spread(before), "latency_after_s": spread(after)}
            added = percentile(after, 0.99) - percentile(before, 0.99)
            found["added_p99_s"] = added
            if added > ADDED_P99_S:
                faults.append(f"p99 of the healthy ones rose by {added * 1000:.0f} ms")
    return found


def spread(values: Sequence[float]) -> dict[str, float]:
    """Count, median, percentiles and worst of some values."""
    return {
        "n": len(values),
        "p50": statistics.median(values),
        "p90": percentile(values, 0.9),
        "p99": percentile(values, 0.99),
        "max": max(values),
    }


WORDS = {
    "retry_s": "P13: connection lost until the destination accepts the next one",
    "return_s": f"P13: destination back after {AWAY_S:.0f} s until it accepts us",
    "picture_s": "P14: publish granted until the first picture",
    "age_s": "P14: age of that picture",
    "burst": "P14: programme time that arrives within the first second after it",
    "latency_before_s": "P15: encoder to healthy destination, before the fault",
    "latency_after_s": "P15: the same, after the fault of the other destination",
    "failover_s": "P16: first address lost until the second has accepted",
}


def page(found: dict[str, dict[str, Any]], command: str) -> str:
    """The page with the figures."""
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    lines = [
        "# Promises about destinations, measured at the destinations",
        "",
        f"Made by `{command}` on {today}, {os.cpu_count()} cores, Python {machine.python_version()}.",
        "Real sockets; a relay process, encoders and fake platforms side by side. Other programs used the machine too.",
        "",
        "| promise | runs | not kept |",
        "|---|---|---|",
    ]
    names = {"p13": "P13, P14 after a lost connection", "away": "P13 after an outage", "p15": "P15", "p16": "P16, P14"}
    for name, one in found.items():
        lines.append(f"| {names[name]} | {one['runs']} | {len(one['faults'])} |")
    lines += ["", "| figure, seconds | n | median | p90 | p99 | worst |", "|---|---|---|---|---|---|"]
    for name, one in found.items():
        for figure, value in one["figures"].items():
            if figure not in WORDS:
                continue
            second = name == "p16" and figure != "failover_s"
            label = WORDS[figure] + " (second address)" * second
            cells = " | ".join(f"{value[key]:.3f}" for key in ("p50", "p90", "p99", "max"))
            lines.append(f"| {label} | {value['n']} | {cells} |")
    if "p15" in found and "added_p99_s" in found["p15"]:
        added = found["p15"]["added_p99_s"] * 1000
        lines += ["", f"P15: the fault added {added:.1f} ms to the healthy destinations' p99; they lost nothing."]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("promises", nargs="*", default=list(PROMISES), metavar="PROMISE", help=", ".join(PROMISES))
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--parallel", type=int, default=20, help="streams side by side")
    parser.add_argument("--together", action="store_true", help="all promises at the same time")
    parser.add_argument("--write", action="store_true", help="write benchmarks/DESTINATIONS.md")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = {}
    clock.startRunning()
    for names in [options.promises] if options.together else [[name] for name in options.promises]:

        async def side_by_side(names: list[str] = names) -> list[list[Figures]]:
            return await asyncio.gather(*(run_all(name, options.runs, options.parallel) for name in names))

        results = LOOP.run_until_complete(side_by_side())
        found |= {name: summary(name, result) for name, result in zip(names, results, strict=True)}
    text = page(found, " ".join(["python", "benchmarks/destinations.py", *sys.argv[1:]]))
    if options.write:
        (ROOT / "benchmarks" / "DESTINATIONS.md").write_text(text)
    print(json.dumps(found) if options.json else text)
    faults = [f"{name}: {fault}" for name, one in found.items() for fault in one["faults"]]
    print("\n".join(faults), file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
