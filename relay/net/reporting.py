"""What a stream reports about its feeds, as events for plugins and as one log line each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from twisted.logger import Logger, LogLevel

from relay.events import Event, FailoverLocked, FeedHealthChanged, FeedMerged, FeedSwitched, SlatePrepared, StreamHeld
from relay.stream.judge import Fault, Level
from relay.stream.reports import HealthChanged, Held, Locked, MergeChanged, Report, SlateMade, Switched

_NO_FAULT = Fault("", Level.GOOD, 0.0, 0.0, "")


def event_of(stream: str, report: Report) -> Event:
    """Return the event that tells plugins about *report*."""
    match report:
        case Switched():
            return _switched(stream, report)
        case HealthChanged():
            fault = report.fault or _NO_FAULT
            return FeedHealthChanged(
                stream=stream,
                feed=report.feed,
                health=report.level.name.lower(),
                trigger=fault.trigger,
                measured=fault.measured,
                threshold=fault.threshold,
                unit=fault.unit,
            )
        case Held():
            return StreamHeld(stream=stream, reason=report.reason, hold_s=report.hold_s, slate=report.slate)
        case Locked():
            return FailoverLocked(stream=stream, feed=report.feed, seconds=report.seconds)
        case MergeChanged():
            return FeedMerged(stream=stream, feed=report.feed, merged=report.merged, reason=report.reason)
        case SlateMade():
            return SlatePrepared(stream=stream, problem=report.problem)


def _switched(stream: str, report: Switched) -> FeedSwitched:
    fault = report.fault or _NO_FAULT
    return FeedSwitched(
        stream=stream,
        previous=report.previous,
        feed=report.feed,
        reason=report.reason,
        trigger=fault.trigger,
        measured=fault.measured,
        threshold=fault.threshold,
        unit=fault.unit,
        how=report.how,
        cut_from_ms=report.cut_from_ms,
        cut_ms=report.cut_ms,
        gap_ms=report.gap_ms,
        replayed_ms=report.replayed_ms,
        missed_ms=report.missed_ms,
        fit=report.fit,
    )


_LINES: Mapping[type[object], str] = {
    Switched: (
        "stream {stream} switched from feed {previous} to {feed} ({how}): {reason}{numbers}; "
        "cut at {cut_ms} ms, gap {gap_ms} ms, {replayed_ms} ms shown again, "
        "{missed_ms} ms missed, parameters {fit}"
    ),
    HealthChanged: "feed {feed} of stream {stream} is {health}: {trigger}{numbers}",
    Held: "stream {stream} has no feed ({reason}): subscribers are kept for {hold_s:g} s{shown}",
    Locked: "stream {stream} switched too often: feed {feed} stays on air for {seconds:g} s unless it dies",
    MergeChanged: "feed {feed} of stream {stream} is {what}: {reason}",
    SlateMade: "the slate of stream {stream} is ready: {seconds:.1f} s, {nbytes} bytes",
}
_WELL_AGAIN = "feed {feed} of stream {stream} is well again"
_NO_SLATE = "the slate of stream {stream} cannot be used, the last picture will be shown: {problem}"


def log_report(log: Logger, stream: str, report: Report) -> None:
    """Write one line; what somebody should look at is a warning."""
    level, line = _line(report)
    known = {one.name: getattr(report, one.name) for one in fields(report) if one.name not in ("fault", "level")}
    log.emit(level, line, stream=stream, **known, **_in_words(report))


def _line(report: Report) -> tuple[LogLevel, str]:
    line = _LINES[type(report)]
    match report:
        case HealthChanged(level=Level.GOOD):
            return LogLevel.info, _WELL_AGAIN
        case HealthChanged(level=Level.SUSPECT):
            return LogLevel.info, line  # a slide that is shown looks frozen
        case SlateMade(problem=problem) if problem:
            return LogLevel.warn, _NO_SLATE
        case HealthChanged() | Held() | Locked():
            return LogLevel.warn, line
        case _:
            return LogLevel.info, line


def _in_words(report: Report) -> Mapping[str, object]:
    """Return what a line says otherwise than the report."""
    match report:
        case Switched(fault=fault):
            return {"numbers": _numbers(fault)}
        case HealthChanged(level=level, fault=fault):
            trigger = (fault or _NO_FAULT).trigger
            return {"health": level.name.lower(), "trigger": trigger, "numbers": _numbers(fault)}
        case Held(slate=slate, own=own):
            return {
                "shown": (" with the slate of the configuration" if own else " with the last picture") if slate else ""
            }
        case MergeChanged(merged=merged):
            return {"what": "merged with the live one" if merged else "not merged any more"}
        case _:
            return {}


def _numbers(fault: Fault | None) -> str:
    return "" if fault is None else f" ({fault.measured:g} of {fault.threshold:g} {fault.unit})"
