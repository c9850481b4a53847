from __future__ import annotations

import gc
import weakref

import pytest

from twisted.internet.task import Clock

from relay.net.audience import Audience
from relay.net.audiences import Audiences
from relay.net.flusher import Flusher
from relay.stream.registry import Registry
from relay.stream.stream import Stream
from tests.helpers.seats import check_programme, picture, sound, valve_seat
from tests.stream import media


class House:
    """Streams and their audiences."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.registry = Registry()
        self.audiences = Audiences(self.registry, Flusher(self.clock))

    def start(self, name: str = "show") -> Stream:
        stream = self.registry.get_or_create(name)
        feed = stream.open_feed("primary", 0, 0.0)
        for packet in (media.video_header(), media.audio_header()):
            feed.push(packet, 0.0)
        self.feed = feed
        self.frames = 0
        return stream

    def run(self, frames: int) -> None:
        for _ in range(frames):
            dts = self.frames * 40
            self.feed.push(picture(self.frames * 2, dts, key=self.frames % 10 == 0), dts / 1000)
            self.feed.push(sound(self.frames * 2 + 1, dts), dts / 1000)
            self.frames += 1
        self.clock.advance(0.001)


@pytest.fixture
def house() -> House:
    return House()


def opened(house: House) -> Audience:
    audience = house.audiences.of("show")
    assert audience is not None
    return audience


def test_there_is_no_audience_of_what_is_not_live(house: House) -> None:
    assert house.audiences.of("show") is None
    house.start()
    assert house.audiences.of("show") is None, "the tracks are not known yet"


def test_when_the_last_player_leaves_what_was_framed_is_given_back_at_once(house: House) -> None:
    house.start()
    house.run(5)
    audience = opened(house)
    seat = valve_seat(audience)[0].sit()
    framed = weakref.ref(audience.ring)
    gc.disable()  # the ring may stand in a cycle, and the collector comes rarely
    try:
        seat.player.leave()
        assert framed() is None
    finally:
        gc.enable()


def test_all_players_of_a_stream_share_one_audience(house: House) -> None:
    house.start()
    house.run(3)

    assert opened(house) is opened(house) is house.audiences.existing("show")


def test_a_stream_without_players_frames_nothing(house: House) -> None:
    stream = house.start()
    house.run(3)
    seat, _ = valve_seat(opened(house))
    seat.sit()

    seat.player.leave()

    assert stream.sinks == ()
    assert house.audiences.existing("show") is None


def test_the_first_player_gets_the_pictures_since_the_keyframe(house: House) -> None:
    house.start()
    house.run(23)
    seat, valve = valve_seat(opened(house))
    valve.open(10_000_000)

    seat.sit()
    house.run(2)

    assert check_programme(seat.messages) == list(range(40, 50))


def test_a_programme_that_begins_again_under_its_name_has_an_audience_of_its_own(house: House) -> None:
    stream = house.start()
    house.run(3)
    slow, _ = valve_seat(opened(house))
    slow.sit()
    stream.close("ended")
    assert slow.ended == [True]

    house.start()
    house.run(3)
    seat, valve = valve_seat(opened(house))
    valve.open(10_000_000)
    seat.sit()
    house.run(1)

    assert check_programme(seat.messages) == list(range(8))
    slow.player.leave()
    assert house.audiences.existing("show") is seat.audience


def test_an_audience_that_failed_is_replaced(house: House) -> None:
    house.start()
    house.run(3)
    broken = opened(house)
    seat, _ = valve_seat(broken)
    seat.sit()
    broken.write = _raising  # type: ignore[method-assign]

    house.run(1)

    assert seat.ended == [True]
    assert opened(house) is not broken


def _raising(_: object) -> None:
    raise RuntimeError("broken")


def test_bytes_sent_never_fall_while_the_stream_lives_and_are_forgotten_with_it(house: House) -> None:
    stream = house.start()
    house.run(3)
    for _ in range(2):
        seat, valve = valve_seat(opened(house))
        valve.open(10_000_000)
        seat.sit()
        house.run(1)
        before = house.audiences.bytes_out("show")
        assert before > 0
        seat.player.leave()
        assert house.audiences.bytes_out("show") == before

    stream.close("ended")

    assert house.audiences.bytes_out("show") == 0


def test_bytes_and_drops_are_those_of_the_players(house: House) -> None:
    house.start()
    house.run(3)
    audience = opened(house)
    seats = [valve_seat(audience) for _ in range(3)]
    for seat, valve in seats:
        valve.open(10_000_000)
        seat.sit()
    house.run(5)

    assert audience.bytes_out == sum(len(valve.taken) for _, valve in seats)
