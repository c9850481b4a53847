"""Measures failover as a destination sees it: `python benchmarks/failover.py [CASE ...] [--runs 200] [--write]`.

A real relay, encoders that are processes of their own, and a destination that keeps every message with the moment of
its arrival; nothing else is looked at. Several shows run side by side, out of step, so that 200 faults take minutes.
Each encoder sends real H.264 and AAC at 30 pictures a second with a keyframe every 2 s; every picture carries its
number and its maker. Faults come at random moments of the GOP; what fails is started again and stands by.

| case | fault | promise |
|---|---|---|
| `killed` | SIGKILL to the encoder on air | P1: the other is on air within 250 ms, p99 |
| `stopped` | SIGSTOP | P2: within the threshold (1 s) + 500 ms, p99 |
| `unplugged` | nftables drop both ways in a network namespace (needs root) | P2 |
| `returned` | both encoders killed, one started again within the hold | P11: on air within 1 s of its first keyframe |
| `merged` | two paths of one encoder; either is killed | every frame arrives exactly once |

With `--write` the results go to `benchmarks/FAILOVER.md`. Exit status: 0 = every promise kept, 1 = not.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(ROOT / "plugins")]

from tests.helpers import cable as cables  # noqa: E402 - found by the line above
from tests.helpers import capture, programme  # noqa: E402
from tests.integration.harness import Program, Relay, ffmpeg9, relay  # noqa: E402

THRESHOLD_MS = 1000
SETTLE_S = 0.6
"""From the moment at which an encoder's first keyframe left until its feed holds it for certain."""
PATIENCE_S = 20.0


@dataclass(slots=True)
class Result:
    """What one case gave."""

    case: str
    what: str
    values: list[float] = field(default_factory=list)
    limit_ms: float = 0.0
    facts: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    other_percent: float = 0.0
    seconds: float = 0.0

    def percentile(self, share: float) -> float:
        """The value that *share* of all do not exceed."""
        ranked = sorted(self.values)
        return ranked[min(int(len(ranked) * share), len(ranked) - 1)] if ranked else 0.0

    @property
    def kept(self) -> bool:
        """Whether the promise was."""
        return not self.faults and (not self.limit_ms or self.percentile(0.99) <= self.limit_ms)


class Show:
    """One stream with two encoders, on one relay."""

    def __init__(self, name: str, running: Relay, sink: capture.RemoteDesk, files: dict[str, Path], epoch: float):
        self.name = name
        self.running = running
        self.sink = sink
        self.files = files
        self.epoch = epoch
        self.host = f"127.0.0.1:{running.port}"
        self.prefix: Callable[[list[str]], list[str]] = list
        self.encoders: dict[str, Program] = {}
        self.session = capture.Session()  # what the destination has of it, once all is over
        self.random = random.Random(name)

    def start(self, feed: str, maker: str, *more: str) -> Program:
        """Start an encoder for one feed."""
        url = f"rtmp://{self.host}/live/{self.name}-{feed}-key"
        args = [sys.executable, "-m", "tests.helpers.lightencoder", "--url", url, "--file", str(self.files[maker])]
        args += ["--maker", maker, "--shift", "30" if maker == "B" else "0", "--epoch", str(self.epoch), *more]
        self.encoders[feed] = Program(self.prefix(args), {"PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}"})
        return self.encoders[feed]

    def stop(self) -> None:
        """End both encoders, the one on air last: that is no switch then."""
        air = self.on_air
        for feed in sorted(self.encoders, key=lambda feed: MAKERS[feed] == air):
            encoder = self.encoders[feed]
            with contextlib.suppress(ProcessLookupError):
                encoder.signal(signal.SIGCONT)
                encoder.signal(signal.SIGKILL)
            encoder.stop()

    def stand_by(self, feed: str, maker: str, *more: str) -> Program:
        """Start an encoder; return once its first keyframe must have arrived."""
        encoder = self.start(feed, maker, *more)
        self.wait(lambda: len(encoder.out) >= 2, f"{feed} does not begin")
        time.sleep(SETTLE_S)
        return encoder

    @property
    def on_air(self) -> str:
        """Maker of the newest picture."""
        return str(self.sink.ask("on_air", self.name))

    def wait(self, found: Callable[[], bool], what: str) -> None:
        """Poll the destination."""
        until = time.monotonic() + PATIENCE_S
        while not found():
            if time.monotonic() > until:
                raise TimeoutError(f"{self.name}: {what}; {self.diagnosis()}")
            time.sleep(0.02)

    def diagnosis(self) -> str:
        """What somebody who has to find the reason wants to see."""
        stream = self.running.stream(self.name)
        said = [str(line.get("msg")) for line in self.running.log() if self.name in str(line)][-8:]
        feeds = [(one["name"], one["state"], one["frames_in"], one["health"]) for one in stream.get("feeds", [])]  # type: ignore[attr-defined]
        tails = {feed: (encoder.running, encoder.tail) for feed, encoder in self.encoders.items()}
        return f"{stream.get('state')}, {feeds}, {said}, {tails}"

    def state(self, feed: str) -> str:
        """What the API says of a feed."""
        feeds = self.running.stream(self.name).get("feeds", [])
        assert isinstance(feeds, list)
        return next((str(one["state"]) for one in feeds if one["name"] == feed), "")


MAKERS = {"primary": "A", "backup": "B"}
FEEDS = {maker: feed for feed, maker in MAKERS.items()}


def begin(show: Show) -> None:
    """Both encoders publish and the destination has pictures."""
    show.start("primary", "A")
    show.wait(lambda: show.on_air == "A", "first picture")
    show.stand_by("backup", "B")


def replace(show: Show, runs: int, fault: Callable[[Show, Program], None]) -> None:
    """Let the encoder on air fail, wait for the other, start it again: *runs* times."""
    begin(show)
    for _ in range(runs):
        time.sleep(show.random.uniform(0, 2.0))
        maker = show.on_air
        victim = show.encoders[FEEDS[maker]]
        fault(show, victim)
        show.wait(lambda maker=maker: show.on_air not in ("", maker), f"nobody took over from {maker}")  # type: ignore[misc]
        time.sleep(0.3)
        if victim.running:  # stopped: what it still has to say comes now
            victim.signal(signal.SIGCONT)
            time.sleep(0.2)
        victim.process.kill()
        victim.stop()
        show.stand_by(FEEDS[maker], maker)


def kill(show: Show, victim: Program) -> None:
    victim.process.kill()


def halt(show: Show, victim: Program) -> None:
    victim.signal(signal.SIGSTOP)


def come_back(show: Show, runs: int) -> list[float]:
    """Both are gone; one comes back: how long after its first keyframe it is on air."""
    values = []
    show.start("primary", "A")
    show.wait(lambda: show.on_air == "A", "first picture")
    show.stand_by("backup", "B")
    for _ in range(runs):
        time.sleep(show.random.uniform(0, 2.0))
        for encoder in show.encoders.values():
            encoder.process.kill()
            encoder.stop()
        time.sleep(show.random.uniform(0.2, 4.0))
        newest = show.sink.ask("newest", show.name)
        feed = show.random.choice(["primary", "backup"])
        encoder = show.start(feed, MAKERS[feed])
        question = ("seen", show.name, MAKERS[feed], newest)
        show.wait(lambda question=question: show.sink.ask(*question) is not None, "not back on air")  # type: ignore[misc]
        arrived = show.sink.ask(*question)
        show.wait(lambda encoder=encoder: len(encoder.out) >= 2, "no word from the encoder")  # type: ignore[misc]
        values.append((arrived - float(encoder.out[1].split()[1])) * 1000)
        other = next(one for one in MAKERS if one != feed)
        show.stand_by(other, MAKERS[other])
    return values


def lose_paths(show: Show, runs: int) -> None:
    """Two paths of one encoder, the second 150 ms slower; either is killed and comes back."""
    more = {"primary": (), "backup": ("--delay", "0.15")}
    show.start("primary", "A")
    show.wait(lambda: show.on_air == "A", "first picture")
    show.start("backup", "A", *more["backup"])
    for _ in range(runs):
        show.wait(lambda: {show.state(feed) for feed in MAKERS} == {"live", "merged"}, "the paths are not merged")
        time.sleep(show.random.uniform(0, 1.0))
        feed = show.random.choice(list(MAKERS))
        show.encoders[feed].process.kill()
        show.encoders[feed].stop()
        show.wait(lambda feed=feed: show.state(feed) == "", f"the relay does not see the end of {feed}")  # type: ignore[misc]
        time.sleep(show.random.uniform(0.05, 0.5))
        show.start(feed, "A", *more[feed])


# --- the cases -------------------------------------------------------------------------------------------------------


def table(shows: int, url: str, more: str) -> str:
    """The relay's configuration of all shows."""
    return "".join(
        f'[streams.show{n}.streamkeys]\nprimary = "show{n}-primary-key"\nbackup = "show{n}-backup-key"\n'
        f'[streams.show{n}.restream.out]\nurl = "{url}"\nkey = "show{n}"\n[streams.show{n}.failover]\n{more}\n'
        for n in range(shows)
    )


def together(shows: list[Show], runs: int, play: Callable[[Show, int], object]) -> list[object]:
    """Run *play* on every show at once; return what each gave, exceptions included."""
    results: list[object] = [None] * len(shows)

    def one(index: int) -> None:
        time.sleep(index * 0.37)
        try:
            results[index] = play(shows[index], runs)
        except Exception as error:
            results[index] = error

    threads = [threading.Thread(target=one, args=(index,)) for index in range(len(shows))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def measure(case: str, runs: int, shows: int, files: dict[str, Path], scratch: Path) -> Result:
    """Run one case."""
    result = Result(case, CASES[case])
    each = -(-runs // shows)
    checker = capture.Checker({maker: programme.load(files[maker], shift=30 * (maker == "B")) for maker in "AB"})
    with contextlib.ExitStack() as stack:
        cable = stack.enter_context(cables.cable()) if case == "unplugged" else None
        sink = stack.enter_context(capture.RemoteDesk())
        mode = 'mode = "auto"' if case == "merged" else 'mode = "switch"'
        extra = f'[[listen]]\nurl = "rtmp://{cables.HERE}:1936"\n' if cable else ""
        running = stack.enter_context(relay(scratch, table(shows, sink.ask("url"), mode), extra=extra))
        epoch = time.monotonic()
        playing = [Show(f"show{n}", running, sink, files, epoch) for n in range(shows)]
        for show in playing:
            stack.callback(show.stop)
            if cable:
                show.host, show.prefix = f"{cables.HERE}:1936", cable.command
        pull = (lambda _, victim: cable.pull(int(victim.out[0].split()[1]))) if cable else kill
        plays: dict[str, Callable[[Show, int], object]] = {
            "killed": lambda show, runs: replace(show, runs, kill),
            "stopped": lambda show, runs: replace(show, runs, halt),
            "unplugged": lambda show, runs: replace(show, runs, pull),
            "returned": come_back,
            "merged": lose_paths,
        }
        began, busy = time.monotonic(), _cpu()
        gave = together(playing, each, plays[case])
        result.seconds = time.monotonic() - began
        result.other_percent = _others(busy, _cpu(), result.seconds)
        result.faults += [f"{type(one).__name__}: {one}" for one in gave if isinstance(one, Exception)]
        sessions: list[capture.Session] = sink.ask("finish")  # before the encoders end: their end is not measured
        for show in playing:
            show.stop()
        if len(sessions) != shows:
            result.faults += [f"{one.name}: {one.error or 'closed'}" for one in sessions if one.closed]
        for show in playing:
            show.session = next(one for one in sessions if one.name == show.name)
        judge(result, playing, len(sessions), checker, gave, each, scratch)
    return result


def judge(
    result: Result,
    shows: list[Show],
    sessions: int,
    checker: capture.Checker,
    gave: list[object],
    each: int,
    scratch: Path,
) -> None:
    """Look at what the destination received."""
    cuts = [cut for show in shows for cut in checker.cuts(show.session)]
    backward = sum(capture.backward_steps(show.session) for show in shows)
    spoilt = sum(checker.spoilt(show.session) for show in shows)
    shifts = [abs(cut.shift_ms) for cut in cuts if cut.shift_ms is not None]
    facts, faults = result.facts, result.faults
    facts["faults injected"] = str(each * len(shows))
    facts["destination sessions opened again"] = str(sessions - len(shows))
    facts["pictures received"] = str(sum(len(show.session.pictures()) for show in shows))
    facts["backward or equal DTS"] = str(backward)
    facts["pictures that are not what their encoder made"] = str(spoilt)
    if sessions != len(shows):
        faults.append("a destination was left")
    if backward:
        faults.append("time ran back")
    if spoilt and result.case != "returned":
        faults.append("spoilt pictures")
    if result.case == "merged":
        gaps = [capture.missing(show.session) for show in shows]
        sound = [checker.sound_faults(show.session) for show in shows]
        facts["pictures missing / doubled"] = f"{sum(gap[0] for gap in gaps)} / {sum(gap[1] for gap in gaps)}"
        facts["frames of sound out of their order"] = str(sum(sound))
        if any(map(any, gaps)) or any(sound):
            faults.append("a frame was lost or repeated")
    elif result.case == "returned":
        result.values = [value for values in gave if isinstance(values, list) for value in values]
        result.limit_ms = 1000
    else:
        result.values = [cut.gap_ms for cut in cuts]
        result.limit_ms = 250 if result.case == "killed" else THRESHOLD_MS + 500
        facts["switches"] = str(len(cuts))
        facts["pictures never shown, most in one switch"] = str(max((cut.missed for cut in cuts), default=0))
        facts["repeated content, most"] = f"{max((cut.repeated for cut in cuts), default=0) / 30:.2f} s"
        facts["step of the timeline at the cut, most"] = f"{max((cut.step_ms for cut in cuts), default=0)} ms"
        if len(cuts) != each * len(shows):
            faults.append(f"{len(cuts)} switches for {each * len(shows)} faults")
        if not all(cut.keyframe for cut in cuts):
            faults.append("a cut without a keyframe")
        if any(cut.missed for cut in cuts):
            faults.append("content was missed")
    if shifts:
        facts["sound against picture, largest move"] = f"{max(shifts):.1f} ms (of {len(shifts)} cuts measured)"
        if max(shifts) > 20:
            faults.append("sound moved against the picture")
    for show in shows:
        path = show.session.write(scratch / f"{show.name}.flv")
        decoded = programme.burned_in(ffmpeg9(), path)
        received = len(show.session.pictures())
        if len(decoded) != received:
            faults.append(f"{show.name}: {received} pictures received, {len(decoded)} decoded")
    facts["decoded by FFmpeg without a complaint"] = "every picture" if not faults else "see above"


CASES = {
    "killed": "P1: SIGKILL to the encoder on air",
    "stopped": "P2: SIGSTOP to the encoder on air",
    "unplugged": "P2: the line of the encoder on air drops every packet",
    "returned": "P11: both gone, one back within the hold; from its first keyframe",
    "merged": "two paths of one encoder, either killed",
}


def _cpu() -> tuple[float, float]:
    """Busy seconds of the whole machine, and those of our own processes."""
    fields = [int(value) for value in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    busy = sum(fields) - fields[3] - fields[4]
    times = os.times()
    return busy / os.sysconf("SC_CLK_TCK"), sum(times[:4])


def _others(before: tuple[float, float], after: tuple[float, float], seconds: float) -> float:
    """Per cent of all cores that everybody together used; our own running children are in it."""
    return (after[0] - before[0]) / seconds / (os.cpu_count() or 1) * 100


def report(results: list[Result], shows: int, runs: int) -> str:
    """The page."""
    lines = [
        "# Failover, measured",
        "",
        f"`python benchmarks/failover.py --runs {runs} --shows {shows} --write` on {time.strftime('%Y-%m-%d')}: "
        f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}, loopback. "
        "What is measured and how: the head of [failover.py](failover.py).",
        "",
        "Milliseconds between two arrivals at the destination: the last picture of the encoder that failed, and the "
        "first of the one that took over. At 30 pictures a second the undisturbed distance is 33 ms. For `returned`: "
        "from the moment at which the encoder sent its first keyframe to its arrival at the destination.",
        "",
        "| case | runs | p50 | p90 | p99 | most | promised (p99) | kept | machine busy |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in results:
        promised = f"{one.limit_ms:.0f}" if one.limit_ms else "every frame exactly once"
        figures = [f"{one.percentile(share):.0f}" for share in (0.5, 0.9, 0.99, 1.0)] if one.values else ["–"] * 4
        lines.append(
            f"| `{one.case}` | {one.facts.get('faults injected', '0')} | {' | '.join(figures)} | "
            f"{promised} | {'yes' if one.kept else '**NO**'} | "
            f"{one.other_percent:.0f} % |"
        )
    lines += [
        "",
        "*Machine busy* is the share of all cores in use meanwhile, the encoders and the checker included. Near 100 % "
        "the slowest per cent says more about the machine than about the relay.",
    ]
    for one in results:
        lines += ["", f"## `{one.case}`: {one.what}", "", f"{one.seconds:.0f} s.", ""]
        lines += [f"- {name}: {value}" for name, value in one.facts.items()]
        lines += [f"- **broken: {fault}**" for fault in one.faults]
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def place(keep: Path | None) -> Iterator[Path]:
    """A directory for everything, gone afterwards unless somebody wants to keep it."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="failover-") as name:
        yield Path(name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; all by default")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--shows", type=int, default=4)
    parser.add_argument("--write", action="store_true", help="write benchmarks/FAILOVER.md")
    parser.add_argument("--out", type=Path, default=HERE / "FAILOVER.md", help="where to write")
    parser.add_argument("--keep", type=Path, help="a directory for the captures, kept afterwards")
    options = parser.parse_args()
    unknown = set(options.cases) - set(CASES)
    if unknown:
        parser.error(f"there is no case {', '.join(unknown)}")
    results = []
    with place(options.keep) as scratch:
        files = {
            maker: programme.encode(ffmpeg9(), scratch / f"{maker}.flv", shift=shift)
            for maker, shift in (("A", 0), ("B", 30))
        }
        for case in options.cases or CASES:
            if case == "unplugged" and cables.why_not():
                print(f"unplugged: not measured, {cables.why_not()}")
                continue
            (scratch / case).mkdir(exist_ok=True)
            result = measure(case, options.runs, options.shows, files, scratch / case)
            results.append(result)
            print(report([result], options.shows, options.runs).split("\n\n", 3)[-1], flush=True)
    if options.write:
        options.out.write_text(report(results, options.shows, options.runs))
    return 0 if all(result.kept for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
