"""Every call of the operating system that recording makes fails in turn; then the process dies at every one of them.

What must hold: nothing is raised, the recording goes on within 5 s, every file with a final name is whole, what was
torn is mended, and the frames of a file are an unbroken piece of the stream.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from relay.api import Packet, RecordingFailed, RecordingRecovered
from relay_record.recovery import recover_all
from tests.plugins.recordrig import CALLS, Crash, Rig, errno_once, frames, rig

__all__ = ["rig"]

Make = Callable[..., Rig]

LONG = os.environ.get("RELAY_LONG") == "1"
FRAMES_A_SECOND = 25 + 47
ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT)


def scenario(made: Rig) -> list[Packet]:
    """Two files of a programme, and four seconds more in which a failure may be got over."""
    recorder = made.open()
    sent = made.play(recorder, 6)
    made.close(recorder)
    made.wait(6)
    return sent


def count_calls(rig: Make, tmp_path: Path) -> int:
    made = rig(directory=tmp_path / "dry", segment_s=2)
    scenario(made)
    return made.disk.total


def check_pieces(made: Rig, sent: list[Packet]) -> list[bytes]:
    """Every file is whole and an unbroken piece of what was sent, in order; return all frames."""
    row = [packet.body for packet in sent]
    order = {id(body): number for number, body in enumerate(row)}
    assert len(order) == len(row)
    all_frames: list[bytes] = []
    for path in made.files():
        all_frames += frames(path)
    at = 0
    for body in all_frames:
        at = row.index(body, at) + 1
    return all_frames


def unique(sent: list[Packet]) -> list[Packet]:
    """Make every frame another one, so that none can stand for another."""
    for number, packet in enumerate(sent):
        packet.body = packet.body[:-4] + number.to_bytes(4, "big")
    return sent


@pytest.fixture(autouse=True)
def _unique_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.plugins import recordrig

    original = recordrig.packets
    monkeypatch.setattr(recordrig, "packets", lambda *args, **how: iter(unique(list(original(*args, **how)))))


def test_whichever_call_fails_the_recording_goes_on_and_its_files_are_whole(rig: Make, tmp_path: Path) -> None:
    total = count_calls(rig, tmp_path)
    numbers = list(range(1, total + 1))
    picked = numbers if LONG else sorted(random.Random(7).sample(numbers, 40))
    assert total > 150
    for at in picked:
        number = ERRORS[at % len(ERRORS)]
        made = rig(directory=tmp_path / f"fail-{at}", segment_s=2)
        made.disk.fail = errno_once(at, number)
        sent = scenario(made)

        got = check_pieces(made, sent)
        assert not made.torn(), f"call {at}"
        failures = [event for event in made.events if isinstance(event, RecordingFailed)]
        mended = [event for event in made.events if isinstance(event, RecordingRecovered)]
        # One error costs what was on its way to the disk, and what came until the next keyframe after 2 s.
        assert len(got) >= len(sent) - 3.3 * FRAMES_A_SECOND, f"call {at}: {len(got)} of {len(sent)}"
        assert len(failures) <= 1
        assert len(mended) <= 1


@pytest.mark.parametrize("name", sorted(set(CALLS) - {"read_at"}))
def test_a_call_that_always_fails_stops_recording_only_and_it_recovers(rig: Make, tmp_path: Path, name: str) -> None:
    made = rig(directory=tmp_path / name, segment_s=2)
    made.disk.fail = lambda call, _: OSError(errno.EIO, "I/O error") if call == name else None
    recorder = made.open()
    sent = made.play(recorder, 4)
    made.disk.fail = lambda call, number: None
    rest = made.play(recorder, 6, start=4000)
    made.close(recorder)
    made.wait(70)

    assert not made.torn()
    row = [packet.body for packet in sent + rest]
    got = made.bodies()
    assert rest[-1].body in got[-1:]
    at = 0
    for body in got:
        assert body in row[at:] or body in row
    late = [body for body in got if body in {packet.body for packet in rest}]
    assert len(late) >= len(rest) - 4 * FRAMES_A_SECOND


def test_dying_at_any_call_leaves_whole_files_after_the_next_start(rig: Make, tmp_path: Path) -> None:
    total = count_calls(rig, tmp_path)
    numbers = list(range(1, total + 1))
    picked = numbers if LONG else sorted(random.Random(8).sample(numbers, 30))
    for at in picked:
        directory = tmp_path / f"die-{at}"
        made = rig(directory=directory, segment_s=2)
        made.disk.fail = lambda _, count, at=at: Crash() if count == at else None
        try:
            sent = scenario(made)
        except Crash:
            sent = []
        made.disk.die()
        again = rig(directory=directory)
        again.wait(2)

        assert not again.torn(), f"call {at}"
        for path in again.files():
            frames(path)
        del sent


def test_dying_while_mending_is_safe(rig: Make, tmp_path: Path) -> None:
    def torn_directory(name: str) -> Path:
        made = rig(directory=tmp_path / name)
        made.play(made.open(), 2)
        (torn,) = made.torn()
        made.disk.die()
        data = torn.read_bytes()
        torn.write_bytes(data[: len(data) - 100])
        return made.directory

    dry = rig(directory=torn_directory("dry"))
    before = dry.disk.total
    recover_all(dry.archive)
    calls = dry.disk.total - before
    whole = frames(dry.files()[0])
    assert len(whole) > 100
    for at in range(1, calls + 1):
        directory = torn_directory(f"mend-{at}")
        made = rig(directory=directory)
        made.disk.total = 0
        made.disk.fail = lambda _, count, at=at: Crash() if count == at else None
        with pytest.raises(Crash):
            recover_all(made.archive)
        made.disk.die()
        again = rig(directory=directory)
        recover_all(again.archive)

        assert not again.torn(), f"call {at}"
        assert frames(again.files()[0]) == whole, f"call {at}"


@pytest.mark.parametrize("form", ["flv", "fmp4", "ts"])
def test_a_file_cut_off_anywhere_is_mended(rig: Make, tmp_path: Path, form: str) -> None:
    made = rig(format=form)
    made.play(made.open(), 2)
    (torn,) = made.torn()
    data = torn.read_bytes()
    made.disk.die()
    rng = random.Random(form)
    for number in range(200 if LONG else 25):
        cut = rng.randrange(len(data))
        directory = tmp_path / f"cut-{number}"
        (directory / "town").mkdir(parents=True)
        (directory / "town" / torn.name).write_bytes(data[:cut])
        again = rig(directory=directory, format=form)
        assert recover_all(again.archive) == 0

        assert not again.torn()
        for path in again.files():
            assert abs(path.stat().st_size - cut) < 12_000
            if form == "flv":
                frames(path)


def test_a_file_that_is_being_written_is_left_alone_by_another_relay(rig: Make) -> None:
    made = rig()
    recorder = made.open()
    sent = made.play(recorder, 1)
    other = rig()
    recover_all(other.archive)
    assert made.torn()
    assert not made.files()
    made.close(recorder)

    assert made.bodies() == [packet.body for packet in sent]
