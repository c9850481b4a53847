"""The rules of safe recording (reliability.md §4.2) that no other test states: who touches the disk, what is suspect,
what the sidecar says, how much room is left, and what a remux that goes wrong leaves behind."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from relay.api import RecordingFailed, RecordingFinished, RecordingRecovered
from relay.mux import remux
from relay.testing import AAC_CONFIG, AVC_CONFIG
from relay_record import finishing
from relay_record.disk import PosixDisk
from relay_record.finishing import make_progressive
from relay_record.names import parse_file
from tests.mux import boxreader
from tests.plugins.recordrig import Crash, FaultyDisk, Rig, errno_once, rig

__all__ = ["rig"]

Make = Callable[..., Rig]

LONG = os.environ.get("RELAY_LONG") == "1"


def sidecar(made: Rig) -> dict[str, Any]:
    (path,) = (made.directory / "town").glob("*.json")
    document = json.loads(path.read_text())
    assert isinstance(document, dict)
    return document


def test_only_the_threads_touch_the_disk(rig: Make) -> None:
    made = rig(segment_s=1, keep_mb=0.01, format="fmp4")
    outside: list[str] = []

    def note(name: str, _: int) -> None:
        if not made.working:
            outside.append(name)

    made.disk.fail = note
    recorder = made.open()
    for start in range(0, 8000, 2000):
        made.play(recorder, 2, start=start)
        (made.book.end if recorder.on else made.book.begin)("town")
        made.book.recording("town")
    made.close(recorder)
    made.wait(61)
    made.book.stop()

    assert made.disk.total > 100
    assert outside == []


def test_a_stream_is_recorded_while_old_files_are_being_mended(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    before = rig()
    before.play(before.open(), 2)
    before.disk.die()
    made = rig()
    monkeypatch.setattr(made.archive.chores, "run_waiting", lambda: None)  # a big file takes its time
    recorder = made.open()
    sent = made.play(recorder, 2)
    made.close(recorder)
    assert made.bodies() == [packet.body for packet in sent]
    monkeypatch.undo()
    made.work()

    assert len(made.files()) == 2
    assert not made.torn()


def test_after_a_sync_that_failed_the_file_is_suspect_and_another_begins(rig: Make) -> None:
    made = rig()
    recorder = made.open()
    made.play(recorder, 2)
    (torn,) = made.torn()
    made.disk.fail = lambda name, _: OSError(errno.EIO, "I/O error") if name == "sync_data" else None
    made.play(recorder, 1, start=2000)
    made.disk.fail = lambda name, _: None
    size = torn.stat().st_size
    made.play(recorder, 3, start=3000)
    assert torn.stat().st_size == size, "something was written after the error"
    made.play(recorder, 6, start=6000)
    made.close(recorder)

    first, second = sidecar(made)["parts"]
    assert (first["file"], first["state"]) == (torn.name.removesuffix(".part"), "suspect")
    assert second["state"] == "finished"
    assert len([event for event in made.events if isinstance(event, RecordingFailed)]) == 1
    assert [event.suspect for event in made.events if isinstance(event, RecordingRecovered)] == [True]


def test_the_directory_itself_survives_a_loss_of_power(tmp_path: Path) -> None:
    synced: list[str] = []

    class Noting(PosixDisk):
        def sync(self, fd: int) -> None:
            synced.append(os.readlink(f"/proc/self/fd/{fd}"))

    for _ in range(2):
        os.close(Noting().open_root(tmp_path / "var" / "recordings"))

    assert sorted(synced) == [str(tmp_path), str(tmp_path / "var")]


class NoDirectorySync(FaultyDisk):
    """A file system that cannot sync directories."""

    def sync(self, fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")


def test_a_file_system_that_cannot_sync_directories_is_recorded_on(rig: Make) -> None:
    made = rig(disk=lambda clock: NoDirectorySync())
    recorder = made.open()
    sent = made.play(recorder, 3)
    made.close(recorder)

    assert made.bodies() == [packet.body for packet in sent]
    assert [type(event) for event in made.events] == [RecordingFinished]


def test_the_sidecar_says_every_second_what_is_good(rig: Make) -> None:
    made = rig()
    recorder = made.open()
    seen = []
    for second in range(4):
        made.play(recorder, 1, start=second * 1000)
        (part,) = sidecar(made)["parts"]
        seen.append((part["last_ms"], part["good_bytes"]))
        assert part["good_bytes"] <= made.torn()[0].stat().st_size
    document = sidecar(made)

    assert all(800 < later[0] - former[0] < 1200 for former, later in pairwise(seen))
    assert all(later[1] > former[1] for former, later in pairwise(seen))
    assert (document["stream"], document["format"], document["state"]) == ("town", "flv", "recording")
    assert document["started_at"] <= document["seen_at"]
    video, audio = part["tracks"]
    assert (video["codec"], video["config"], audio["config"]) == ("avc1", AVC_CONFIG.hex(), AAC_CONFIG.hex())
    assert (part["first_ms"], video["codec_string"]) == (0, "avc1.42C01E")


@pytest.mark.parametrize(("total", "reserve"), [(10_000_000_000, 1 << 30), (500_000_000_000, 10_000_000_000)])
def test_one_gibibyte_or_two_per_cent_stay_free(rig: Make, total: int, reserve: int) -> None:
    made = rig(min_free_mb=None)
    made.archive.total = total
    states = []
    for free in (reserve, reserve - 1):
        made.archive.free = free
        states.append(made.book.has_room())

    assert states == [True, False]


def test_a_fragment_begins_at_every_keyframe_and_none_is_longer_than_a_second(rig: Make) -> None:
    made = rig(format="fmp4")
    recorder = made.open()
    made.play(recorder, 5)
    made.close(recorder)
    data = made.files()[0].read_bytes()
    (video,) = (number for number, track in boxreader.tracks(data).items() if track.handler == "vide")
    scale = boxreader.tracks(data)[video].scale

    keyframes = 0
    for box in boxreader.boxes(data):
        if box.name == "moof":
            samples = [sample for sample in boxreader.fragment_samples(data, box) if sample.track == video]
            assert not any(sample.sync for sample in samples[1:])
            assert sum(sample.duration for sample in samples) <= scale
            keyframes += sum(sample.sync for sample in samples)
    assert keyframes == 5


# Making a progressive file.


def finished(rig: Make, directory: Path) -> tuple[Rig, Path, bytes]:
    """A finished fragmented file that waits to be made progressive."""
    made = rig(directory=directory, format="fmp4", remux=True)
    recorder = made.open()
    made.play(recorder, 1)
    made.book._stopping = True
    made.close(recorder)
    (path,) = made.files()
    return made, path, path.read_bytes()


def is_progressive(data: bytes) -> bool:
    return [box.name for box in boxreader.boxes(data)][:1] == ["ftyp"] and b"moof" not in data and b"mdat" in data


def test_a_remux_that_is_not_the_same_leaves_the_recording(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    progressive = remux.progressive

    def damage(reading: BinaryIO, writing: BinaryIO, **how: Any) -> object:
        made = progressive(reading, writing, **how)
        writing.seek(-1, 2)
        writing.write(b"!")
        return made

    monkeypatch.setattr(finishing.remux, "progressive", damage)
    made = rig(format="fmp4", remux=True)
    recorder = made.open()
    made.play(recorder, 1)
    made.close(recorder)
    made.wait(1)

    (path,) = made.files()
    assert not is_progressive(path.read_bytes())
    assert sorted(one.suffix for one in path.parent.iterdir()) == [".json", ".mp4"]
    assert len([event for event in made.events if isinstance(event, RecordingFinished)]) == 1


@pytest.mark.parametrize("dies", [False, True])
def test_a_remux_that_fails_at_any_call_leaves_one_whole_file(rig: Make, tmp_path: Path, dies: bool) -> None:
    made, path, _ = finished(rig, tmp_path / "dry")
    name = parse_file(path.name)
    assert name is not None
    before = made.disk.total
    assert not make_progressive(made.archive, "town", name, lambda: False)
    calls = made.disk.total - before
    whole = path.read_bytes()
    assert is_progressive(whole)
    for at in range(1, calls + 1) if LONG else range(1 + dies, calls + 1, 3):
        made, path, source = finished(rig, tmp_path / f"{at}")
        made.disk.total = 0
        fails = errno_once(at, errno.ENOSPC)
        made.disk.fail = (lambda name, number, at=at: Crash() if number == at else None) if dies else fails
        try:
            make_progressive(made.archive, "town", name, lambda: False)
        except Crash:
            made.disk.die()
        assert path.read_bytes() in (source, whole), f"call {at}"
        made.disk.fail = lambda name, number: None
        again = rig(directory=made.directory, format="fmp4", remux=True)
        again.wait(1)

        assert path.read_bytes() == whole, f"call {at}"
