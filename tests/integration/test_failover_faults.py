"""Faults of lines, clocks and processes, as a destination sees them (reliability.md 3.4: F1 to F5, F10, F14, F18).

Encoders are processes that send real H.264 and AAC in which every picture carries its number; the checker looks only at
what the destination received. `benchmarks/failover.py` does the same 200 times and measures.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relay.media import flvfile
from tests.helpers import cable as cables
from tests.helpers import capture, programme
from tests.helpers.slowline import SlowLine
from tests.integration.harness import LONG, ROOT, Program, Relay, ffmpeg9, need, relay, wait_for

pytestmark = pytest.mark.integration

KEYS = {"primary": "canary-primary-77d0", "backup": "canary-backup-c3fa"}
MAKERS = {"primary": "A", "backup": "B"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The programme as two encoders make it; the second's keyframes lie between the first's."""
    place = tmp_path_factory.mktemp("programme")
    return {
        "A": programme.encode(ffmpeg9(), place / "A.flv", gop_s=1),
        "B": programme.encode(ffmpeg9(), place / "B.flv", gop_s=1, shift=15),
    }


class Show:
    """A relay with one stream, a destination, and encoders."""

    def __init__(self, running: Relay, sink: capture.Destination, files: dict[str, Path]) -> None:
        self.running = running
        self.sink = sink
        self.files = files
        self.epoch = time.monotonic()
        self.host = f"127.0.0.1:{running.port}"
        self.encoders: dict[str, Program] = {}
        self.checker = capture.Checker(
            {maker: programme.load(path, shift=15 * (maker == "B")) for maker, path in files.items()}
        )

    def start(self, feed: str, *more: str, maker: str = "", before: tuple[str, ...] = (), host: str = "") -> Program:
        """Start an encoder; return once its first keyframe is out."""
        maker = maker or MAKERS[feed]
        if feed in self.encoders:
            self.end(feed)
        args = [*before, sys.executable, "-m", "tests.helpers.lightencoder", "--maker", maker]
        args += ["--url", f"rtmp://{host or self.host}/live/{KEYS[feed]}", "--file", str(self.files[maker])]
        args += ["--shift", "15" if maker == "B" else "0", "--epoch", str(self.epoch), *more]
        encoder = self.encoders[feed] = Program(args, {"PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}"})
        wait_for(lambda: len(encoder.out) >= 2, f"first keyframe of {feed}: {encoder.tail}", 20)
        return encoder

    def start_both(self) -> None:
        """The primary is on air, the backup has stood by for two keyframes."""
        self.start("primary")
        wait_for(lambda: self.on_air == "A", "A on air", 20)
        self.start("backup")
        self.wait_ready("backup")

    def wait_ready(self, feed: str) -> None:
        wait_for(lambda: self.feed(feed).get("keyframe_interval_ms"), f"{feed} standing by", 20)

    def feed(self, name: str) -> dict[str, object]:
        feeds = self.running.stream("show").get("feeds", [])
        assert isinstance(feeds, list)
        return next((feed for feed in feeds if feed["name"] == name), {})

    @property
    def session(self) -> capture.Session:
        return self.sink.sessions[0]

    @property
    def on_air(self) -> str:
        """Maker of the newest picture at the destination."""
        tags = self.sink.sessions[0].tags if self.sink.sessions else []
        return next((mark[0] for tag in reversed(tags[-200:]) if (mark := tag.mark) is not None), "")

    def end(self, feed: str) -> None:
        """Kill an encoder, a stopped one too."""
        encoder = self.encoders.pop(feed)
        encoder.process.kill()
        encoder.stop()

    def lose(self, feed: str) -> None:
        """The same, and wait until the relay knows."""
        self.end(feed)
        wait_for(lambda: not self.feed(feed), f"the end of {feed}", 10)

    def stop(self) -> None:
        for feed in tuple(self.encoders):
            self.end(feed)

    def check(self, tmp_path: Path) -> list[capture.Cut]:
        """What holds after every fault (P6, P7); returns the changes of encoder."""
        assert len(self.sink.sessions) == 1, "the destination was left"
        session = self.session
        assert capture.backward_steps(session) == 0
        assert self.checker.spoilt(session) == 0
        cuts = self.checker.cuts(session)
        for cut in cuts:
            assert cut.keyframe
            assert cut.shift_ms is None or abs(cut.shift_ms) <= 20, "sound moved against the picture"
        path = session.write(tmp_path / "received.flv")
        pictures = sum(tag.type_id == 9 and tag.body[1] == 1 for tag in flvfile.read(path.read_bytes()))
        assert len(programme.burned_in(ffmpeg9(), path)) == pictures, "every picture decodes"
        return cuts


@contextlib.contextmanager
def show(
    tmp_path: Path, files: dict[str, Path], more: str = "", *, extra: str = "", env: dict[str, str] | None = None
) -> Iterator[Show]:
    """Run all that a test needs."""
    with capture.Destination() as sink:
        streams = f'[streams.show.streamkeys]\nprimary = "{KEYS["primary"]}"\nbackup = "{KEYS["backup"]}"\n'
        streams += f'[streams.show.restream.out]\nurl = "{sink.url}"\nkey = "out"\n[streams.show.failover]\n{more}\n'
        with relay(tmp_path, streams, extra=extra, env=env) as running:
            made = Show(running, sink, files)
            try:
                yield made
            finally:
                made.stop()


def fails_over(made: Show, fault: Callable[[], object], most_s: float) -> float:
    """Inject a fault into the primary; seconds until the backup's first picture is at the destination."""
    time.sleep(0.3)
    began = time.monotonic()
    fault()
    wait_for(lambda: made.on_air == "B", "B on air", most_s)
    return time.monotonic() - began


def test_a_pulled_cable_is_noticed_within_the_threshold(tmp_path: Path, files: dict[str, Path]) -> None:
    reason = cables.why_not()
    if reason:
        pytest.skip(reason)
    with cables.cable() as cable:
        extra = f'[[listen]]\nurl = "rtmp://{cables.HERE}:1936"\n'
        with show(tmp_path, files, 'mode = "switch"', extra=extra) as made:
            far = {"before": tuple(cable.command([])), "host": f"{cables.HERE}:1936"}
            primary = made.start("primary", **far)  # type: ignore[arg-type]
            wait_for(lambda: made.on_air == "A", "A on air", 20)
            made.start("backup", **far)  # type: ignore[arg-type]
            made.wait_ready("backup")
            before = made.running.descriptors()

            took = fails_over(made, lambda: cable.pull(int(primary.out[0].split()[1])), 6)

            assert 0.9 <= took <= 3.0  # 1.5 s is promised of a machine that is not busy
            wait_for(lambda: made.running.descriptors() < before, "the dead connection's descriptor", 15)
            (cut,) = made.check(tmp_path)
            assert cut.missed == 0


@pytest.mark.parametrize("hours", [-1, 1] if LONG else [1])
def test_a_step_of_the_wall_clock_changes_nothing(tmp_path: Path, files: dict[str, Path], hours: int) -> None:
    compiler = need("cc", "apt install gcc")
    library, offset = tmp_path / "wall.so", tmp_path / "offset"
    source = Path(__file__).with_name("wall.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True, timeout=60)
    offset.write_text("0")
    env = {"LD_PRELOAD": str(library), "WALL_OFFSET": str(offset)}
    with show(tmp_path, files, 'mode = "switch"', env=env) as made:
        made.start_both()
        offset.write_text(str(hours * 3600))
        time.sleep(1.5)
        assert made.on_air == "A"
        assert made.running.stream("show")["switches"] == 0

        took = fails_over(made, lambda: made.encoders["primary"].signal(signal.SIGSTOP), 6)

        assert 0.9 <= took <= 3.0
        (cut,) = made.check(tmp_path)
        assert cut.missed == 0


def test_neither_a_short_stall_nor_a_stop_of_the_relay_itself_is_a_reason(
    tmp_path: Path, files: dict[str, Path]
) -> None:
    with show(tmp_path, files, 'mode = "switch"\nvideo_stall_ms = 2000') as made:
        made.start_both()
        primary, ourselves = made.encoders["primary"], made.running.program
        for program, seconds in ((primary, 0.9), (ourselves, 30 if LONG else 3)):
            program.signal(signal.SIGSTOP)
            time.sleep(seconds)
            program.signal(signal.SIGCONT)
            time.sleep(1.2)

        assert made.running.stream("show")["switches"] == 0
        assert {str(made.feed(name)["state"]) for name in KEYS} == {"live", "standby"}
        assert made.check(tmp_path) == []
        assert capture.missing(made.session) == (0, 0)


def test_two_paths_of_one_encoder_lose_nothing_whichever_is_killed(tmp_path: Path, files: dict[str, Path]) -> None:
    late = {"primary": (), "backup": ("--delay", "0.15")}
    with show(tmp_path, files) as made:
        for feed in KEYS:
            made.start(feed, *late[feed], maker="A")
        for feed in ("primary", "backup"):
            wait_for(lambda: {made.feed(name).get("state") for name in KEYS} == {"live", "merged"}, "merge", 20)
            time.sleep(0.4)
            made.lose(feed)
            made.start(feed, *late[feed], maker="A")

        made.check(tmp_path)
        assert capture.missing(made.session) == (0, 0)
        assert made.checker.sound_faults(made.session) == 0


def test_both_gone_shows_the_slate_of_the_operator_and_no_decoder_sees_a_change(
    tmp_path: Path, files: dict[str, Path]
) -> None:
    slate = tmp_path / "slate.png"
    picture = ["-f", "lavfi", "-i", "color=red:size=640x360", "-frames:v", "1", str(slate)]
    subprocess.run([ffmpeg9(), "-v", "error", *picture], check=True, timeout=30)
    with show(tmp_path, files, f'slate = "{slate}"\nhold_s = 20') as made:
        made.start("primary")
        wait_for(lambda: made.on_air == "A", "A on air", 20)
        made.running.wait_log("the slate", lambda line: line.get("msg", "").startswith("the slate of"), 30)  # type: ignore[attr-defined]
        time.sleep(0.5)

        made.encoders["primary"].process.kill()
        time.sleep(3)
        headers = [tag for tag in made.session.tags if tag.header]
        began = len(made.session.tags)
        encoder = made.start("primary")
        wait_for(lambda: any(tag.mark for tag in made.session.tags[began:]), "A on air again", 10)
        back = next(tag for tag in made.session.tags[began:] if tag.mark)
        time.sleep(1)

        assert back.keyframe
        assert back.at - float(encoder.out[1].split()[1]) < 1.0
        made.stop()
        assert len(made.sink.sessions) == 1
        assert [tag for tag in made.session.tags if tag.header] == headers, "no new sequence header"
        assert capture.backward_steps(made.session) == 0
        path = made.session.write(tmp_path / "received.flv")
        red = frames_that_are_red(path)
        unmarked = sum(tag.mark is None for tag in made.session.pictures())
        assert unmarked >= 60
        assert abs(red - unmarked) <= 2


def frames_that_are_red(path: Path) -> int:
    """Decode without a complaint; count the pictures that are red in the middle."""
    args = [ffmpeg9(), "-v", "error", "-xerror", "-i", str(path), "-an", "-vf", "crop=2:2,format=rgb24"]
    args += ["-fps_mode", "passthrough", "-enc_time_base", "1:1000", "-f", "rawvideo", "-"]
    done = subprocess.run(args, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b""), done.stderr.decode()
    data = done.stdout
    return sum(data[at] > 200 and max(data[at + 1 : at + 3]) < 60 for at in range(0, len(data), 12))


@pytest.mark.skipif(not LONG, reason="takes half a minute: RELAY_LONG=1 (make soak)")
def test_a_line_that_is_too_thin_is_left(tmp_path: Path, files: dict[str, Path]) -> None:
    with show(tmp_path, files, 'mode = "switch"') as made, SlowLine(made.running.port) as line:
        made.start("primary", host=f"127.0.0.1:{line.port}")
        wait_for(lambda: made.on_air == "A", "A on air", 20)
        made.start("backup")
        time.sleep(22)

        line.rate = 60_000 * 0.6
        time.sleep(4)
        assert made.on_air == "A", "no switch at 60 %"
        line.rate = 60_000 * 0.2
        wait_for(lambda: made.on_air == "B", "B on air", 12)

        switched = made.running.wait_log("switch", lambda entry: "switched" in str(entry.get("msg")))
        assert "low-bitrate" in str(switched) or "timestamps" in str(switched) or "no-video" in str(switched)
        made.check(tmp_path)
