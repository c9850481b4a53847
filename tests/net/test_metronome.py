"""Who gets a beat, and when it stops."""

from __future__ import annotations

import pytest

from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger, formatEvent, globalLogPublisher

from relay.net.metronome import BEAT_S, Metronome
from relay.net.reporting import event_of, log_report
from relay.stream.judge import Fault, Level
from relay.stream.policy import FailoverOptions
from relay.stream.registry import Registry
from relay.stream.reports import HealthChanged, Held, Locked, MergeChanged, Report, SlateMade, Switched
from tests.stream.media import RecordingSink, audio, audio_header, video, video_header


def make() -> tuple[Clock, Registry, Metronome, RecordingSink]:
    """Make a metronome and a stream that lost its only feed."""
    clock = Clock()
    registry = Registry(failover=lambda name: FailoverOptions(hold_s=10))
    stream, sink = registry.get_or_create("show"), RecordingSink()
    stream.attach(sink)
    feed = stream.open_feed("primary", 0, clock.seconds())
    for packet in (video_header(), audio_header(), video(0, True), audio(5), video(40)):
        feed.push(packet, clock.seconds())
    return clock, registry, Metronome(clock, registry), sink


def test_a_healthy_stream_needs_no_beat() -> None:
    clock, _, metronome, _ = make()

    metronome.tick(0.25)

    assert clock.getDelayedCalls() == []


def test_the_slate_is_paced_until_the_programme_ends_and_then_no_timer_is_left() -> None:
    clock, registry, metronome, sink = make()
    stream = registry.get("show")
    assert stream is not None
    stream.feeds[0].end("closed", clock.seconds())
    before = len(sink.packets)
    for _ in range(4):
        clock.advance(0.25)
        metronome.tick(0.25)
    assert len(clock.getDelayedCalls()) == 1
    clock.pump([BEAT_S] * 50)
    slate = sink.packets[before:]
    assert len([packet for packet in slate if packet.keyframe]) in (3, 4)
    assert len(slate) > 50

    for _ in range(40):
        clock.advance(0.25)
        metronome.tick(0.25)
    clock.advance(BEAT_S)
    assert stream.closed
    assert clock.getDelayedCalls() == []


def test_an_error_in_one_stream_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    _, registry, metronome, _ = make()
    ticked: list[float] = []
    bad, good = registry.get("show"), registry.get_or_create("other")
    assert bad is not None

    def fail(now: float, seconds: float) -> None:
        raise ValueError("broken")

    monkeypatch.setattr(bad.failover, "tick", fail)
    monkeypatch.setattr(good.failover, "tick", lambda now, seconds: ticked.append(seconds))
    lines: list[LogEvent] = []
    globalLogPublisher.addObserver(lines.append)
    try:
        metronome.tick(0.25)
    finally:
        globalLogPublisher.removeObserver(lines.append)

    assert ticked == [0.25]
    assert [line["stream"] for line in lines if line.get("log_failure")] == ["show"]


FAULT = Fault("no-video", Level.DEAD, 1200, 1000)
REPORTS: list[Report] = [
    Switched(previous="primary", feed="backup", reason="no-video", fault=FAULT, how="fast", cut_ms=50, gap_ms=1200),
    HealthChanged(feed="primary", level=Level.DEAD, fault=FAULT),
    HealthChanged(feed="primary", level=Level.GOOD, fault=None),
    Held(reason="closed", hold_s=60, slate=True),
    Locked(feed="backup", seconds=60),
    MergeChanged(feed="backup", merged=True, reason="equal-frames"),
]
SLATES: list[Report] = [SlateMade(nbytes=1000, seconds=2.0), SlateMade(problem="no such codec")]


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: type(report).__name__)
def test_every_report_is_an_event_with_its_numbers_and_one_line(report: Report) -> None:
    lines: list[str] = []
    event = event_of("show", report)
    log_report(Logger(observer=lambda line: lines.append(formatEvent(line))), "show", report)  # type: ignore[arg-type]

    assert event.stream == "show"  # type: ignore[attr-defined]
    for name in ("feed", "reason", "hold_s", "seconds", "merged", "gap_ms", "cut_ms"):
        if hasattr(report, name):
            assert getattr(event, name) == getattr(report, name)
    if getattr(report, "fault", None) is not None:
        assert (event.trigger, event.measured, event.threshold) == ("no-video", 1200, 1000)  # type: ignore[attr-defined]
    (line,) = lines
    assert "show" in line
    assert "{" not in line


@pytest.mark.parametrize(
    ("slate", "own", "shown"),
    [
        (False, False, "60 s"),
        (True, False, "60 s with the last picture"),
        (True, True, "60 s with the slate of the configuration"),
    ],
)
def test_the_line_about_a_hold_says_what_is_shown(slate: bool, own: bool, shown: str) -> None:
    lines: list[str] = []
    report = Held(reason="closed", hold_s=60, slate=slate, own=own)
    log_report(Logger(observer=lambda line: lines.append(formatEvent(line))), "show", report)  # type: ignore[arg-type]

    assert lines == [f"stream show has no feed (closed): subscribers are kept for {shown}"]


def test_what_somebody_should_look_at_is_a_warning() -> None:
    doubtful = HealthChanged(feed="primary", level=Level.SUSPECT, fault=FAULT)
    levels: list[str] = []
    for report in (*REPORTS, *SLATES, doubtful):
        log_report(Logger(observer=lambda line: levels.append(line["log_level"].name)), "show", report)  # type: ignore[arg-type]

    assert levels == ["info", "warn", "info", "warn", "warn", "info", "info", "warn", "info"]
