"""M-REC: random days of a recording, and what must hold on its files at every moment of them (reliability.md §4).

A day is made of pictures and sound, calls of the operating system that fail or write too little, a disk that hangs or
fills up, an encoder that goes and returns, an operator who stops and starts, a relay that dies at any call and starts
again. The files are read back after every step.
"""

from __future__ import annotations

import errno
import json
import os
import tempfile
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from relay.api import Packet
from relay.testing import aac_frame, aac_header, avc_frame, track_set
from relay_record import recorder as recorder_module
from relay_record.recorder import Recorder, State
from relay_record.worker import Worker
from tests.plugins.recordrig import CALLS, Crash, Rig, frames

LONG = os.environ.get("RELAY_LONG") == "1"
ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT)
QUEUE = 64 * 1024
"""Little, so that a disk that hangs for seconds makes the recorder leave pictures out."""
BATCH_MS = 80
KILL_MS = 200
TRACKS = (track_set(), track_set(audio=aac_header(bytes.fromhex("1188")), generation=2))


Key = tuple[str, int]
"""Sound or picture, and its number."""


def keys(path: Path) -> list[Key]:
    """The frames of a file, which must be whole."""
    return [(body[-9:-8].decode(), int(body[-8:])) for body in frames(path)]


class Recordings(RuleBasedStateMachine):
    """One stream, its relay and its disk."""

    base: ClassVar[Path]

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(dir=self.base))
        self.sent: list[tuple[float, Key]] = []  # since this relay's start, and when
        self.counts = {"V": 0, "A": 0}
        self.dts = 0
        self.since_keyframe = 0
        self.generation = 0
        self.plan: list[list[object]] = []
        self.die_in = 0
        self.calm_since = 0.0
        self.finished: dict[str, tuple[int, int]] = {}
        self.deleted: set[str] = set()
        self.dropped = False

    @initialize(segment_s=st.sampled_from([0, 1, 2]))
    def begin(self, segment_s: int) -> None:
        """The relay starts and the encoder comes."""
        self.options = {"segment_s": segment_s, "min_free_mb": 1}
        self.made = Rig(self.directory, **self.options)
        self.connect()

    def connect(self) -> None:
        self.made.disk.fail = self.fail
        self.made.disk.free = self.made.disk.free or 10**12
        self.recorder: Recorder = self.made.open(tracks=TRACKS[self.generation])
        self.since_keyframe = 0

    def fail(self, name: str, _: int) -> BaseException | None:
        if self.die_in:
            self.die_in -= 1
            if not self.die_in:
                return Crash()
        for plan in self.plan:
            call, number, left = plan
            if call in ("", name) and isinstance(left, int) and isinstance(number, int):
                plan[2] = left - 1
                self.plan = [one for one in self.plan if one[2]]
                self.disturb()
                return OSError(number, os.strerror(number))
        return None

    def disturb(self) -> None:
        """From now on the last moments may be lost for other reasons than a relay that died."""
        self.calm_since = float("inf")

    # What happens.

    def frame(self) -> Packet:
        """The next frame: a picture every 40 ms, sound between them, a keyframe every second."""
        kind = "A" if self.since_keyframe % 2 else "V"
        if kind == "A":
            packet = aac_frame(self.dts, size=60)
        else:
            packet = avc_frame(self.dts, keyframe=not self.since_keyframe % 50, size=400)
        self.since_keyframe += 1
        self.dts += 20
        self.counts[kind] += 1
        packet.body = packet.body[:-9] + b"%s%08d" % (kind.encode(), self.counts[kind])
        self.sent.append((self.made.clock.seconds(), (kind, self.counts[kind])))
        return packet

    def play(self, milliseconds: int) -> None:
        """Let programme come in."""
        for _ in range(milliseconds // BATCH_MS):
            for _ in range(BATCH_MS // 20):
                self.recorder.write(self.frame())
            self.made.wait(BATCH_MS / 1000)
            if self.calm_since == float("inf") and self.recorder.state is State.RECORDING and not self.plan:
                self.calm_since = self.made.clock.seconds()
            self.dropped |= self.recorder.totals.dropped_packets > 0

    @rule(milliseconds=st.integers(80, 3000))
    def programme(self, milliseconds: int) -> None:
        """Frames come; the relay may die of it."""
        try:
            self.play(milliseconds)
        except Crash:
            self.restart()

    @rule(call=st.sampled_from(["", *CALLS]), number=st.sampled_from(ERRORS), times=st.integers(1, 40))
    def calls_fail(self, call: str, number: int, times: int) -> None:
        """The next calls of one kind, or of any, fail."""
        self.plan.append([call, number, times])

    @rule(most=st.sampled_from([None, 1, 7, 1000]))
    def writes_are_short(self, most: int | None) -> None:
        self.made.disk.most_at_once = most

    @rule()
    def disk_hangs_or_works_again(self) -> None:
        self.made.hung = not self.made.hung
        self.disturb()

    @rule()
    def disk_fills_up_or_is_cleared(self) -> None:
        self.made.disk.free = 10**12 if self.made.disk.free == 1000 else 1000
        self.disturb()

    @rule()
    def operator_stops_or_starts(self) -> None:
        (self.made.book.end if self.recorder.on else self.made.book.begin)("town")
        self.disturb()

    @rule(pause=st.sampled_from([0.1, 2.0, 400.0]))
    def encoder_returns(self, pause: float) -> None:
        self.disturb()
        self.recorder.close()
        try:
            self.made.wait(min(pause, 5))
            self.made.clock.advance(max(0.0, pause - 5))
            self.made.work()
        except Crash:
            self.restart()
        else:
            self.connect()

    @rule()
    def encoder_changes_its_parameters(self) -> None:
        self.generation = 1 - self.generation
        self.recorder.configure(TRACKS[self.generation])
        self.disturb()  # sound of the new parameters waits for the keyframe of its file

    @rule(seconds=st.sampled_from([-4000.0, -1.0, 5.0, 100_000.0]))
    def wall_clock_is_set(self, seconds: float) -> None:
        self.made.jump += seconds

    @precondition(lambda self: self.finished)
    @rule(data=st.data())
    def somebody_deletes_a_file(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.finished)))
        (self.directory / "town" / name).unlink(missing_ok=True)
        self.deleted.add(name)
        del self.finished[name]

    @rule()
    def somebody_deletes_the_sidecars(self) -> None:
        for path in (self.directory / "town").glob("*.json"):
            path.unlink()

    @rule(calls=st.integers(1, 60))
    def relay_will_die(self, calls: int) -> None:
        """At the so-manieth call from now."""
        self.die_in = calls

    @rule()
    def relay_dies(self) -> None:
        """Between two calls."""
        self.restart()

    def restart(self) -> None:
        """The process is gone; the next one starts and mends, perhaps on a disk that fails."""
        before, calm = self.made, self.calm_since
        died_at = before.clock.seconds()
        was_recording = self.recorder.state is State.RECORDING and not before.hung
        self.die_in = 0
        before.disk.die()
        self.made = Rig(self.directory, **self.options)
        self.made.jump = before.wall() - self.made.wall() + 1
        self.made.disk.free = before.disk.free
        quiet = not self.plan
        self.connect()
        self.made.wait(0.5)
        if quiet and was_recording and calm < died_at:
            wanted = {key for at, key in self.sent if calm + 3 < at <= died_at - KILL_MS / 1000}
            lost = wanted - self.found()
            assert not lost or self.deleted, f"a relay that died lost more than 0.2 s: {sorted(lost)}"
        self.sent.clear()
        self.deleted.clear()
        self.calm_since = float("inf")

    # What must hold.

    def found(self) -> set[Key]:
        return {key for path in self.made.files() for key in keys(path)}

    @invariant()
    def a_final_name_means_whole_and_no_frame_is_twice(self) -> None:
        if not hasattr(self, "made"):
            return
        found: set[Key] = set()
        for path in self.made.files():
            inside = keys(path)
            for kind in "VA":
                numbers = [number for one, number in inside if one == kind]
                assert numbers == sorted(set(numbers)), f"{path.name}: out of order"
                if not self.dropped and numbers:
                    assert len(numbers) == numbers[-1] - numbers[0] + 1, f"{path.name}: a hole"
            assert not found & set(inside), f"{path.name}: frames that are in another file, too"
            found.update(inside)

    @invariant()
    def what_was_finished_stays_as_it_is(self) -> None:
        if not hasattr(self, "made"):
            return
        for path in self.made.files():
            about = path.stat()
            self.finished.setdefault(path.name, (about.st_size, about.st_mtime_ns))
        for name, seen in self.finished.items():
            about = (self.directory / "town" / name).stat()
            assert (about.st_size, about.st_mtime_ns) == seen, f"{name} changed"

    @invariant()
    def memory_is_bounded(self) -> None:
        if hasattr(self, "recorder"):
            assert self.recorder.queued <= QUEUE + 32 * 1024

    def teardown(self) -> None:
        """Everything works again: so does the recording, and nothing is left torn or unlisted."""
        if not hasattr(self, "made"):
            return
        self.plan, self.die_in, self.made.hung = [], 0, False
        self.made.disk.free, self.made.disk.most_at_once = 10**12, None
        self.made.book.begin("town")
        self.made.wait(3)
        start = self.made.clock.seconds()
        self.play(8000)
        late = {key for at, key in self.sent if at >= start + 5}
        self.recorder.close()
        self.made.wait(70)
        self.a_final_name_means_whole_and_no_frame_is_twice()
        assert late <= self.found(), "the recording did not go on within 5 s"
        assert not self.made.torn()
        self.restart()  # what is missing in a sidecar is made good then
        listed = {}
        for path in (self.directory / "town").glob("*.json"):
            listed.update({part["file"]: part["state"] for part in json.loads(path.read_text())["parts"]})
        for path in self.made.files():
            assert listed.get(path.name) in ("finished", "recovered", "suspect"), (
                f"{path.name}: {listed.get(path.name)}"
            )


def test_a_recording_survives_random_days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Worker, "start", lambda self: None)
    monkeypatch.setattr(recorder_module, "QUEUE_BYTES", QUEUE)
    Recordings.base = tmp_path
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Recordings,
        settings=settings(
            max_examples=1000 if LONG else 20,
            stateful_step_count=40 if LONG else 20,
            deadline=None,
            derandomize=not LONG,
            database=None,
            report_multiple_bugs=False,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
