"""Faults of lines, clocks and processes, as a destination sees them; tests/stream/test_fault_table.py has the list.

Encoders are processes that send real H.264 and AAC in which every picture carries its number; the checker looks only at
what the destination received. `benchmarks/failover.py` does the same 200 times and measures.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import cable as cables
from tests.helpers import capture
from tests.helpers.slowline import SlowLine
from tests.integration.harness import LONG, ffmpeg9, need, wait_for
from tests.integration.shows import KEYS, Show, show

pytestmark = pytest.mark.integration


def fails_over(made: Show, fault: Callable[[], object], most_s: float, to: str = "B") -> float:
    """Inject a fault into the encoder on air; seconds until the other's first picture is at the destination."""
    time.sleep(0.3)
    began = time.monotonic()
    fault()
    wait_for(lambda: made.on_air == to, f"{to} on air", most_s)
    return time.monotonic() - began


class WallClock:
    """The time of day of one process, which can be stepped; monotonic time goes on."""

    def __init__(self, place: Path) -> None:
        compiler = need("cc", "apt install gcc")
        library, self._offset = place / "wall.so", place / "offset"
        source = Path(__file__).with_name("wall.c")
        subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True, timeout=60)
        self.step(0)
        self.env = {"LD_PRELOAD": str(library), "WALL_OFFSET": str(self._offset)}

    def step(self, hours: int) -> None:
        """Be so many hours ahead, from now on."""
        made = self._offset.with_suffix(".new")
        made.write_text(str(hours * 3600))
        made.replace(self._offset)


@pytest.mark.parametrize("hours", [0, -1, 1] if LONG else [0])
def test_a_pulled_cable_is_noticed_within_the_threshold(tmp_path: Path, files: dict[str, Path], hours: int) -> None:
    reason = cables.why_not()
    if reason:
        pytest.skip(reason)
    wall = WallClock(tmp_path) if hours else None
    with cables.cable() as cable:
        extra = f'[[listen]]\nurl = "rtmp://{cables.HERE}:1936"\n'
        with show(tmp_path, files, 'mode = "switch"', extra=extra, env=wall and wall.env) as made:
            far = {"before": tuple(cable.command([])), "host": f"{cables.HERE}:1936"}
            primary = made.start("primary", **far)  # type: ignore[arg-type]
            wait_for(lambda: made.on_air == "A", "A on air", 20)
            made.start("backup", **far)  # type: ignore[arg-type]
            made.wait_ready("backup")
            before = made.running.descriptors()

            def pull() -> None:
                cable.pull(int(primary.out[0].split()[1]))
                if wall is not None:
                    wall.step(hours)

            took = fails_over(made, pull, 6)

            assert 0.9 <= took <= 3.0  # 1.5 s is promised of a machine that is not busy
            wait_for(lambda: made.running.descriptors() < before, "the dead connection's descriptor", 15)
            (cut,) = made.check(tmp_path)
            assert cut.missed == 0


@pytest.mark.parametrize("hours", [-1, 1] if LONG else [1])
def test_a_step_of_the_wall_clock_changes_nothing(tmp_path: Path, files: dict[str, Path], hours: int) -> None:
    wall = WallClock(tmp_path)
    with show(tmp_path, files, 'mode = "switch"', env=wall.env) as made:
        made.start_both()
        wall.step(-hours)
        time.sleep(1.5)
        assert made.on_air == "A"
        assert made.running.stream("show")["switches"] == 0

        stopped = fails_over(made, lambda: (wall.step(hours), made.encoders["primary"].signal(signal.SIGSTOP)), 6)
        made.encoders["primary"].signal(signal.SIGCONT)  # what it sends of the past leaks nowhere: see the cuts below
        time.sleep(2.5)
        killed = fails_over(made, lambda: (wall.step(0), made.encoders["backup"].signal(signal.SIGKILL)), 3, to="A")

        assert 0.9 <= stopped <= 3.0
        assert killed <= 1.0
        assert [cut.missed for cut in made.check(tmp_path)] == [0, 0]


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
    """Its short form is with the other faults, on a fake clock: tests/stream/test_fault_table.py."""
    with show(tmp_path, files, 'mode = "switch"') as made, SlowLine(made.running.port) as line:
        made.start("primary", host=f"127.0.0.1:{line.port}")
        wait_for(lambda: made.on_air == "A", "A on air", 20)
        made.start("backup")
        time.sleep(22)
        usual = float(str(made.feed("primary")["bitrate_kbps"])) * 1000 / 8

        line.rate = usual * 0.6
        time.sleep(8)
        assert made.on_air == "A", made.running.program.tail
        line.rate = usual * 0.25
        began = time.monotonic()
        wait_for(lambda: made.on_air == "B", "B on air", 12)
        took = time.monotonic() - began

        switched = made.running.wait_log("switch", lambda entry: "switched" in str(entry.get("msg")))
        assert "low-bitrate" in str(switched["msg"])
        assert 2.0 <= took <= 8.0  # 6 s are promised of a machine that is not busy (P4)
        made.check(tmp_path)


@pytest.mark.skipif(not LONG, reason="takes a minute; in short on a fake clock: tests/stream/test_jitter.py")
def test_losses_and_pauses_are_no_reason_to_switch(tmp_path: Path, files: dict[str, Path]) -> None:
    reason = cables.why_not()
    if reason:
        pytest.skip(reason)
    with cables.cable() as cable:
        extra = f'[[listen]]\nurl = "rtmp://{cables.HERE}:1936"\n'
        with show(tmp_path, files, 'mode = "switch"', extra=extra) as made:
            far = {"before": tuple(cable.command([])), "host": f"{cables.HERE}:1936"}
            made.start("primary", **far)  # type: ignore[arg-type]
            wait_for(lambda: made.on_air == "A", "A on air", 20)
            made.start("backup", **far)  # type: ignore[arg-type]
            made.wait_ready("backup")

            cable.lose(1)
            for number in range(60):
                primary = made.encoders["primary"]
                if number % 3 == 0:
                    primary.signal(signal.SIGSTOP)
                    time.sleep(0.2)
                    primary.signal(signal.SIGCONT)
                time.sleep(0.8)

            assert made.running.stream("show")["switches"] == 0
            assert made.check(tmp_path) == []
            assert capture.missing(made.session) == (0, 0)


@pytest.mark.skipif(not LONG, reason="takes half a minute; in short on a fake clock: tests/stream/test_fault_table.py")
@pytest.mark.parametrize(
    ("how", "switches"),
    [(("--clock", str(2**32 - 4000)), 0), (("--clock", str(2**31 - 4000)), 0), (("--skew", "2600"), 1)],
    ids=["wrap of 32 bits", "wrap of 31 bits", "sound 2.6 s ahead"],
)
def test_what_timestamps_do(tmp_path: Path, files: dict[str, Path], how: tuple[str, ...], switches: int) -> None:
    with show(tmp_path, files, 'mode = "switch"') as made:
        made.start("primary", *how)
        wait_for(lambda: made.on_air == "A", "A on air", 20)
        made.start("backup")
        time.sleep(10)

        assert made.running.stream("show")["switches"] == switches
        if switches:
            assert made.on_air == "B"
            assert capture.backward_steps(made.session) == 0
        else:
            assert made.check(tmp_path) == []
            assert capture.missing(made.session) == (0, 0)


@pytest.mark.skipif(not LONG, reason="takes half a minute; in short on a fake clock: tests/stream/test_fault_table.py")
def test_a_primary_that_comes_and_goes_is_not_trusted(tmp_path: Path, files: dict[str, Path]) -> None:
    with show(tmp_path, files, 'mode = "switch"\nfailback = "prefer-primary"') as made:
        made.start_both()
        for _ in range(10):
            made.lose("primary")
            made.start("primary")
            time.sleep(1)

        assert made.running.stream("show")["switches"] == 1
        (cut,) = made.check(tmp_path)
        assert cut.missed == 0


@pytest.mark.skipif(not LONG, reason="takes half a minute; in short on a fake clock: tests/stream/test_fault_table.py")
@pytest.mark.parametrize(
    ("number", "at_least_s", "at_most_s"),
    [(signal.SIGUSR1, 2.9, 5.0), (signal.SIGUSR2, 0.9, 3.0)],
    ids=["no sound", "no picture"],
)
def test_half_a_programme_is_left(
    tmp_path: Path, files: dict[str, Path], number: int, at_least_s: float, at_most_s: float
) -> None:
    """P3 and P2: 3.5 s and 1.5 s are promised of a machine that is not busy."""
    with show(tmp_path, files, 'mode = "switch"') as made:
        made.start_both()

        took = fails_over(made, lambda: made.encoders["primary"].signal(number), 8)

        assert at_least_s <= took <= at_most_s
        made.check(tmp_path)
