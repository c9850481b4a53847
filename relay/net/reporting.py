"""What a stream reports about its feeds, as events for plugins and as one log line each."""

from __future__ import annotations

from twisted.logger import Logger

from relay.events import Event, FailoverLocked, FeedHealthChanged, FeedMerged, FeedSwitched, SlatePrepared, StreamHeld
from relay.stream.judge import Fault, Level
from relay.stream.reports import HealthChanged, Held, Locked, MergeChanged, Report, SlateMade, Switched


def event_of(stream: str, report: Report) -> Event:
    """Return the event that tells plugins about *report*."""
    match report:
        case Switched():
            return _switched(stream, report)
        case HealthChanged():
            fault = report.fault
            return FeedHealthChanged(
                stream=stream,
                feed=report.feed,
                health=report.level.name.lower(),
                trigger="" if fault is None else fault.trigger,
                measured=0.0 if fault is None else fault.measured,
                threshold=0.0 if fault is None else fault.threshold,
                unit="" if fault is None else fault.unit,
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
    fault = report.fault
    return FeedSwitched(
        stream=stream,
        previous=report.previous,
        feed=report.feed,
        reason=report.reason,
        trigger="" if fault is None else fault.trigger,
        measured=0.0 if fault is None else fault.measured,
        threshold=0.0 if fault is None else fault.threshold,
        unit="" if fault is None else fault.unit,
        how=report.how,
        cut_from_ms=report.cut_from_ms,
        cut_ms=report.cut_ms,
        gap_ms=report.gap_ms,
        replayed_ms=report.replayed_ms,
        missed_ms=report.missed_ms,
        fit=report.fit,
    )


def log_report(log: Logger, stream: str, report: Report) -> None:
    """Write one line; what somebody should look at is a warning."""
    match report:
        case Switched():
            log.info(
                "stream {stream} switched from feed {previous} to {feed} ({how}): {reason}{numbers}; "
                "cut at {cut_ms} ms, gap {gap_ms} ms, {replayed_ms} ms shown again, "
                "{missed_ms} ms missed, parameters {fit}",
                stream=stream,
                previous=report.previous,
                feed=report.feed,
                how=report.how,
                reason=report.reason,
                numbers=_numbers(report.fault),
                cut_ms=report.cut_ms,
                gap_ms=report.gap_ms,
                replayed_ms=report.replayed_ms,
                missed_ms=report.missed_ms,
                fit=report.fit,
            )
        case HealthChanged(level=Level.GOOD):
            log.info("feed {feed} of stream {stream} is well again", feed=report.feed, stream=stream)
        case HealthChanged():
            log_line = log.warn if report.level > Level.SUSPECT else log.info  # a slide that is shown looks frozen
            log_line(
                "feed {feed} of stream {stream} is {health}: {trigger}{numbers}",
                feed=report.feed,
                stream=stream,
                health=report.level.name.lower(),
                trigger="" if report.fault is None else report.fault.trigger,
                numbers=_numbers(report.fault),
            )
        case Held():
            log.warn(
                "stream {stream} has no feed ({reason}): subscribers are kept for {hold_s:g} s{shown}",
                stream=stream,
                reason=report.reason,
                hold_s=report.hold_s,
                shown=" with the last picture" if report.slate else "",
            )
        case Locked():
            log.warn(
                "stream {stream} switched too often: feed {feed} stays on air for {seconds:g} s unless it dies",
                stream=stream,
                feed=report.feed,
                seconds=report.seconds,
            )
        case MergeChanged():
            log.info(
                "feed {feed} of stream {stream} is {what}: {reason}",
                feed=report.feed,
                stream=stream,
                what="merged with the live one" if report.merged else "not merged any more",
                reason=report.reason,
            )
        case SlateMade(problem=""):
            log.info(
                "the slate of stream {stream} is ready: {seconds:.1f} s, {nbytes} bytes",
                stream=stream,
                seconds=report.seconds,
                nbytes=report.nbytes,
            )
        case SlateMade():
            log.warn(
                "the slate of stream {stream} cannot be used, the last picture will be shown: {problem}",
                stream=stream,
                problem=report.problem,
            )


def _numbers(fault: Fault | None) -> str:
    return "" if fault is None else f" ({fault.measured:g} of {fault.threshold:g} {fault.unit})"
