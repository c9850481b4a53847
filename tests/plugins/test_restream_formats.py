"""What a target does when the programme comes in another format: another codec, size, rate or set of tracks."""

from __future__ import annotations

import pytest

from relay.api import MediaKind, TrackSet
from relay.testing import hevc_header, track_set
from tests.plugins.test_restream import HERE, Relay

AVC = track_set()
HEVC = track_set(hevc_header(), generation=2)
SILENT = TrackSet(tuple(track for track in AVC.tracks if track.kind is MediaKind.VIDEO), generation=3)


def started(policy: str) -> Relay:
    relay = Relay({"stage": {"one": {**HERE, "new_format": policy}, "other": {**HERE, "key": "other"}}})
    relay.pushes.slow = True
    return relay


def test_inline_stays_on_the_same_connection() -> None:
    relay = started("inline")
    sink = relay.start()

    sink.configure(HEVC)

    assert set(relay.pushes.targets) == {"one", "other"}
    assert relay.pushes.of("one").configured[-1] == HEVC
    assert relay.pushes.leaving == []


@pytest.mark.parametrize("tracks", [HEVC, SILENT], ids=["codec", "tracks"])
def test_reconnect_leaves_and_comes_back_and_the_other_target_does_not_notice(tracks: TrackSet) -> None:
    relay = started("reconnect")
    sink = relay.start()

    sink.configure(tracks)

    assert set(relay.pushes.targets) == {"other"}
    assert len(relay.pushes.leaving) == 1
    assert relay.plan("one").state == "waiting"
    relay.pushes.gone()
    assert set(relay.pushes.targets) == {"one", "other"}
    assert relay.pushes.leaving == []


def test_reconnect_does_not_when_only_the_parameters_are_new() -> None:
    relay = started("reconnect")
    sink = relay.start()

    sink.configure(TrackSet(AVC.tracks, generation=2))

    assert set(relay.pushes.targets) == {"one", "other"}


def test_refuse_waits_for_the_first_format() -> None:
    relay = started("refuse")
    sink = relay.start()

    sink.configure(HEVC)
    relay.pushes.gone()

    assert set(relay.pushes.targets) == {"other"}
    assert (relay.plan("one").state, relay.plan("one").reason) == ("refused", "fit")
    assert "another format" in relay.plan("one").detail
    sink.configure(AVC)
    assert set(relay.pushes.targets) == {"one", "other"}


def test_the_format_of_the_next_programme_counts_anew() -> None:
    relay = started("refuse")
    relay.start().close()
    relay.pushes.gone()

    relay.start(tracks=HEVC)

    assert "one" in relay.pushes.targets
