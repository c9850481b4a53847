"""The record plugin: where files begin and end, one recording across reconnects, a disk that does not follow."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest

from relay.api import (
    Codec,
    MediaKind,
    Packet,
    RecordingFailed,
    RecordingFinished,
    Role,
    Track,
    TrackSet,
)
from relay.media import flvfile
from relay.testing import (
    PluginContract,
    aac_frame,
    aac_header,
    avc_frame,
    hevc_header,
    packets,
    result_of,
    track_set,
)
from relay_record import RecordPlugin, book
from relay_record.book import TICK_S
from relay_record.options import Options
from relay_record.recorder import QUEUE_BYTES, State
from tests.plugins.recordrig import Rig, frames, rig

__all__ = ["rig"]

Make = Callable[..., Rig]


class TestRecord(PluginContract):
    name = "record"
    plugin = RecordPlugin
    config: ClassVar = {"directory": "/nonexistent/recordings"}
    streams: ClassVar = {"stage": {"segment_s": 10}}
    bad_configs = (
        ({"directory": "/nonexistent", "format": "avi"}, "plugins.record.format"),
        ({"directory": "/nonexistent", "segment_s": -1}, "plugins.record.segment_s"),
        ({"directory": "/nonexistent", "min_free_mb": -1}, "plugins.record.min_free_mb"),
        ({"directory": "/nonexistent", "segment_clock": True}, "plugins.record"),
        ({"directory": "/nonexistent", "format": "ts", "remux": True}, "plugins.record"),
        ({"directory": "/nonexistent", "exec": "rm -rf /"}, "plugins.record.exec"),
        ({"format": "flv"}, "plugins.record.directory"),
    )
    bad_streams = (({"directory": "/elsewhere"}, "streams.stage.record.directory"),)


def bodies(sent: list[Packet]) -> list[bytes]:
    return [packet.body for packet in sent]


def other_audio() -> Packet:
    """An AAC header for mono."""
    return aac_header(bytes.fromhex("1188"))


# Where files begin and end.


def test_a_recording_holds_every_frame_as_it_came(rig: Make) -> None:
    made = rig()
    recorder = made.open()
    sent = made.play(recorder, 3)
    made.close(recorder)

    assert made.bodies() == bodies(sent)
    assert not made.torn()


@pytest.mark.parametrize(
    ("options", "count"),
    [({"segment_s": 1}, 4), ({"segment_mb": 0.02}, 2), ({"segment_s": 2, "segment_clock": True}, 3), ({}, 1)],
    ids=["duration", "size", "clock", "none"],
)
def test_segments_begin_at_keyframes_and_share_no_frame(rig: Make, options: dict[str, object], count: int) -> None:
    made = rig(**options)
    made.clock.advance(1.1)
    recorder = made.open()
    sent = made.play(recorder, 4)
    made.close(recorder)

    assert made.bodies() == bodies(sent)
    assert len(made.files()) == count
    for path in made.files():
        first = next(body for body in frames(path) if body[0] & 0x0F == 7)
        assert first[0] == 0x17
    assert len({path.name.rpartition("_")[0] for path in made.files()}) == 1


def test_a_repeated_configuration_is_no_news_and_a_new_one_begins_a_file(rig: Make) -> None:
    made = rig()
    recorder = made.open()
    sent = made.play(recorder, 1)
    recorder.configure(track_set(generation=2))
    sent += made.play(recorder, 1, start=1000)
    recorder.configure(track_set(hevc_header(), generation=3))
    sent += made.play(recorder, 1, start=2000, codec=Codec.HEVC)
    made.close(recorder)

    one, other = map(frames, made.files())
    assert one + other == bodies(sent)
    assert len(other) == len(sent) - len(one)
    assert other[0][0] == 0x93


def test_sound_of_a_new_configuration_waits_for_the_keyframe_of_its_file(rig: Make) -> None:
    made = rig()
    recorder = made.open()
    sent = made.play(recorder, 1.5)
    recorder.configure(track_set(audio=other_audio(), generation=2))
    middle = [aac_frame(1520, size=33), avc_frame(1521, size=44), aac_frame(1543, size=34)]
    for packet in middle:
        recorder.write(packet)
    made.wait(0.2)
    rest = made.play(recorder, 1, start=2000)
    made.close(recorder)

    one, other = map(frames, made.files())
    assert one == [*bodies(sent), middle[1].body]
    assert other == [middle[0].body, middle[2].body, *bodies(rest)]


def test_a_configuration_that_is_taken_back_before_its_file_began_costs_its_frames_only(rig: Make) -> None:
    made = rig()
    recorder = made.open()
    sent = made.play(recorder, 1.5)
    recorder.configure(track_set(audio=other_audio(), generation=2))
    middle = [aac_frame(1520, size=33), avc_frame(1521, size=44), aac_frame(1543, size=34)]
    for packet in middle:
        recorder.write(packet)
    recorder.configure(track_set(generation=3))
    made.wait(0.2)
    rest = made.play(recorder, 1, start=2000)
    made.close(recorder)

    assert made.bodies() == [*bodies(sent), middle[1].body, *bodies(rest)]
    assert len(made.files()) == 1
    assert made.book.recording("town").dropped_packets == 2


def test_a_track_that_is_new_loses_nothing_before_its_file_begins(rig: Make) -> None:
    made = rig()
    recorder = made.open()
    made.play(recorder, 1)
    second = Track(kind=MediaKind.AUDIO, track_id=1, codec=Codec.AAC, header=aac_header())
    recorder.configure(TrackSet((*track_set().tracks, second), generation=2))
    early = Packet(MediaKind.AUDIO, 1, Codec.AAC, Role.FRAME, False, 1010, 0, b"\x95second", 2)
    recorder.write(early)
    made.play(recorder, 1, start=2000)
    made.close(recorder)

    assert early.body in frames(made.files()[1])


def test_a_file_does_not_begin_before_a_keyframe(rig: Make) -> None:
    made = rig()
    recorder = made.open()
    for n in range(10):
        recorder.write(avc_frame(n * 40))
    made.wait(0.5)

    assert recorder.state is State.WAITING
    assert not made.files()
    assert not made.torn()


def test_sound_alone_is_recorded_when_no_picture_comes(rig: Make) -> None:
    made = rig()
    recorder = made.open()
    sent = [aac_frame(n * 20) for n in range(200)]
    for packet in sent:
        recorder.write(packet)
    made.close(recorder)

    assert 90 <= len(made.bodies()) <= 100


def test_the_first_time_in_a_file_is_that_of_the_earliest_frame(rig: Make) -> None:
    made = rig()
    recorder = made.open()
    recorder.write(avc_frame(5000, keyframe=True))
    recorder.write(aac_frame(4990))
    recorder.write(avc_frame(5040))
    made.close(recorder)
    (path,) = made.files()
    data = path.read_bytes()

    assert [tag.timestamp for tag in flvfile.read(data)][-3:] == [10, 0, 50]


@pytest.mark.parametrize("form", ["fmp4", "ts"])
def test_a_codec_that_a_container_cannot_hold_is_recorded_as_flv(rig: Make, form: str) -> None:
    made = rig(format=form)
    tracks = TrackSet((Track(kind=MediaKind.AUDIO, track_id=0, codec=Codec.SPEEX),))
    recorder = made.open(tracks=tracks)
    recorder.write(Packet(MediaKind.AUDIO, 0, Codec.SPEEX, Role.FRAME, False, 0, 0, b"\xb6sound", 1))
    made.close(recorder)

    assert [path.suffix for path in made.files()] == [".flv"]


# One recording.


def test_a_stream_that_returns_in_time_continues_its_recording(rig: Make) -> None:
    made = rig(resume_s=30)
    for pause in (20, 40):
        recorder = made.open()
        made.play(recorder, 1)
        made.close(recorder)
        made.wait(pause)
    recorder = made.open()
    made.play(recorder, 1)
    made.close(recorder)

    stems = [path.name.rpartition("_")[0] for path in made.files()]
    assert stems[0] == stems[1] != stems[2]
    documents = [json.loads(path.read_text()) for path in sorted((made.directory / "town").glob("*.json"))]
    assert [len(document["parts"]) for document in documents] == [2, 1]
    assert documents[0]["state"] == "finished"
    assert all(part["state"] == "finished" for part in documents[0]["parts"])


def after_a_restart(rig: Make, before: Rig, pause: float, **options: object) -> Rig:
    """Another relay on the same directory, *pause* seconds later by the wall clock."""
    made = rig(**options)
    made.jump = before.wall() - made.wall() + pause
    return made


def ids(made: Rig) -> list[tuple[str, str]]:
    """Id and number of every finished file."""
    return [(path.stem.rpartition("_")[0], path.stem.rpartition("_")[2]) for path in made.files()]


@pytest.mark.parametrize("died", [False, True])
def test_a_stream_that_returns_after_a_restart_continues_its_recording(rig: Make, died: bool) -> None:
    made = rig(resume_s=30)
    recorder = made.open()
    made.play(recorder, 3)
    if died:
        made.disk.die()
    else:
        made.close(recorder)
    again = after_a_restart(rig, made, 20, resume_s=30)
    recorder = again.open()
    again.play(recorder, 1)
    again.close(recorder)
    recorder = again.open()
    again.play(recorder, 1)
    again.close(recorder)
    again.wait(31)

    ((stem, first), second, third) = ids(again)
    assert (first, second, third) == ("001", (stem, "002"), (stem, "003"))
    (document,) = (json.loads(path.read_text()) for path in (again.directory / "town").glob("*.json"))
    assert [part["state"] for part in document["parts"]] == ["recovered" if died else "finished"] + ["finished"] * 2
    assert document["state"] == "finished"


def test_a_recording_that_another_relay_still_writes_is_not_continued(rig: Make) -> None:
    made = rig()
    recorder = made.open()
    made.play(recorder, 2)
    other = after_a_restart(rig, made, 2)
    theirs = other.open()
    other.play(theirs, 1)
    other.close(theirs)
    made.close(recorder)

    assert len({stem for stem, _ in ids(made)}) == 2


def test_a_recording_whose_last_file_is_just_being_mended_is_continued(rig: Make) -> None:
    made = rig()
    made.play(made.open(), 2)
    (torn,) = made.torn()
    made.disk.die()
    again = after_a_restart(rig, made, 2)
    with torn.open("rb") as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)
        again.archive.mending = torn.name
        recorder = again.open()
        recorder.write(avc_frame(0, keyframe=True))
        again.clock.advance(TICK_S)
        again.archive.writer.run_waiting()
    again.close(recorder)
    again.wait(61)

    assert len({stem for stem, _ in ids(again)}) == 1


def test_a_recording_that_was_deleted_in_part_gives_no_number_twice(rig: Make) -> None:
    made = rig(segment_s=1)
    recorder = made.open()
    made.play(recorder, 3)
    made.close(recorder)
    for path in made.files():
        path.unlink()
    again = after_a_restart(rig, made, 1)
    again.play(again.open(), 1)
    again.close(again.book._live["town"])

    assert [number for _, number in ids(again)] == ["004"]


@pytest.mark.parametrize(("pause", "resume_s"), [(40, 30), (1, 0), (-3600, 30)])
def test_a_recording_is_not_continued_when_its_time_is_over(rig: Make, pause: float, resume_s: float) -> None:
    made = rig(resume_s=30)
    recorder = made.open()
    made.play(recorder, 1)
    made.close(recorder)
    again = after_a_restart(rig, made, pause, resume_s=resume_s)
    recorder = again.open()
    again.play(recorder, 1)
    again.close(recorder)

    assert len(set(ids(again))) == 2
    assert {number for _, number in ids(again)} == {"001"}


def test_a_recording_whose_end_is_noted_is_not_continued(rig: Make) -> None:
    made = rig(resume_s=1)
    recorder = made.open()
    made.play(recorder, 1)
    made.close(recorder)
    made.wait(2.5)
    again = after_a_restart(rig, made, 1, resume_s=300)
    recorder = again.open()
    again.play(recorder, 1)
    again.close(recorder)

    assert len({stem for stem, _ in ids(again)}) == 2


@pytest.mark.parametrize("text", ["", "[]", '{"parts": 7}', '{"parts": [], "state": "recording", "seen_at": "soon"}'])
def test_a_sidecar_that_cannot_be_read_continues_nothing(rig: Make, text: str) -> None:
    made = rig()
    recorder = made.open()
    made.play(recorder, 1)
    made.close(recorder)
    (sidecar,) = (made.directory / "town").glob("*.json")
    sidecar.write_text(text)
    again = after_a_restart(rig, made, 1)
    recorder = again.open()
    again.play(recorder, 1)
    again.close(recorder)

    assert len({stem for stem, _ in ids(again)}) == 2


def test_a_clock_that_steps_back_writes_over_nothing(rig: Make) -> None:
    made = rig(resume_s=0)
    for _ in range(3):
        recorder = made.open()
        made.play(recorder, 0.4)
        made.close(recorder)
        made.wait(1)
        made.jump = made.jump - (made.wall() - 1_796_001_000.0)

    assert len(made.files()) == 3
    assert len({path.name for path in made.files()}) == 3


def test_a_relative_directory_leads_to_whole_paths(rig: Make) -> None:
    plugin = RecordPlugin(Options(directory=Path("var/recordings")), rig().book._context)

    assert plugin.book.archive.directory == Path.cwd() / "var/recordings"


def test_two_streams_share_no_folder(rig: Make) -> None:
    made = rig()
    names = ["a/b", "a", "A", "a.b", "con", "a+b".replace("+", "_")]
    for name in names:
        recorder = made.open(name)
        made.play(recorder, 0.4)
        made.close(recorder)

    folders = sorted(path.name for path in made.directory.iterdir())
    assert folders == sorted(["a+b", "a", "A", "a.b", "con", "a_b"])
    assert all(len(made.files(folder)) == 1 for folder in folders)


# By hand.


def test_recording_is_stopped_and_started_while_the_stream_is_live(rig: Make) -> None:
    made = rig()
    recorder = made.open()
    one = made.play(recorder, 1)
    made.book.end("town")
    made.play(recorder, 1, start=1000)
    assert made.book.recording("town").state == "off"
    made.book.begin("town")
    three = made.play(recorder, 1, start=2000)
    assert made.book.recording("town").state == "recording"
    made.close(recorder)

    assert made.bodies() == bodies(one) + bodies(three)


def test_a_wish_holds_for_the_next_time_the_stream_is_live(rig: Make) -> None:
    made = rig(enabled=False)
    recorder = made.open()
    made.play(recorder, 1)
    made.close(recorder)
    made.book.begin("town")
    assert made.book.recording("town").state == "waiting"
    made.play(recorder := made.open(), 1)
    made.close(recorder)

    assert len(made.files()) == 1


def test_closing_is_over_when_the_file_has_its_name(rig: Make) -> None:
    made = rig()
    recorder = made.open()
    made.play(recorder, 1)
    closing = recorder.close()
    assert closing is not None
    assert not made.files()
    made.wait(0.4)

    result_of(closing)
    assert made.files()
    assert [type(event) for event in made.events] == [RecordingFinished]


# A disk that does not follow.


def test_a_disk_that_hangs_costs_bounded_memory_and_whole_gops(rig: Make) -> None:
    made = rig()
    recorder = made.open()
    made.play(recorder, 1)
    made.hung = True
    sent = [avc_frame(1000 + n * 40, keyframe=n % 25 == 0, size=100_000) for n in range(750)]
    most = 0
    for packet in sent:
        recorder.write(packet)
        made.wait(0.08)
        most = max(most, recorder.queued)
    assert QUEUE_BYTES < most < QUEUE_BYTES + 400_000
    assert made.book.recording("town").dropped_packets > 600
    made.hung = False
    made.wait(0.2)
    rest = made.play(recorder, 2, start=31_000)
    made.close(recorder)

    assert made.bodies()[-len(rest) :] == bodies(rest)
    (path,) = made.files()
    kept = frames(path)
    at = kept.index(rest[0].body)
    assert kept[at][0] == 0x17


def test_an_error_of_ours_in_one_recording_leaves_the_others_alone(rig: Make) -> None:
    place = rig()
    broken, well = place.open("broken"), place.open("well")

    def flush() -> None:
        raise ZeroDivisionError

    for packet in packets(2.0):
        broken.write(packet)
        well.write(packet)
    assert broken.part is not None
    broken.part.flush = flush  # type: ignore[method-assign]
    place.wait(1.0)
    place.play(broken, 4.0, start=2000)
    place.close(well)

    assert len(place.files("well")) == 1
    assert [event.stream for event in place.events if isinstance(event, RecordingFailed)] == ["broken"]
    assert broken.state.value == "recording"


def test_what_was_written_only_grows_and_stays_known_when_the_stream_is_over(rig: Make) -> None:
    place = rig(segment_s=1)
    seen = [0]
    recorder = place.open()
    for part in range(4):
        place.hung = True  # the disk is slow to finish files
        place.play(recorder, 1.0, start=part * 1000)
        seen.append(place.book.recording("town").bytes_written)
        place.hung = False
        for worker in place.archive.workers:
            worker.run_waiting()
            seen.append(place.book.recording("town").bytes_written)
        place.clock.advance(TICK_S)
        seen.append(place.book.recording("town").bytes_written)
    place.close(recorder)
    place.wait(1.0)
    plan = place.book.recording("town")

    assert seen == sorted(seen)
    assert plan.bytes_written == sum(path.stat().st_size for path in place.files())
    assert (plan.state, plan.files) == ("waiting", 4)


def test_the_numbers_of_streams_that_are_over_are_forgotten_when_there_are_too_many(
    rig: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book, "MAX_STREAMS", 3)
    place = rig()
    lasting = place.open("lasting")
    place.play(lasting, 1.0)
    written = place.book.recording("lasting").bytes_written
    for name in ("a", "b", "c", "d"):
        recorder = place.open(name)
        place.play(recorder, 0.2)
        place.close(recorder)

    assert place.book.recording("lasting").bytes_written >= written > 0
    assert [place.book.recording(name).files for name in ("a", "b", "d")] == [0, 0, 1]


def test_a_reserve_of_the_disk_is_left_free(rig: Make) -> None:
    made = rig(min_free_mb=1000)
    made.disk.free = 2_000_000_000
    recorder = made.open()
    made.play(recorder, 2)
    made.disk.free = 900_000_000
    made.play(recorder, 3, start=2000)
    assert made.book.recording("town").state == "full"
    assert len(made.files()) == 1
    made.disk.free = 2_000_000_000
    made.play(recorder, 5, start=5000)
    assert made.book.recording("town").state == "recording"
    made.close(recorder)

    assert len(made.files()) == 2


def test_a_file_that_somebody_deletes_is_followed_by_another(rig: Make) -> None:
    made = rig()
    recorder = made.open()
    made.play(recorder, 2)
    (path,) = made.torn()
    path.unlink()
    made.play(recorder, 6, start=2000)
    made.close(recorder)

    assert len(made.files()) == 1
    assert [type(event) for event in made.events] == [RecordingFailed, RecordingFinished]


def test_a_directory_that_is_gone_is_made_again(rig: Make) -> None:
    made = rig()
    recorder = made.open()
    made.play(recorder, 2)
    shutil.rmtree(made.directory)
    made.play(recorder, 6, start=2000)
    made.close(recorder)

    assert len(made.files()) == 1


def test_short_writes_are_completed(rig: Make) -> None:
    made = rig()
    made.disk.most_at_once = 100
    recorder = made.open()
    sent = made.play(recorder, 1)
    made.close(recorder)

    assert made.bodies() == bodies(sent)


def test_what_stands_in_the_way_is_left_alone(rig: Make, tmp_path: Path) -> None:
    made = rig()
    folder = made.directory / "town"
    folder.mkdir(parents=True)
    outside = tmp_path / "outside"
    recorder = made.open()
    recorder.write(avc_frame(0, keyframe=True))
    stem = "town_" + time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(made.wall()))
    (folder / f"{stem}-2_001.flv.part").symlink_to(outside)
    os.mkfifo(folder / f"{stem}_001.flv.part")
    (folder / f"{stem}-3_001.flv").mkdir()
    made.play(recorder, 1, start=40)
    made.close(recorder)

    assert not outside.exists()
    assert [path.name for path in made.files() if path.is_file()] == [f"{stem}-4_001.flv"]


def test_a_folder_that_is_a_link_is_not_followed(rig: Make, tmp_path: Path) -> None:
    made = rig()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    made.directory.mkdir()
    (made.directory / "town").symlink_to(elsewhere)
    recorder = made.open()
    made.play(recorder, 1)

    assert made.book.recording("town").state == "degraded"
    assert not list(elsewhere.iterdir())
