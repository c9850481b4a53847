"""HLS on disk: what ended is a recording, what stopped goes on, and a broken disk hurts nobody."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import m3u8
import pytest

from relay.testing import avc_frame
from relay_hls import files, journal, lending
from tests.helpers.hls import Stage, tag, uris


def stage_on(directory: Path, **options: object) -> Stage:
    return Stage(directory=str(directory), min_free_mb=0, **options)


def leave(stage: Stage, reason: str = "shutdown") -> None:
    """The relay stops in order."""
    stage.end(reason)
    stage.stop()
    release(stage)


def release(stage: Stage) -> None:
    """The process is gone, and with it its lock."""
    assert stage.plugin.store is not None
    os.close(stage.plugin.store._lock)


def events(directory: Path, stream: str = "stage") -> list[Path]:
    return sorted((directory / stream).iterdir())


def test_what_ended_can_be_played_at_once_from_the_same_files(tmp_path: Path) -> None:
    stage = stage_on(tmp_path)
    stage.start()
    stage.run(21)
    live = {name: stage.get(f"stage/{name}").body for name in uris(stage.lines())}
    stage.end()
    [event] = events(tmp_path)
    playlist = m3u8.loads(stage.text("stage/@last/main.m3u8"))
    names = [segment.uri for segment in playlist.segments]

    assert playlist.playlist_type == "vod"
    assert playlist.is_endlist
    assert names[:5] == list(live)
    assert sum(segment.duration for segment in playlist.segments) == pytest.approx(21, abs=0.1)
    assert "main.m3u8" in stage.text(f"stage/@{event.name}/index.m3u8")
    for name in names:
        answer = stage.get(f"stage/@{event.name}/{name}")
        assert answer.status == 200
        assert answer.body == live.get(name, answer.body) == (event / name).read_bytes()
    assert stage.get(f"stage/@{event.name}/{playlist.segments[0].init_section.uri}").body[4:8] == b"ftyp"
    assert [path.name for path in event.iterdir() if path.name.startswith(".")] == []


def test_each_show_is_an_event_of_its_own(tmp_path: Path) -> None:
    stage = stage_on(tmp_path)
    for _ in range(2):
        stage.start()
        stage.run(9)
        stage.end()

    first, second = events(tmp_path)
    assert {path.name for path in first.glob("*.m4s")}.isdisjoint(path.name for path in second.glob("*.m4s"))


def test_a_long_window_is_on_disk_and_only_its_end_in_memory(tmp_path: Path) -> None:
    stage = stage_on(tmp_path, window_s=600, part_ms=0)
    stage.start()
    stage.run(200)
    programme = stage.plugin.programme("stage")
    assert programme is not None
    lines = stage.lines()

    assert len(uris(lines)) == 49
    assert programme.size < 60 * 20_000
    for name in uris(lines):
        assert stage.get(f"stage/{name}").status == 200
    ranged = stage.get(f"stage/{uris(lines)[0]}", Range="bytes=4-7")
    assert (ranged.status, ranged.body) == (206, b"moof")


def test_a_restart_in_order_goes_on_in_the_same_playlist(tmp_path: Path) -> None:
    before = stage_on(tmp_path)
    before.start()
    before.run(14)
    leave(before)
    old = before.lines()
    stage = stage_on(tmp_path)
    waiting = stage.lines()
    index = stage.text("stage/index.m3u8")
    stage.start()
    stage.run(9)
    new = stage.lines()

    assert uris(waiting) == uris(old)
    assert "main.m3u8" in index
    assert uris(new)[: len(uris(old))] == uris(old)
    assert len(uris(new)) == len(uris(old)) + 2
    assert tag(new, "EXT-X-MEDIA-SEQUENCE") == tag(old, "EXT-X-MEDIA-SEQUENCE")
    assert tag(new, "EXT-X-DISCONTINUITY-SEQUENCE") == tag(old, "EXT-X-DISCONTINUITY-SEQUENCE")
    assert len(tag(new, "EXT-X-DISCONTINUITY")) == len(tag(old, "EXT-X-DISCONTINUITY")) + 1
    for name in uris(new):
        assert stage.get(f"stage/{name}").status == 200
    stage.end()
    assert len(events(tmp_path)) == 1
    assert len(uris(stage.lines("stage/@last/main.m3u8"))) == len(uris(stage.lines()))


@pytest.mark.parametrize("part_ms", [200, 400])
def test_what_is_promised_of_parts_outlives_a_restart(tmp_path: Path, part_ms: int) -> None:
    def film(stage: Stage) -> list[str]:
        start = stage.now_ms
        stage.play(avc_frame(start + n * 1000 // 24, keyframe=n % 48 == 0) for n in range(24 * 13))
        return tag(stage.lines(), "EXT-X-PART-INF")

    before = stage_on(tmp_path)
    before.start()
    promised = film(before)
    leave(before)
    stage = stage_on(tmp_path, part_ms=part_ms)
    waiting = tag(stage.lines(), "EXT-X-PART-INF")
    stage.start()

    assert promised == waiting == film(stage)
    assert promised != ["PART-TARGET=0.20000"]


def test_a_killed_relay_begins_above_everything_that_was_ever_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stage_on(tmp_path)
    before.start()
    before.run(5)
    before.switch()
    before.run(9)
    old = before.lines()
    last = int(tag(old, "EXT-X-MEDIA-SEQUENCE")[0]) + len(uris(old))  # the one that grew counts too
    discontinuities = int(tag(old, "EXT-X-DISCONTINUITY-SEQUENCE")[0]) + len(tag(old, "EXT-X-DISCONTINUITY"))
    release(before)
    monkeypatch.setattr("relay_hls.time.time", lambda: 1_600_000_000.0)  # and the clock went back
    stage = stage_on(tmp_path)
    stage.start()
    stage.run(9)
    lines = stage.lines()

    assert int(tag(lines, "EXT-X-MEDIA-SEQUENCE")[0]) > last
    assert len(tag(lines, "EXT-X-DISCONTINUITY")) == 1
    assert int(tag(lines, "EXT-X-DISCONTINUITY-SEQUENCE")[0]) >= discontinuities
    assert not set(uris(lines)) & set(uris(old))
    recorded = m3u8.loads(stage.text("stage/@last/main.m3u8"))
    assert [segment.uri for segment in recorded.segments] == uris(old)


def test_what_was_left_long_ago_is_a_recording_and_not_gone_on_with(tmp_path: Path) -> None:
    before = stage_on(tmp_path)
    before.start()
    before.run(9)
    leave(before)
    [event] = events(tmp_path)
    os.utime(event / "journal", (1, 1))
    stage = stage_on(tmp_path)

    assert stage.get("stage/main.m3u8").status == 404
    assert stage.get("stage/@last/index.m3u8").status == 200


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT, errno.EACCES])
def test_a_disk_that_fails_is_not_noticed_by_viewers_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    stage = stage_on(tmp_path)
    stage.start()
    stage.run(9)

    def fail(*arguments: object, **options: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as broken:
        broken.setattr(files, "write_file", fail)
        stage.run(8)
        assert stage.plugin.store is not None
        assert stage.plugin.store.error == os.strerror(code)
    stage.run(8)

    assert stage.plugin.store.error == ""
    assert len(uris(stage.lines())) == 6
    assert all(stage.get(f"stage/{name}").status == 200 for name in uris(stage.lines()))
    stage.end()
    recorded = stage.lines("stage/@last/main.m3u8")
    assert 3 <= len(uris(recorded)) < 7
    assert "#EXT-X-DISCONTINUITY" in recorded


def test_a_disk_with_little_room_is_left_alone(tmp_path: Path) -> None:
    stage = Stage(directory=str(tmp_path), min_free_mb=1_000_000_000)
    stage.start()
    stage.run(9)

    assert len(uris(stage.lines())) == 2
    assert list(tmp_path.rglob("*.m4s")) == []


def test_a_directory_that_is_deleted_comes_back(tmp_path: Path) -> None:
    stage = stage_on(tmp_path)
    stage.start()
    stage.run(9)
    files_before = list(tmp_path.rglob("*.m4s"))
    for path in sorted(tmp_path.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    stage.run(8)

    assert files_before
    assert list(tmp_path.rglob("*.m4s"))
    assert stage.get("stage/main.m3u8").status == 200


def test_viewers_who_do_not_read_hold_a_bounded_part_of_what_is_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = stage_on(tmp_path)
    stage.start()
    stage.play(avc_frame(40 * n, keyframe=n % 25 == 0, size=20_000) for n in range(250))
    stage.end()
    name = uris(stage.lines("stage/@last/main.m3u8"))[0]
    size = len(stage.get(f"stage/@last/{name}").body)
    monkeypatch.setattr(lending, "MAX_LENT", 2 * size)
    deaf = [stage.peer() for _ in range(2)]
    for peer in deaf:
        peer.transport.write = lambda data, to=peer.transport: to.producer and to.producer.pauseProducing()  # type: ignore[method-assign]
        peer.begin("GET", f"/hls/stage/@last/{name}")

    refused = stage.get(f"stage/@last/{name}")

    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    deaf[0].hang_up()
    for _ in range(3):
        assert stage.get(f"stage/@last/{name}").status == 200


def test_what_a_killed_relay_left_before_anything_was_shown_is_deleted_like_the_rest(tmp_path: Path) -> None:
    stage = stage_on(tmp_path, keep_days=1)
    torn = tmp_path / "stage" / "20200101T000000Z-aabbcc"
    torn.mkdir(parents=True)
    (torn / files.JOURNAL).write_bytes(journal.line(begin=7, discontinuity=3))
    (torn / "aabbcc-main-7.m4s").write_bytes(b"x")
    os.utime(torn, (1, 1))
    stage.clock.advance(3_700)
    stage.plugin.tick()

    assert not torn.exists()


def test_links_and_pipes_under_our_names_are_not_followed(tmp_path: Path) -> None:
    stage = stage_on(tmp_path)
    stage.start()
    stage.run(9)
    stage.end()
    [event] = events(tmp_path)
    (tmp_path / "secret").write_text("secret")
    epoch = event.name.partition("-")[2]
    (event / f"{epoch}-main-1.m4s").symlink_to(tmp_path / "secret")
    os.mkfifo(event / f"{epoch}-main-2.m4s")
    (event / f"{epoch}-main-3.m4s").mkdir()
    (tmp_path / "stage" / "20200101T000000Z-aabbcc").symlink_to(event)

    for number in (1, 2, 3, 4):
        assert stage.get(f"stage/@{event.name}/{epoch}-main-{number}.m4s").status == 404
    assert stage.get("stage/@20200101T000000Z-aabbcc/index.m3u8").status == 404


@pytest.mark.parametrize("name", ["journal", ".lock", "..", "index.m3u8.tmp", "x.m3u8", "main.m3u8%00", "a-main-1.m4s"])
def test_nothing_but_media_and_playlists_is_served_from_disk(tmp_path: Path, name: str) -> None:
    stage = stage_on(tmp_path)
    stage.start()
    stage.run(9)
    stage.end()
    [event] = events(tmp_path)

    assert stage.get(f"stage/@{event.name}/{name}").status == 404
    assert stage.get(f"stage/@../{name}").status == 404
    assert stage.get(f"stage/@/{name}").status == 404


def test_two_relays_do_not_share_a_directory(tmp_path: Path) -> None:
    first, second = stage_on(tmp_path), stage_on(tmp_path)
    for stage in (first, second):
        stage.start()
        stage.run(9)
        stage.end()

    assert len(events(tmp_path)) == 1
    assert len(uris(second.lines())) == 3


def test_old_recordings_are_deleted_and_nothing_else(tmp_path: Path) -> None:
    stage = stage_on(tmp_path, keep_days=1)
    for _ in range(2):
        stage.start()
        stage.run(9)
        stage.end()
    old, new = events(tmp_path)
    (old / "notes.txt").write_text("mine")
    os.utime(old, (1, 1))
    stage.clock.advance(3_700)
    stage.plugin.tick()

    assert [path.name for path in old.iterdir()] == ["notes.txt"]
    assert (new / "index.m3u8").exists()


def test_names_with_slashes_are_one_directory(tmp_path: Path) -> None:
    stage = stage_on(tmp_path)
    stage.start("tenant/room")
    stage.run(9)
    stage.end()

    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["tenant~room"]
    assert stage.get("tenant/room/@last/index.m3u8").status == 200
    assert stage.get("tenant/@last/index.m3u8").status == 404


@pytest.mark.parametrize("cut", range(0, 400, 7))
def test_a_journal_that_is_torn_anywhere_is_read_as_far_as_it_is_whole(cut: int) -> None:
    record = journal.Record(
        rendition="main",
        number=7,
        name="aabbcc-main-7.m4s",
        init="aabbcc-main-init0.mp4",
        duration_ms=4000,
        at_ms=0,
        size=9,
        independent=True,
        discontinuity=False,
    )
    whole = journal.line(begin=7, discontinuity=3) + journal.record_line(record) + journal.line(end="lost")
    found = journal.read_journal(whole[: max(len(whole) - cut, 0)])

    assert found.records in ([], [record])
    assert found.end == ("lost" if cut == 0 else "")
    assert found.begun in (0, 7)


@pytest.mark.parametrize("junk", [b"[]\n", b"5\n", b'{"segment": {}}\n', b"\xff\n", b"[" * 5000 + b"\n", b"{}\n"])
def test_junk_in_a_journal_ends_it(junk: bytes) -> None:
    assert journal.read_journal(junk).records == []


def test_whoever_waited_over_the_return_gets_a_playlist_with_parts(tmp_path: Path) -> None:
    before = stage_on(tmp_path)
    before.start()
    before.run(14)
    leave(before)
    last = int(tag(before.lines(), "EXT-X-MEDIA-SEQUENCE")[0]) + len(uris(before.lines())) - 1
    stage = stage_on(tmp_path)
    peer = stage.peer()
    peer.begin("GET", f"/hls/stage/main.m3u8?_HLS_msn={last + 1}&_HLS_part=0")
    stage.clock.advance(0)
    stage.start()
    stage.run(1)

    assert b"#EXT-X-PART:" in peer.answer().body
    peer.hang_up()


def test_a_line_that_did_not_fit_does_not_spoil_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, left = os.write, [30]

    def full(fd: int, data: Any) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = write(fd, bytes(data)[: left[0]])
        left[0] -= count
        return count

    with files.opened(tmp_path) as at:
        files.append(at, files.JOURNAL, journal.line(end="lost"))
        monkeypatch.setattr(files.os, "write", full)
        with pytest.raises(OSError, match="No space"):
            files.append(at, files.JOURNAL, journal.line(index="x" * 100, target=4))
        monkeypatch.undo()
        files.append(at, files.JOURNAL, journal.line(begin=7, discontinuity=1))
        found = journal.read_journal(files.read_file(at, files.JOURNAL))

    assert (found.begun, found.discontinuity, found.index) == (7, 1, "")
