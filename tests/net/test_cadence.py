"""What comes next, and when it is given up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.media.packets import Packet
from relay.net.cadence import MAX_STEP_MS, Cadence
from tests.helpers.seats import picture, sound


def heard(*arrivals: tuple[Packet, float]) -> Cadence:
    cadence = Cadence()
    for packet, now in arrivals:
        cadence.note(packet, now)
    return cadence


EXACT = 1e-6


def test_nothing_is_expected_of_a_stream_that_said_one_thing() -> None:
    cadence = heard((picture(0, 0), 10.0), (sound(0, 0), 10.0))
    assert not cadence.expects(10.0, 11.0, 1.0)


@pytest.mark.parametrize(("until", "expected"), [(10.039, False), (10.041, True)])
def test_a_track_goes_on_at_the_distance_of_its_last_two_timestamps(until: float, expected: bool) -> None:
    cadence = heard((picture(0, 0), 9.96), (picture(1, 40), 10.0))
    assert cadence.expects(10.0, until, EXACT) is expected


@pytest.mark.parametrize(("now", "expected"), [(10.079, True), (10.081, False)])
def test_what_is_overdue_by_a_whole_step_is_given_up(now: float, expected: bool) -> None:
    cadence = heard((picture(0, 0), 9.96), (picture(1, 40), 10.0))
    assert cadence.expects(now, now + 0.02, EXACT) is expected


@pytest.mark.parametrize(
    ("step", "expected"), [(MAX_STEP_MS, True), (MAX_STEP_MS + 1, False), (0, False), (-40, False)]
)
def test_only_a_step_that_a_flush_could_wait_for_is_one(step: int, expected: bool) -> None:
    cadence = heard((picture(0, 1000), 10.0 - step / 1000), (picture(1, 1000 + step), 10.0))
    assert cadence.expects(10.0, 11.0, EXACT) is expected


@pytest.mark.parametrize(("off", "expected"), [(-0.0031, False), (-0.0029, True), (0.0029, True), (0.0031, False)])
def test_nothing_is_expected_of_a_track_that_does_not_keep_time(off: float, expected: bool) -> None:
    cadence = heard((picture(0, 0), 9.96 - off), (picture(1, 40), 10.0))
    assert cadence.expects(10.0, 11.0, 0.003) is expected


def test_a_track_that_keeps_time_again_is_expected_again() -> None:
    cadence = heard((picture(0, 0), 9.9), (picture(1, 40), 9.96), (picture(2, 80), 10.0))
    assert cadence.expects(10.0, 10.041, 0.003)


def test_each_track_has_its_own() -> None:
    first, second = sound(0, 0), sound(1, 20)
    cadence = heard(
        (first, 9.98),
        (replace(first, track=1), 9.98),
        (second, 10.0),
        (replace(second, track=1), 10.0),
    )
    assert cadence.expects(10.0, 10.021, EXACT)
    assert not cadence.expects(10.0, 10.019, EXACT)
