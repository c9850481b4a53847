"""The flap lock and the fit of a backup."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.media import aac
from relay.media.packets import Codec
from relay.stream.fit import Compatibility, compatibility
from relay.stream.policy import FlapLock
from tests.stream.media import AVC_HEADER, audio_header, tracks, video_header


@pytest.mark.parametrize(("third", "locked"), [(60.0, True), (60.1, False)])
def test_three_switches_in_a_minute_close_the_lock(third: float, locked: bool) -> None:
    lock = FlapLock()
    lock.switched(0.0)
    lock.switched(30.0)

    assert lock.switched(third) == (60.0 if locked else None)
    assert lock.locked(third) is locked
    assert lock.locked(third + 59.9) is locked
    assert not lock.locked(third + 60.0)


def test_each_lock_is_twice_as_long_up_to_five_minutes_and_calm_forgives() -> None:
    lock, now, lengths = FlapLock(), 0.0, []
    for _ in range(5):
        lock.switched(now)
        lock.switched(now + 1)
        lengths.append(lock.switched(now + 2))
        now = lock.until
    assert lengths == [60, 120, 240, 300, 300]

    now = lock.until + 601
    lock.switched(now)
    lock.switched(now)
    assert lock.switched(now) == 60
    assert lock.locks == 6


def test_equal_tracks_are_the_same_whatever_their_times() -> None:
    before = tracks(video_header(0), audio_header(0))

    assert compatibility(before, tracks(video_header(9000), audio_header(9000), generation=7)) is Compatibility.SAME


def test_other_parameters_of_the_same_size_need_new_headers() -> None:
    changed = video_header(0, AVC_HEADER[:-1] + b"\x81")

    assert compatibility(tracks(video_header()), tracks(changed)) is Compatibility.HEADERS


@pytest.mark.parametrize("what", ["codec", "rate", "missing"])
def test_another_codec_rate_or_set_of_tracks_is_another_class(what: str) -> None:
    before = tracks(video_header(), audio_header())
    if what == "codec":
        after = tracks(replace(video_header(), codec=Codec.HEVC), audio_header())
    elif what == "rate":
        after = tracks(video_header(), audio_header(0, b"\xaf\x00" + aac.build_config(2, 3, 2)))
    else:
        after = tracks(video_header())

    assert compatibility(before, after) is Compatibility.CLASS
