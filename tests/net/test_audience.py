from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twisted.internet.task import Clock

from relay.media.packets import Packet, TrackSet
from relay.net.audience import Audience
from relay.net.flusher import BIG, Flusher
from relay.rtmp.events import Message
from relay.rtmp.framing import CHUNK_SIZE, frame, media_frame
from relay.stream.ring import Ring
from tests.helpers.reactor import NetTestCase, quiet, reactor, turns, until
from tests.helpers.seats import (
    Seat,
    check_programme,
    frames_of,
    is_header,
    is_key,
    parse,
    picture,
    sound,
    take_seat,
    valve_seat,
)
from tests.stream import media

METADATA = media.data(0, role=media.Role.METADATA, body=b"\x02\x00\x0aonMetaData\x08\x00\x00\x00\x00\x00\x00\x09")
AV = media.tracks(media.video_header(), media.audio_header(), metadata=METADATA)
AUDIO_ONLY = media.tracks(media.audio_header())
FRAME_MS = 40
GOP = 25


def control(number: int) -> bytes:
    """A protocol message that tells its number."""
    return frame(3, 0, 20, 0, b"control %d" % number, CHUNK_SIZE)


class Show:
    """Writes numbered frames into an audience: a picture and a sound every 40 ms, a keyframe every second."""

    def __init__(self, audience: Audience, tracks: TrackSet = AV, *, size: int = 400) -> None:
        self.audience = audience
        self.size = size
        self.serial = 0
        self.dts = 0
        audience.configure(tracks)

    def run(self, frames: int = 1) -> Show:
        for _ in range(frames):
            key = (self.dts // FRAME_MS) % GOP == 0
            self.put(picture(self.serial, self.dts, key=key, size=self.size))
            self.put(sound(self.serial, self.dts))
            self.dts += FRAME_MS
        return self

    def put(self, packet: Packet) -> None:
        self.audience.write(packet)
        self.serial += 1


class AudienceTests(NetTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.emptied = 0
        self.audience = Audience(Flusher(reactor), Ring(), self._empty)

    def _empty(self) -> None:
        self.emptied += 1

    async def seat(self, *, tls: bool = False) -> Seat:
        return await take_seat(self, self.audience, tls=tls)

    async def run_slowly(self, show: Show, seconds: int) -> None:
        """Write that much programme, with a flush after each frame."""
        for _ in range(seconds * GOP):
            show.run()
            await turns(1)

    async def test_many_players_get_the_same_bytes(self) -> None:
        show = Show(self.audience, size=5000).run(30)
        seats = [(await self.seat()).sit() for _ in range(20)]

        await self.run_slowly(show, 2)

        for seat in seats:
            await until(lambda seat=seat: seat.newest == show.serial - 1, "the newest frame")  # type: ignore[misc]
        assert len({seat.bytes for seat in seats}) == 1
        assert self.behind(seats) == []
        check_programme(seats[0].messages)

    @staticmethod
    def behind(seats: list[Seat]) -> list[Seat]:
        return [seat for seat in seats if seat.player.is_behind]

    async def test_one_that_stops_reading_costs_the_others_nothing_and_us_no_copy(self) -> None:
        show = Show(self.audience, size=30_000).run(1)
        good, stuck = [(await self.seat()).sit() for _ in range(2)]
        stuck.stop_reading()

        await self.run_slowly(show, 8)

        self.audience.flush()
        await quiet(lambda: len(good.bytes))
        assert check_programme(good.messages) == list(range(show.serial)), "the good one lost something"
        assert good.player.skips == 0
        assert stuck.player.is_behind
        assert stuck.held == 0
        assert self.audience.ring.nbytes <= 16 * 1024 * 1024

    async def test_one_that_reads_again_after_a_long_stop_goes_on_at_a_keyframe(self) -> None:
        show = Show(self.audience, size=30_000).run(1)
        stuck = (await self.seat()).sit()
        await self.run_slowly(show, 1)
        stuck.stop_reading()
        await self.run_slowly(show, 10)
        assert stuck.player.is_behind

        stuck.read_on()
        await until(lambda: not stuck.player.is_behind, "in step again")
        await self.run_slowly(show, 1)
        await until(lambda: stuck.newest == show.serial - 1, "the newest frame")

        numbers = check_programme(stuck.messages)
        assert stuck.player.skips >= 1
        assert len(numbers) < show.serial - 50, "stale media was sent"

    async def test_a_player_joins_with_metadata_headers_and_the_pictures_since_the_keyframe(self) -> None:
        show = Show(self.audience)
        await self.run_slowly(show, 2)
        show.run(10)
        seat = (await self.seat()).sit()
        show.run(1)

        await until(lambda: seat.newest == show.serial - 1, "the start")

        kinds = [one.type_id for one in seat.messages[:4]]
        assert kinds == [18, 9, 8, 9]
        assert [is_header(one) for one in seat.messages[:4]] == [False, True, True, False]
        assert is_key(seat.messages[3])
        assert check_programme(seat.messages) == list(range(2 * 2 * GOP, show.serial)), "not the newest keyframe"

    async def test_one_that_joins_before_a_keyframe_waits_for_it_and_is_not_stuck(self) -> None:
        show = Show(self.audience)
        show.dts = FRAME_MS
        seat = (await self.seat()).sit()

        for _ in range(GOP - 1):
            show.run()
            await turns(1)
            seat.player.tick(1.0)
        assert frames_of(seat.messages) == []
        assert seat.player.stuck_s == 0, "waiting for the encoder is not the player's fault"
        show.run(1)

        await until(lambda: seat.newest >= show.serial - 1, "the keyframe")
        assert check_programme(seat.messages)[0] == 2 * (GOP - 1)
        assert seat.player.skips == 0

    async def test_audio_only_starts_with_a_second_of_sound(self) -> None:
        self.audience.configure(AUDIO_ONLY)
        for number in range(100):
            self.audience.write(sound(number, number * 20))
            self.audience.flush()
        seat = (await self.seat()).sit()

        await until(lambda: seat.newest == 99, "sound")

        numbers = check_programme(seat.messages, with_video=False)
        assert numbers == list(range(numbers[0], 100))
        assert 45 <= len(numbers) <= 55

    async def test_new_headers_reach_those_who_watch_before_the_frames_they_describe(self) -> None:
        show = Show(self.audience).run(2)
        fast, slow = [(await self.seat()).sit() for _ in range(2)]
        await until(lambda: not fast.player.is_behind, "in step")
        slow.player.send_control(b"")
        changed = media.tracks(media.video_header(body=media.AVC_HEADER + b"\x00"), media.audio_header(), generation=2)

        self.audience.configure(changed)
        show.put(picture(show.serial, show.dts, key=True))

        for seat in (fast, slow):
            await until(lambda seat=seat: seat.newest == show.serial - 1, "the new picture")  # type: ignore[misc]
            last_header = max(i for i, one in enumerate(seat.messages) if one.payload == changed.tracks[0].header.body)  # type: ignore[union-attr]
            assert is_key(seat.messages[last_header + 2])

    async def test_a_player_whose_socket_is_dead_does_not_hurt_the_others(self) -> None:
        show = Show(self.audience).run(1)
        seats = [(await self.seat()).sit() for _ in range(3)]
        await until(lambda: not self.behind(seats), "all in step")
        seats[1].server.transport.socket.shutdown(1)

        show.run(3)

        for seat in (seats[0], seats[2]):
            await until(lambda seat=seat: seat.newest == show.serial - 1, "everything")  # type: ignore[misc]
        await until(lambda: seats[1].server.lost, "the loss")

    async def test_the_last_one_who_leaves_is_told(self) -> None:
        seats = [(await self.seat()).sit() for _ in range(2)]

        seats[0].player.leave()
        assert self.emptied == 0
        seats[1].player.leave()
        seats[1].player.leave()

        assert self.emptied == 1

    async def test_over_tls_players_get_the_same_programme(self) -> None:
        show = Show(self.audience, size=20_000).run(GOP)
        plain, secure = (await self.seat()).sit(), (await self.seat(tls=True)).sit()

        await self.run_slowly(show, 2)

        for seat in (plain, secure):
            await until(lambda seat=seat: seat.newest == show.serial - 1, "the newest frame")  # type: ignore[misc]
        assert plain.bytes == secure.bytes
        check_programme(secure.messages)

    async def test_a_slow_player_over_tls_skips_as_any_other(self) -> None:
        show = Show(self.audience, size=30_000).run(1)
        stuck = (await self.seat(tls=True)).sit()
        stuck.stop_reading()
        await self.run_slowly(show, 8)
        assert stuck.player.is_behind
        assert stuck.held < 512 * 1024

        stuck.read_on()
        await until(lambda: not stuck.player.is_behind, "in step again")
        await quiet(lambda: len(stuck.bytes))

        check_programme(stuck.messages)
        assert stuck.player.skips >= 1

    async def test_the_end_of_the_stream_comes_after_everything_else(self) -> None:
        show = Show(self.audience, size=30_000).run(20)
        seat = (await self.seat()).sit()
        seat.stop_reading()
        await self.run_slowly(show, 1)
        done: list[bool] = []

        self.audience.close()
        assert seat.ended == [True]
        seat.player.finish(control(1), lambda: done.append(True))
        await turns(5)
        assert not done, "the peer has not taken anything yet"
        seat.read_on()

        await until(lambda: done, "the end")
        await until(lambda: seat.bytes.endswith(b"control 1"), "the farewell")
        assert seat.messages[-1].payload == b"control 1"
        assert check_programme(seat.messages)[-1] == show.serial - 1
        assert done == [True]


class ValveTests(NetTestCase):
    """What needs the peer to be full at an exact byte."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.flusher = Flusher(self.clock)
        self.audience = Audience(self.flusher, Ring(), lambda: None)

    def test_a_control_message_waits_for_the_end_of_a_message_that_is_half_sent(self) -> None:
        show = Show(self.audience, size=5000).run(1)
        seat, valve = valve_seat(self.audience)
        valve.open(1000)
        seat.sit()
        assert len(valve.taken) == 1000

        seat.player.send_control(control(1))
        seat.player.send_control(control(2))
        valve.open(100)
        show.run(1)
        self.clock.advance(0)
        valve.open(1_000_000)

        messages = seat.messages
        assert [one.payload for one in messages if one.type_id == 20] == [b"control 1", b"control 2"]
        assert check_programme(messages) == list(range(show.serial))

    def test_a_control_message_that_is_half_sent_is_finished_first(self) -> None:
        show = Show(self.audience).run(1)
        seat, valve = valve_seat(self.audience)
        valve.open(1_000_000)
        seat.sit()
        valve.room = 5

        seat.player.send_control(control(1))
        show.run(1)
        self.clock.advance(0)
        valve.open(1_000_000)

        assert check_programme(seat.messages) == list(range(show.serial))
        assert [one.payload for one in seat.messages if one.type_id == 20] == [b"control 1"]

    def test_a_peer_that_makes_us_answer_without_reading_is_cut_off(self) -> None:
        Show(self.audience).run(1)
        seat, valve = valve_seat(self.audience)
        seat.sit()

        for number in range(64 * 1024 // len(control(1)) + 2):
            seat.player.send_control(control(number))
            if seat.lost:
                break

        assert seat.lost == ["player.control_flood"]
        assert valve.taken == b""

    def test_time_without_progress_counts_only_while_bytes_wait(self) -> None:
        show = Show(self.audience).run(1)
        seat, valve = valve_seat(self.audience)
        valve.open(1_000_000)
        seat.sit()
        for _ in range(8):
            seat.player.tick(1.0)
        assert seat.player.stuck_s == 0, "nothing was waiting"

        valve.room = 0
        show.run(1)
        self.clock.advance(0)
        for _ in range(8):
            seat.player.tick(1.0)
        assert seat.player.stuck_s == 8
        valve.open(1)

        assert seat.player.stuck_s == 0
        seat.player.tick(1.0)
        assert seat.player.stuck_s == 1

    def test_a_paused_player_gets_nothing_but_the_rest_of_its_message(self) -> None:
        show = Show(self.audience, size=5000).run(1)
        seat, valve = valve_seat(self.audience)
        valve.open(1000)
        seat.sit()

        seat.player.pause(True)
        valve.open(1_000_000)
        held = len(valve.taken)
        show.run(10)
        self.clock.advance(0)

        assert len(valve.taken) == held
        assert frames_of(parse(bytes(valve.taken)))
        for _ in range(30):
            seat.player.tick(1.0)
        assert seat.player.stuck_s == 0, "a pause may last"

    def test_a_paused_player_that_does_not_even_take_the_rest_of_its_message_is_stuck(self) -> None:
        Show(self.audience, size=5000).run(1)
        seat, valve = valve_seat(self.audience)
        valve.open(1000)
        seat.sit()

        seat.player.pause(True)
        for _ in range(10):
            seat.player.tick(1.0)

        assert seat.player.stuck_s == 10

    def test_going_on_after_a_short_pause_never_goes_back_in_time(self) -> None:
        show = Show(self.audience).run(3)
        seat, valve = valve_seat(self.audience)
        valve.open(1_000_000)
        seat.sit()
        seat.player.pause(True)
        show.run(5)
        self.clock.advance(0)

        seat.player.pause(False)
        show.run(1)
        self.clock.advance(0)

        assert check_programme(seat.messages) == list(range(show.serial))

    def test_going_on_after_a_long_pause_begins_at_the_newest_keyframe(self) -> None:
        show = Show(self.audience).run(3)
        seat, valve = valve_seat(self.audience)
        valve.open(1_000_000)
        seat.sit()
        seat.player.pause(True)
        for _ in range(10 * GOP):
            show.run()
            self.clock.advance(0.001)

        seat.player.pause(False)

        numbers = check_programme(seat.messages)
        assert numbers[:6] == list(range(6))
        assert numbers[6] == 10 * GOP * 2
        assert numbers[-1] == show.serial - 1

    def test_pausing_twice_is_pausing_once(self) -> None:
        show = Show(self.audience).run(1)
        seat, valve = valve_seat(self.audience)
        valve.open(1_000_000)
        seat.sit()

        for paused in (True, True, False, False):
            seat.player.pause(paused)
        show.run(1)
        self.clock.advance(0)

        assert check_programme(seat.messages) == list(range(show.serial))

    def test_a_reset_while_pumping_is_reported_once(self) -> None:
        Show(self.audience).run(1)
        seat, valve = valve_seat(self.audience)
        valve.dead = True

        seat.sit()
        seat.player.send_control(control(1))

        assert seat.lost == ["closed"]
        assert seat.player not in self.audience.players


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("frames"), st.integers(1, 30)),
        st.tuples(st.just("room"), st.sampled_from([1, 11, 12, 500, 5_000, 60_000, 1_000_000])),
        st.tuples(st.just("control"), st.just(0)),
        st.tuples(st.just("pause"), st.booleans()),
        st.tuples(st.just("flush"), st.just(0)),
        st.tuples(st.just("configure"), st.just(0)),
    ),
    max_size=40,
)


def busy_audience(clock: Clock) -> tuple[Flusher, Audience]:
    """An audience whose flushes take as long as with a thousand players; its sound comes every 20 ms."""
    flusher = Flusher(clock)
    flusher._flush_s = 0.01
    audience = Audience(flusher, Ring(), lambda: None)
    audience.configure(AV)
    flusher.flush_now()
    for serial in range(2):
        audience.write(sound(serial, serial * 20))
        clock.advance(0.02)
    return flusher, audience


@pytest.mark.parametrize(("size", "goes_at_once"), [(BIG - 1, False), (BIG, True), (BIG + 1, True)])
def test_a_picture_of_many_bytes_does_not_wait_for_more(size: int, goes_at_once: bool) -> None:
    clock = Clock()
    flusher, audience = busy_audience(clock)
    before = flusher.flushes
    body = size - len(media_frame(9, 0, b""))

    audience.write(picture(0, 40, key=True, size=body))  # the next sound is due now
    clock.advance(0)

    assert (flusher.flushes - before == 1) is goes_at_once


def test_under_load_a_picture_leaves_with_the_sound_that_is_due_soon() -> None:
    clock = Clock()
    flusher, audience = busy_audience(clock)
    audience.write(sound(2, 40))
    clock.advance(0.02 - 0.006)
    before = flusher.flushes

    audience.write(picture(0, 40))
    clock.advance(0.005)
    assert flusher.flushes == before
    clock.advance(0.001)
    audience.write(sound(3, 60))
    clock.advance(0)

    assert flusher.flushes == before + 1


def test_under_load_a_sound_does_not_wait_for_a_picture_that_keeps_no_time() -> None:
    clock = Clock()
    flusher, audience = busy_audience(clock)
    for serial, gap_ms in enumerate((20, 40, 20)):  # each let go by the next sound, as interleaving does it
        clock.advance(gap_ms / 1000)
        audience.write(sound(10 + serial, round(clock.seconds() * 1000)))
        audience.write(picture(serial, serial * 100 // 3))
    flusher.flush_now()
    clock.advance(0.025)
    before = flusher.flushes

    audience.write(sound(20, round(clock.seconds() * 1000)))  # the next picture should be here in 8 ms
    clock.advance(0)

    assert flusher.flushes == before + 1


def test_under_load_a_picture_that_nothing_follows_soon_leaves_at_once() -> None:
    clock = Clock()
    flusher, audience = busy_audience(clock)
    audience.write(sound(2, 40))
    clock.advance(0.001)
    flusher.flush_now()
    clock.advance(0.005)
    before = flusher.flushes

    audience.write(picture(0, 40))  # the next sound is due in 14 ms, which is later than any flush waits
    clock.advance(0)

    assert flusher.flushes == before + 1


@settings(max_examples=150, deadline=None)
@given(STEPS, st.booleans())
def test_whatever_the_peer_takes_and_says_it_can_read_what_it_got(steps: list[tuple[str, int]], finish: bool) -> None:
    clock = Clock()
    audience = Audience(Flusher(clock), Ring(max_bytes=400_000), lambda: None)
    show = Show(audience, size=3000)
    seat, valve = valve_seat(audience)
    seat.sit()
    said = 0
    act: dict[str, Callable[[int], object]] = {
        "frames": show.run,
        "room": valve.open,
        "pause": lambda paused: seat.player.pause(bool(paused)),
        "flush": lambda _: clock.advance(0.001),
        "configure": lambda _: audience.configure(AV),
    }
    for action, value in steps:
        if action == "control":
            said += 1
            seat.player.send_control(control(said))
        else:
            act[action](value)
    seat.player.pause(False)
    clock.advance(0.001)
    if finish:
        said += 1
        seat.player.finish(control(said), lambda: None)
    while valve.wants_to_write:
        valve.open(1_000_000)

    messages: list[Message] = seat.messages
    assert [one.payload for one in messages if one.type_id == 20] == [b"control %d" % (n + 1) for n in range(said)]
    check_programme(messages)
    assert seat.lost == []
