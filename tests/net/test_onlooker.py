"""Where the reactor stood when it was late, and that a suspended process accuses nobody."""

from __future__ import annotations

import sys
import threading
from types import FrameType

import pytest

from relay.net.onlooker import LOOK_S, MOST_FRAMES, Onlooker, Place, Stack, brief, stack_of


class Rig:
    """An onlooker whose time and looks a test makes."""

    def __init__(self) -> None:
        self.now = 50.0
        self.computed = 7.0
        self.stuck: list[tuple[float, Stack]] = []
        self.samples = 0
        self.on_sample = lambda: None
        self.onlooker = Onlooker(
            lambda: self.now,
            interval_s=0.25,
            late_s=0.25,
            stuck_s=5.0,
            on_stuck=lambda late, stack: self.stuck.append((late, stack)),
            plugin_of=lambda module: "guilty" if module == __name__ else "",
            frames=self.frames,
            computed=lambda: self.computed,
        )
        self.onlooker._looked_at, self.onlooker._computed_at = self.now, self.computed

    def frames(self) -> dict[int, FrameType]:
        self.samples += 1
        self.on_sample()
        return {threading.get_ident(): sys._getframe()}

    def look(self, looks: int = 1, apart: float = LOOK_S) -> None:
        for _ in range(looks):
            self.now += apart
            self.onlooker.look()


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_reactor_that_beats_is_never_sampled(rig: Rig) -> None:
    for _ in range(100):
        rig.look(2)
        rig.onlooker.beat()

    assert rig.samples == 0


def test_a_late_reactor_is_sampled_once_and_the_sample_names_the_plugin(rig: Rig) -> None:
    rig.look(4)
    assert rig.onlooker.stack == ()

    rig.look(10)

    assert rig.samples == 1
    assert rig.onlooker.stack[0].function == "frames"
    assert brief(rig.onlooker.stack).startswith("frames (net/test_onlooker.py:")
    assert brief(rig.onlooker.stack).endswith(" of plugin guilty")


def test_the_next_beat_ends_it(rig: Rig) -> None:
    rig.look(10)
    rig.onlooker.beat()
    assert rig.onlooker.stack == ()

    rig.look(4)

    assert rig.samples == 1


def test_a_suspended_process_accuses_nobody_however_long_it_was(rig: Rig) -> None:
    for _ in range(20):
        rig.look(2)
        rig.look(apart=600.0)  # SIGSTOP fell between two looks; this one is the first after SIGCONT
        rig.onlooker.beat()
        rig.look()

    assert (rig.samples, rig.stuck) == (0, [])


def test_a_c_function_that_keeps_the_lock_is_found_by_the_first_look_after_it(rig: Rig) -> None:
    rig.look(2)
    rig.computed += 0.6

    rig.look(apart=0.7)

    assert rig.samples == 1
    assert rig.onlooker.stack[0].function == "frames"


def test_other_threads_that_compute_make_no_time(rig: Rig) -> None:
    for _ in range(3):
        rig.computed += 100.0
        rig.look()

    assert rig.samples == 0


def test_a_reactor_that_comes_to_while_it_is_looked_at_is_not_accused(rig: Rig) -> None:
    rig.on_sample = rig.onlooker.beat

    rig.look(6)

    assert rig.samples == 1
    assert rig.onlooker.stack == ()


def test_after_five_seconds_the_whole_stack_is_told_once(rig: Rig) -> None:
    rig.look(50)
    assert rig.stuck == []

    rig.look(100)

    ((late, stack),) = rig.stuck
    assert late == pytest.approx(5.0, abs=0.2)
    assert len(stack) > 5

    rig.onlooker.beat()
    rig.look(60)

    assert len(rig.stuck) == 2


def test_a_frame_says_where_and_no_value() -> None:
    def inner(secret: str) -> Stack:
        return stack_of(sys._getframe())

    stack = inner("canary")

    assert stack[0].function == "inner"
    assert stack[0].file == "net/test_onlooker.py"
    assert "canary" not in str(stack)


def test_a_deep_stack_is_cut() -> None:
    def down(levels: int) -> Stack:
        return down(levels - 1) if levels else stack_of(sys._getframe())

    assert len(down(200)) == MOST_FRAMES


def test_a_thread_that_is_gone_has_no_stack() -> None:
    assert stack_of(None) == ()
    assert brief(()) == ""


@pytest.mark.parametrize(
    ("plugins", "said"),
    [
        (["", "", "", ""], "f0 (x:0), called by f1 (x:1), called by f2 (x:2)"),
        (["ours", "", "ours", ""], "f0 (x:0) of plugin ours"),
        (["", "", "", "ours"], "f0 (x:0), called by f3 (x:3) of plugin ours"),
    ],
)
def test_the_short_form_has_the_innermost_frame_and_the_plugins(plugins: list[str], said: str) -> None:
    stack = tuple(Place(function=f"f{n}", file="x", line=n, plugin=name) for n, name in enumerate(plugins))

    assert brief(stack) == said


def test_its_thread_looks_at_the_one_that_started_it_and_ends(rig: Rig) -> None:
    asked = threading.Event()
    seen: list[int] = []
    now = iter(range(1_000_000))

    def frames() -> dict[int, FrameType]:
        seen.append(threading.get_ident())
        asked.set()
        return sys._current_frames()

    onlooker = Onlooker(
        lambda: next(now), interval_s=0.0, late_s=0.1, stuck_s=1e9, on_stuck=lambda *_: None, frames=frames
    )
    onlooker.start()
    assert asked.wait(10)
    onlooker.stop()
    threads = [thread for thread in threading.enumerate() if thread.ident == seen[0]]
    for thread in threads:
        thread.join(10)

    assert seen[0] != threading.get_ident()
    assert not any(thread.is_alive() for thread in threads)
    assert all(thread.daemon for thread in threads)
    assert any(
        place.function == "test_its_thread_looks_at_the_one_that_started_it_and_ends" for place in onlooker.stack
    )
