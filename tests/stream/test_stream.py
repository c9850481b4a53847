"""Fan-out, joining, and what a failing sink may not do."""

from __future__ import annotations

from collections.abc import Awaitable

import pytest

from relay.media import metadata
from relay.media.packets import Codec, MediaKind, Packet, Role, TrackSet
from relay.stream.sinks import Sink
from relay.stream.stream import Stream, StreamClosedError, StreamLimits
from tests.stream.media import AVC_HEADER, RecordingSink, audio, audio_header, data, video, video_header


class RaisingSink(RecordingSink):
    """Raises in the call that *when* names."""

    def __init__(self, when: str, error: BaseException | None = None) -> None:
        super().__init__()
        self.when = when
        self.error = error

    def configure(self, tracks: object) -> None:
        super().configure(tracks)  # type: ignore[arg-type]
        if self.when == "configure":
            raise self.error or ValueError("configure")

    def write(self, packet: Packet) -> None:
        super().write(packet)
        if self.when == "write":
            raise self.error or ValueError("write")

    def close(self) -> None:
        super().close()
        if self.when == "close":
            raise self.error or ValueError("close")


class Failures(list[tuple[Sink, str]]):
    """Collects what was reported."""

    def __call__(self, sink: Sink, error: Exception) -> None:
        self.append((sink, str(error)))


def headers() -> list[Packet]:
    return [video_header(), audio_header()]


def publish(stream: Stream, *packets: Packet) -> None:
    for packet in packets:
        stream.publish(packet)


def started(*sinks: Sink, failures: Failures | None = None) -> Stream:
    """Make a stream that is on air, with a GOP begun, and attach *sinks*."""
    stream = Stream("show", on_sink_failed=failures)
    publish(stream, *headers(), video(0, True), audio(10))
    for sink in sinks:
        stream.attach(sink)
    return stream


def test_a_sink_gets_its_tracks_then_the_cached_gop_then_what_follows() -> None:
    stream = Stream("show")
    cached = [video(0, True), audio(10), video(40)]
    publish(stream, *headers(), *cached)
    sink = RecordingSink()
    stream.attach(sink)
    live = audio(50)

    publish(stream, live)

    assert sink.names == ["configure", "write", "write", "write", "write"]
    assert sink.packets == [*cached, live]
    assert [track.kind for track in sink.configured[0].tracks] == [MediaKind.VIDEO, MediaKind.AUDIO]


def test_a_sink_attached_before_the_stream_starts_gets_the_first_sound_and_the_first_keyframe_on() -> None:
    stream = Stream("show")
    sink = RecordingSink()
    stream.attach(sink)

    publish(stream, *headers(), audio(0), video(5), video(40, True), audio(45))

    assert sink.names == ["configure", "write", "write", "write"]
    assert [packet.dts for packet in sink.packets] == [0, 40, 45]


def test_no_packet_is_delivered_twice_when_the_start_attaches_the_sinks() -> None:
    sink = RecordingSink()
    stream = Stream("show", on_started=lambda stream: stream.attach(sink))

    publish(stream, *headers(), video(0, True), audio(10))

    assert [packet.dts for packet in sink.packets] == [0, 10]


def test_without_a_cached_keyframe_a_sink_waits_for_the_next_one() -> None:
    stream = Stream("show", limits=StreamLimits(gop_bytes=50))
    publish(stream, *headers(), video(0, True), video(40, size=50))
    sink = RecordingSink()
    stream.attach(sink)

    publish(stream, video(80))
    assert stream.gop_overflowed
    assert sink.calls == []

    publish(stream, video(120, True), audio(125))
    assert [packet.dts for packet in sink.packets] == [120, 125]
    assert stream.gop_overflows == 1


def test_a_sink_may_ask_for_what_comes_from_now_on() -> None:
    stream = started()
    sink = RecordingSink()

    stream.attach(sink, from_keyframe=False)
    publish(stream, video(40))

    assert sink.names == ["configure", "write"]
    assert [packet.dts for packet in sink.packets] == [40]


def test_an_audio_only_stream_starts_after_the_time_to_settle_and_replays_its_last_second() -> None:
    sink = RecordingSink()
    stream = Stream("radio", on_started=lambda stream: stream.attach(sink))
    publish(stream, audio_header(), *(audio(dts) for dts in range(0, 1000, 20)))
    assert not stream.started

    publish(stream, audio(1000))

    assert stream.started
    assert [packet.dts for packet in sink.packets] == list(range(0, 1001, 20))


def test_a_video_only_stream_starts_after_the_time_to_settle() -> None:
    stream = Stream("camera")

    publish(stream, video_header(), video(0, True), *(video(dts) for dts in range(40, 1000, 40)))
    assert not stream.started

    publish(stream, video(1000))
    assert stream.started


@pytest.mark.parametrize(
    ("announced", "at_once"), [(["videocodecid"], True), (["videocodecid", "audiocodecid"], False)]
)
def test_a_stream_starts_at_once_when_everything_announced_is_there(announced: list[str], at_once: bool) -> None:
    stream = Stream("camera")

    publish(stream, metadata.packet(dict.fromkeys(announced, 7.0)), video_header(), video(0, True))

    assert stream.started is at_once


def test_the_start_is_told_once_with_the_tracks_known() -> None:
    seen: list[tuple[str, int]] = []
    stream = Stream("show", on_started=lambda stream: seen.append((stream.name, len(stream.tracks.tracks))))

    publish(stream, *headers(), video(0, True), audio(10), video(40, True))

    assert seen == [("show", 2)]


def test_frames_before_their_sequence_header_are_counted_and_left_out() -> None:
    stream = Stream("show")
    sink = RecordingSink()
    stream.attach(sink)

    publish(stream, audio_header(), video(0, True), video(40), *headers(), video(80, True), audio(85))

    assert stream.undecodable_packets_total == 2
    assert [packet.dts for packet in sink.packets] == [80, 85]


def test_a_codec_without_sequence_header_is_a_track_from_its_first_frame() -> None:
    stream = Stream("show")
    sink = RecordingSink()
    stream.attach(sink)

    publish(stream, video_header(), video(0, True), audio(10, codec=Codec.MP3))

    assert [track.codec for track in sink.configured[0].tracks] == [Codec.AVC, Codec.MP3]
    assert [packet.dts for packet in sink.packets] == [0, 10]


def test_a_repeated_sequence_header_is_no_news() -> None:
    sink = RecordingSink()
    stream = started(sink)
    calls = len(sink.calls)

    publish(stream, video_header(40), audio_header(40))

    assert len(sink.calls) == calls


def test_a_changed_sequence_header_configures_the_sinks_and_empties_the_cache() -> None:
    sink, late = RecordingSink(), RecordingSink()
    stream = started(sink)
    generation = sink.configured[0].generation

    publish(stream, video_header(40, AVC_HEADER[:-1] + b"\x81"))
    stream.attach(late)
    publish(stream, video(80), video(120, True))

    assert sink.configured[-1].generation == generation + 1
    assert sink.names[-3:] == ["configure", "write", "write"]
    assert [packet.dts for packet in late.packets] == [120]
    assert late.configured == sink.configured[-1:]


def test_a_track_that_is_added_does_not_empty_the_cache() -> None:
    stream = Stream("show")
    first = RecordingSink()
    stream.attach(first)

    publish(stream, video_header(), video(0, True), video(40), audio_header(50), audio(55))

    assert [packet.dts for packet in first.packets] == [0, 40, 55]


def test_metadata_and_side_packets_are_written_and_kept_for_joiners() -> None:
    sink, late = RecordingSink(), RecordingSink()
    stream = started(sink)
    update = data(20, role=Role.METADATA)
    side = Packet(MediaKind.VIDEO, 0, Codec.AVC, Role.SIDE, False, 20, 0, b"\x84avc1\x02\x00\x09colorInfo", 5)

    publish(stream, update, side)
    stream.attach(late)

    assert sink.packets[-2:] == [update, side]
    assert len(sink.configured) == 1
    assert late.configured[0].opening()[0] is update
    assert side in late.configured[0].opening()
    assert late.configured[0].generation == sink.configured[0].generation


def test_other_data_is_written_and_replayed() -> None:
    sink, late = RecordingSink(), RecordingSink()
    stream = started(sink)
    cue = data(20)

    publish(stream, cue)
    stream.attach(late)

    assert sink.packets[-1] is cue
    assert late.packets[-1] is cue


@pytest.mark.parametrize("when", ["configure", "write"])
def test_a_sink_that_raises_is_detached_closed_and_reported_and_the_others_go_on(when: str) -> None:
    failures = Failures()
    before, bad, after = RecordingSink(), RaisingSink("never"), RecordingSink()
    stream = started(before, bad, after, failures=failures)
    bad.when = when

    publish(stream, video(40), video_header(50, AVC_HEADER[:-1] + b"\x81"), video(80, True))

    assert failures == [(bad, when)]
    assert bad.closed == 1
    assert stream.sinks == (before, after)
    assert before.calls == after.calls
    assert [packet.dts for packet in after.packets] == [0, 10, 40, 80]


@pytest.mark.parametrize("when", ["configure", "write"])
def test_a_sink_that_raises_while_it_joins_is_never_attached(when: str) -> None:
    failures = Failures()
    bad = RaisingSink(when)
    stream = started(bad, failures=failures)

    publish(stream, video(40))

    assert failures == [(bad, when)]
    assert bad.closed == 1
    assert stream.sinks == ()


def test_a_sink_that_raises_in_close_is_reported_and_the_others_are_closed() -> None:
    failures = Failures()
    bad, good = RaisingSink("close"), RecordingSink()
    stream = started(bad, good, failures=failures)

    stream.close("unpublished")

    assert failures == [(bad, "close")]
    assert good.closed == 1


@pytest.mark.parametrize("when", ["configure", "write", "close"])
def test_a_sink_that_calls_sys_exit_ends_no_encoder_and_no_relay(when: str) -> None:
    failures = Failures()
    leaver, good = RaisingSink("never", SystemExit(1)), RecordingSink()
    stream = started(leaver, good, failures=failures)
    leaver.when = when

    publish(stream, video(40), video_header(50, AVC_HEADER[:-1] + b"\x81"), video(80, True))
    stream.close("unpublished")

    assert failures == [(leaver, "called sys.exit()")]
    assert [packet.dts for packet in good.packets] == [0, 10, 40, 80]
    assert good.closed == 1


def test_a_sink_may_detach_itself_while_it_is_written_to() -> None:
    class Leaving(RecordingSink):
        def write(self, packet: Packet) -> None:
            super().write(packet)
            if packet.dts == 40:
                stream.detach(self)

    leaving, other = Leaving(), RecordingSink()
    stream = started(leaving, other)

    publish(stream, video(40), video(80))

    assert [packet.dts for packet in leaving.packets] == [0, 10, 40]
    assert leaving.closed == 1
    assert [packet.dts for packet in other.packets] == [0, 10, 40, 80]


def test_detach_closes_once_and_leaves_strangers_alone() -> None:
    sink, stranger = RecordingSink(), RecordingSink()
    stream = started(sink)

    stream.detach(sink)
    stream.detach(sink)
    stream.detach(stranger)
    publish(stream, video(40))

    assert sink.closed == 1
    assert sink.packets[-1].dts == 10
    assert stranger.calls == []


def test_close_closes_every_sink_those_that_wait_included_and_tells_once() -> None:
    ended: list[str] = []
    stream = Stream("show", on_ended=lambda stream, reason: ended.append(reason))
    waiting = RecordingSink()
    stream.attach(waiting)

    stream.close("shutdown")
    stream.close("again")

    assert waiting.names == ["close"]
    assert ended == ["shutdown"]


def test_nothing_can_be_attached_or_opened_after_the_end() -> None:
    stream = started()
    stream.close("shutdown")

    with pytest.raises(StreamClosedError):
        stream.attach(RecordingSink())
    with pytest.raises(StreamClosedError):
        stream.open_feed("primary", 0, 0.0)


def test_what_close_returns_is_handed_on_to_be_awaited() -> None:
    class Slow(RecordingSink):
        def close(self) -> Awaitable[None]:
            return result

    async def finish() -> None:
        return None

    result = finish()
    slow = Slow()
    closing: list[tuple[Sink, Awaitable[None]]] = []
    stream = Stream("show", on_sink_closing=lambda sink, awaitable: closing.append((sink, awaitable)))
    stream.attach(slow)

    stream.close("shutdown")
    result.close()

    assert closing == [(slow, result)]


class HearingSink:
    """Keeps what it hears about the end, in order."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def configure(self, tracks: TrackSet) -> None:
        """Nothing to do."""

    def write(self, packet: Packet) -> None:
        """Nothing to do."""

    def stream_ending(self, reason: str, /) -> None:
        self.heard.append(reason)

    def close(self) -> None:
        self.heard.append("close")


def test_a_sink_that_wants_it_hears_why_the_stream_ends_before_it_is_closed() -> None:
    stream = Stream("show")
    staying, leaving = HearingSink(), HearingSink()
    stream.attach(staying)
    stream.attach(leaving)
    stream.detach(leaving)
    stream.close("hold-expired")

    assert staying.heard == ["hold-expired", "close"]
    assert leaving.heard == ["close"], "its stream goes on"
