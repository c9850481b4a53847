"""The registry of streams."""

from __future__ import annotations

from relay.media.packets import Packet
from relay.stream.registry import Registry
from relay.stream.sinks import Sink
from relay.stream.stream import Stream, StreamLimits
from tests.stream.media import RecordingSink, audio, audio_header, video, video_header


def test_a_name_is_one_stream_until_it_ends() -> None:
    registry = Registry()

    stream = registry.get_or_create("show")

    assert registry.get_or_create("show") is stream
    assert registry.get("show") is stream
    assert "show" in registry
    assert list(registry) == [stream]
    assert len(registry) == 1
    assert registry.get("other") is None


def test_an_ended_stream_is_gone_before_observers_are_told() -> None:
    registry = Registry()
    told: list[tuple[str, str, bool]] = []
    registry.on_ended.append(lambda stream, reason: told.append((stream.name, reason, stream.name in registry)))
    feed = registry.get_or_create("show").open_feed("primary", 0, 0.0)

    feed.end("unpublished", 1.0)

    assert told == [("show", "unpublished", False)]
    assert len(registry) == 0


def test_an_observer_of_the_end_may_create_the_next_stream_of_that_name() -> None:
    registry = Registry()
    first = registry.get_or_create("show")
    made: list[Stream] = []
    registry.on_ended.append(lambda stream, reason: made.append(registry.get_or_create("show")))

    first.close("shutdown")
    first.close("again")

    assert registry.get("show") is made[0]
    assert made[0] is not first
    assert len(made) == 1


def test_observers_hear_of_starts_switches_and_failed_sinks() -> None:
    class Bad(RecordingSink):
        def write(self, packet: Packet) -> None:
            raise ValueError("no")

    registry = Registry(limits=StreamLimits(settle_ms=100))
    told: list[tuple[object, ...]] = []
    registry.on_started.append(lambda stream: told.append(("started", stream.name)))
    registry.on_started.append(lambda stream: stream.attach(bad))
    registry.on_report.append(lambda stream, report: told.append((stream.name, type(report).__name__, report.feed)))
    registry.on_sink_failed.append(lambda stream, sink, error: told.append(("failed", stream.name, sink, str(error))))
    bad: Sink = Bad()
    stream = registry.get_or_create("show")
    primary, backup = stream.open_feed("primary", 0, 0.0), stream.open_feed("backup", 1, 0.0)
    for feed in (primary, backup):
        for packet in (video_header(), audio_header(), video(0, True), audio(5)):
            feed.push(packet, 0.0)

    primary.end("closed", 0.1)
    backup.push(video(2000, True), 0.2)

    assert told == [
        ("started", "show"),
        ("failed", "show", bad, "no"),
        ("show", "Switched", "backup"),
    ]


def test_close_ends_every_stream() -> None:
    registry = Registry()
    told: list[str] = []
    registry.on_ended.append(lambda stream, reason: told.append(f"{stream.name} {reason}"))
    for name in ("a", "b"):
        registry.get_or_create(name)

    registry.close("shutdown")

    assert told == ["a shutdown", "b shutdown"]
    assert len(registry) == 0
