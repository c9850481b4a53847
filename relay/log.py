"""Log lines on their way out: one event, one line, no secret, no control character.

Two observers for `twisted.logger`: JSON lines for machines and text for people. The rules they guard: everything that
is written passed the redactor, and writing never raises. It never blocks the programme either: `log_output`.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from datetime import UTC, datetime
from typing import Literal

from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from relay.log_output import Output, QueuedOutput, write
from relay.secret import KNOWN_SECRETS, Redactor, redact_urls

Format = Literal["auto", "text", "json"]
Level = Literal["debug", "info", "warn", "error"]

MAX_FIELD = 2_048
"""Characters of one field that are written: a peer chooses some of them, and a tcUrl may be 64 KiB."""
MAX_TRACE = 32_768
"""Characters of one traceback."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_CONTROL_IN_TRACE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_PRIORITY = {"debug": 7, "info": 6, "warn": 4, "error": 3, "critical": 2}
_RESERVED = frozenset({"ts", "level", "logger", "msg", "trace", "format", "message", "time", "system", "isError"})


class _Observer:
    """What both observers share: redaction and writing that cannot fail."""

    def __init__(self, output: Output, redactor: Redactor = KNOWN_SECRETS) -> None:
        self._output = output
        self._redactor = redactor

    def _clean(self, text: str, limit: int = MAX_FIELD) -> str:
        # Redact first: a cut could split a secret so that it is not recognised any more.
        redacted = redact_urls(self._redactor.redact(text))
        return redacted if len(redacted) <= limit else redacted[:limit] + "…"

    def _write(self, line: str) -> None:
        write(self._output, line)

    def _text(self, event: LogEvent) -> str:
        try:
            return self._clean(formatEvent(event) or "")
        except Exception as error:
            return f"unformattable log event: {type(error).__name__}"

    def _trace(self, event: LogEvent) -> str:
        failure = event.get("log_failure")
        if not isinstance(failure, Failure):
            return ""
        try:
            return self._clean(failure.getTraceback().rstrip(), MAX_TRACE)
        except Exception as error:
            return f"unprintable failure: {type(error).__name__}"


@implementer(ILogObserver)
class JsonObserver(_Observer):
    """One JSON object per line: ``ts level logger msg``, then the fields of the event."""

    def __call__(self, event: LogEvent) -> None:
        """Write *event*."""
        line: dict[str, object] = {
            "ts": _time(event).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": _level(event),
            "logger": str(event.get("log_namespace", "-")),
            "msg": self._text(event),
        }
        for name, value in event.items():
            if not name.startswith("log_") and name not in _RESERVED:
                line[name] = self._field(value)
        trace = self._trace(event)
        if trace:
            line["trace"] = trace
        self._write(json.dumps(line, allow_nan=False) + "\n")

    def _field(self, value: object, depth: int = 4) -> object:
        """Return *value* as something JSON can hold, redacted all the way down."""
        if value is None or isinstance(value, bool | int):
            return value
        if isinstance(value, float):
            return value if value == value and abs(value) != float("inf") else str(value)
        if isinstance(value, str):
            return self._clean(value)
        if depth and isinstance(value, Mapping):
            return {self._clean(str(key)): self._field(item, depth - 1) for key, item in value.items()}
        if depth and isinstance(value, list | tuple | set | frozenset):
            return [self._field(item, depth - 1) for item in value]
        try:
            return self._clean(str(value))
        except Exception as error:
            return f"unprintable {type(value).__name__}: {type(error).__name__}"


@implementer(ILogObserver)
class TextObserver(_Observer):
    """``2026-01-31T12:00:00Z warn  relay.ingest: text``; under systemd's journal a priority instead of the time."""

    def __init__(self, output: Output, redactor: Redactor = KNOWN_SECRETS, *, journal: bool = False) -> None:
        super().__init__(output, redactor)
        self._journal = journal

    def __call__(self, event: LogEvent) -> None:
        """Write *event*."""
        level = _level(event)
        prefix = f"<{_PRIORITY[level]}>" if self._journal else ""
        stamp = "" if self._journal else _time(event).strftime("%Y-%m-%dT%H:%M:%SZ ")
        logger = str(event.get("log_namespace", "-"))
        lines = [f"{prefix}{stamp}{level:<5} {logger}: {_escape(_CONTROL, self._text(event))}"]
        trace = self._trace(event)
        if trace:
            lines += (f"{prefix}  {_escape(_CONTROL_IN_TRACE, line)}" for line in trace.split("\n"))
        self._write("\n".join(lines) + "\n")


def _escape(pattern: re.Pattern[str], text: str) -> str:
    """Make control characters visible: a peer must not move our terminal's cursor or fake a second line."""
    return pattern.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def _level(event: LogEvent) -> str:
    level = event.get("log_level")
    name = str(level.name) if level is not None else "info"
    return name if name in _PRIORITY else "info"


def _time(event: LogEvent) -> datetime:
    try:
        return datetime.fromtimestamp(float(event.get("log_time", 0.0)), UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)


def make_observer(
    output: Output | None = None, *, format: Format = "auto", level: Level = "info", redactor: Redactor = KNOWN_SECRETS
) -> ILogObserver:
    """Return the observer that the configuration asks for.

    It writes to *output* at once, or to standard output from a thread, because nobody knows who reads that.
    """
    shown: Output = sys.stdout if output is None else output
    target: Output = QueuedOutput(sys.stdout) if output is None else output
    observer: JsonObserver | TextObserver
    if format == "json" or (format == "auto" and not _for_people(shown)):
        observer = JsonObserver(target, redactor)
    else:
        observer = TextObserver(target, redactor, journal=_is_journal(shown))
    predicate = LogLevelFilterPredicate(defaultLogLevel=LogLevel.levelWithName(level))
    filtered: ILogObserver = FilteringLogObserver(observer, [predicate])
    return filtered


def _for_people(output: Output) -> bool:
    isatty = getattr(output, "isatty", None)
    return bool(isatty and isatty()) or _is_journal(output)


def _is_journal(output: Output) -> bool:
    """Whether *output* is the journal's socket: systemd says device and inode in ``$JOURNAL_STREAM``."""
    stream = os.environ.get("JOURNAL_STREAM", "")
    fileno = getattr(output, "fileno", None)
    if not stream or fileno is None:
        return False
    try:
        status = os.fstat(fileno())
    except (OSError, ValueError):
        return False
    return stream == f"{status.st_dev}:{status.st_ino}"


FLOOD_LINES_PER_S = 10.0
"""Log lines that a flood from everywhere may go on writing: 250 MB a day."""


class RateLimited:
    """Lets a line through at most *per_minute* times a minute for each key, usually ``(ip, code)``.

    A flood must fill neither the disk nor our memory: at most *remembered* keys are kept, the oldest goes first, and
    all keys together get *in_all* lines at once and then ten a second, for a flood may come from a thousand addresses.
    """

    def __init__(self, per_minute: int = 10, remembered: int = 4_096, in_all: int = 6_000) -> None:
        self._per_minute = per_minute
        self._remembered = remembered
        self._in_all = in_all
        self._left = float(in_all)
        self._left_at = 0.0
        self._windows: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()
        self.suppressed_total = 0
        """Lines that were not written."""

    def allow(self, key: Hashable, now: float) -> bool:
        """Tell whether the line may be written; counts it either way. *now* is monotonic seconds."""
        started, lines = self._windows.get(key, (now, 0))
        if now - started >= 60.0:
            started, lines = now, 0
        self._windows[key] = (started, lines + 1)
        self._windows.move_to_end(key)
        if len(self._windows) > self._remembered:
            self._windows.popitem(last=False)
        self._left = min(self._left + (now - self._left_at) * FLOOD_LINES_PER_S, self._in_all)
        self._left_at = now
        if lines >= self._per_minute or self._left < 1.0:
            self.suppressed_total += 1
            return False
        self._left -= 1.0
        return True


def clean_line(text: str, redactor: Redactor = KNOWN_SECRETS) -> str:
    """Return *text* as it may be shown to a person: no known secret, no control character."""
    return _escape(_CONTROL, redactor.redact(text))
