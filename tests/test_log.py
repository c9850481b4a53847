"""Log lines: one event, one line, no secret, no control character."""

from __future__ import annotations

import errno
import io
import json
import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted.logger import ILogObserver, Logger, LogLevel
from twisted.python.failure import Failure

from relay.log import MAX_FIELD, JsonObserver, Level, RateLimited, TextObserver, clean_line, make_observer
from relay.log_output import LINES, QueuedOutput
from relay.secret import Redactor, Secret

KEY = "SECRET-0d9c1f"


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "disk full")


def written(make: Callable[[io.StringIO, Redactor], ILogObserver], format: str, **fields: object) -> str:
    """Return what one event becomes."""
    output = io.StringIO()
    log = Logger(namespace="relay.test", observer=make(output, Redactor([Secret(KEY)])))
    log.warn(format, **fields)
    return output.getvalue()


def json_line(format: str, **fields: object) -> dict[str, object]:
    text = written(JsonObserver, format, **fields)
    assert text.count("\n") == 1
    line = json.loads(text)
    assert isinstance(line, dict)
    return line


def event(**fields: object) -> dict[str, object]:
    return {"log_level": LogLevel.info, "log_namespace": "n", "log_format": "x", "log_time": 1_767_225_600.5, **fields}


def test_a_json_line_has_time_level_logger_message_and_fields() -> None:
    output = io.StringIO()
    JsonObserver(output)(event(log_format="{who} came", who="encoder", number=3, ratio=0.5, nothing=None, yes=True))

    assert json.loads(output.getvalue()) == {
        "ts": "2026-01-01T00:00:00.500Z",
        "level": "info",
        "logger": "n",
        "msg": "encoder came",
        "who": "encoder",
        "number": 3,
        "ratio": 0.5,
        "nothing": None,
        "yes": True,
    }


def test_a_text_line_is_for_people() -> None:
    output = io.StringIO()
    TextObserver(output)(event(log_format="{who} came", who="encoder"))

    assert output.getvalue() == "2026-01-01T00:00:00Z info  n: encoder came\n"


def test_under_the_journal_a_line_begins_with_its_priority() -> None:
    output = io.StringIO()
    TextObserver(output, journal=True)(event(log_level=LogLevel.error))

    assert output.getvalue() == "<3>error n: x\n"


@pytest.mark.parametrize("make", [JsonObserver, TextObserver])
@pytest.mark.parametrize(
    ("format", "fields"),
    [
        ("key {key}", {"key": KEY}),
        (f"key {KEY}", {}),
        ("{url}", {"url": "rtmp://h/live/unconfigured-key?x=y"}),
        ("{secret}", {"secret": Secret(KEY)}),
        ("{it}", {"it": {"deep": [{"key": KEY}], KEY: 1}}),
        ("{it}", {"it": (KEY, {KEY})}),
        ("long {key}", {"key": "x" * (MAX_FIELD - 8) + KEY}),
        ('quoted "{key}"', {"key": f'"{KEY}"\\'}),
    ],
    ids=["field", "format", "address", "wrapped", "nested", "sequence", "at-the-cut", "quotes"],
)
def test_no_line_holds_a_secret(make: Callable[..., ILogObserver], format: str, fields: dict[str, object]) -> None:
    text = written(make, format, **fields)

    assert "***" in text
    assert KEY not in text
    assert KEY[:8] not in text
    assert "unconfigured-key" not in text


@pytest.mark.parametrize("make", [JsonObserver, TextObserver])
def test_a_traceback_is_written_without_secrets(make: Callable[..., ILogObserver]) -> None:
    try:
        raise RuntimeError(f"cannot use {KEY}\x1b[2J")
    except RuntimeError:
        text = written(make, "it failed", log_failure=Failure())

    assert "Traceback" in text
    assert "RuntimeError: cannot use ***" in text
    assert KEY not in text
    assert "\x1b" not in text


@pytest.mark.parametrize("make", [JsonObserver, TextObserver])
@given(text=st.text(max_size=30))
def test_whatever_a_peer_sends_is_one_line_of_printable_text(make: Callable[..., ILogObserver], text: str) -> None:
    line = written(make, "peer says {text}", text=text)

    assert line.endswith("\n")
    assert len(line[:-1].splitlines()) == 1
    assert not [
        char for char in line[:-1] if ord(char) < 32 or 0x7F <= ord(char) < 0xA0 or 0x202A <= ord(char) <= 0x202E
    ]


@pytest.mark.parametrize("char", ["\r\nlevel=error fake", "\x1b[31m", "\u202e", "\ud800", "\u2028", "\x9b"])
def test_control_characters_are_made_visible(char: str) -> None:
    line = written(TextObserver, "{text}", text=f"a{char}b")

    assert line.encode("utf-8").decode("utf-8").rstrip("\n").isprintable()
    assert json_line("{text}", text=f"a{char}b")["text"] == f"a{char}b"


def test_a_long_field_is_cut() -> None:
    line = json_line("{text}", text="x" * 100_000)

    assert line["text"] == "x" * MAX_FIELD + "…"
    assert len(str(line["msg"])) == MAX_FIELD + 1


def test_numbers_that_json_does_not_know_become_text() -> None:
    assert json_line("x", a=float("nan"), b=float("inf"))["a"] == "nan"


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


@pytest.mark.parametrize("make", [JsonObserver, TextObserver])
def test_an_object_that_cannot_be_printed_does_not_break_the_log(make: Callable[..., ILogObserver]) -> None:
    assert written(make, "{it}", it=Unprintable())


@pytest.mark.parametrize("make", [JsonObserver, TextObserver])
@pytest.mark.parametrize("strange", [{}, {"log_time": "yesterday"}, {"log_time": 1e30}, {"log_level": None}])
def test_a_strange_event_is_written_all_the_same(make: Callable[..., ILogObserver], strange: dict[str, object]) -> None:
    output = io.StringIO()
    make(output)(strange)

    assert output.getvalue().endswith("\n")


@pytest.mark.parametrize("make", [JsonObserver, TextObserver])
def test_a_full_disk_and_a_closed_pipe_are_counted_not_raised(make: type[JsonObserver] | type[TextObserver]) -> None:
    closed = io.StringIO()
    closed.close()
    for output in (Broken(), closed):
        before = LINES.dropped
        make(output)(event())

        assert LINES.dropped == before + 1


class Stalled(io.StringIO):
    """A pipe whose reader has stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.opened = threading.Event(), threading.Event()

    def write(self, text: str) -> int:
        self.entered.set()
        assert self.opened.wait(10)
        return super().write(text)


def test_a_reader_that_stops_reading_holds_nobody_up_and_gets_the_newest_lines() -> None:
    stalled, before = Stalled(), LINES.dropped
    queue = QueuedOutput(stalled, lines=3)
    queue.write("first\n")
    assert stalled.entered.wait(10)
    for number in range(8):
        queue.write(f"{number}\n")

    queue.close(0.01)
    assert LINES.dropped == before + 5
    stalled.opened.set()
    queue.close(10)
    assert stalled.getvalue() == "first\n5\n6\n7\n"


def test_what_waits_is_bounded_in_size_too() -> None:
    stalled = Stalled()
    queue = QueuedOutput(stalled, characters=100)
    queue.write("first\n")
    assert stalled.entered.wait(10)
    for letter in "abc":
        queue.write(letter * 40)

    stalled.opened.set()
    queue.close(10)
    assert stalled.getvalue() == "first\n" + "b" * 40 + "c" * 40


def test_an_output_that_knows_only_ascii_gets_escapes() -> None:
    raw = io.BytesIO()
    output = io.TextIOWrapper(raw, encoding="ascii")
    TextObserver(output)(event(log_format="…"))

    assert raw.getvalue() == b"2026-01-01T00:00:00Z info  n: \\u2026\n"


@pytest.mark.parametrize(("level", "expected"), [("debug", 4), ("info", 3), ("warn", 2), ("error", 1)])
def test_only_the_wanted_levels_are_written(level: Level, expected: int) -> None:
    output = io.StringIO()
    log = Logger(namespace="n", observer=make_observer(output, format="text", level=level))
    for say in (log.debug, log.info, log.warn, log.error):
        say("x")

    assert output.getvalue().count("\n") == expected


def test_auto_means_text_on_a_terminal_and_json_otherwise() -> None:
    pipe, terminal = io.StringIO(), Tty()
    for output in (pipe, terminal):
        Logger(namespace="n", observer=make_observer(output)).info("hello")

    assert json.loads(pipe.getvalue())["msg"] == "hello"
    assert terminal.getvalue().endswith("info  n: hello\n")


# Rate limiting.


def test_ten_lines_a_minute_for_each_key() -> None:
    lines = RateLimited()
    allowed = [lines.allow(("192.0.2.1", "chunk.size_zero"), now=5.0) for _ in range(12)]

    assert allowed == [True] * 10 + [False] * 2
    assert lines.allow(("192.0.2.2", "chunk.size_zero"), now=5.0)
    assert lines.allow(("192.0.2.1", "hs.timeout"), now=5.0)
    assert lines.suppressed_total == 2


@pytest.mark.parametrize(("now", "allowed"), [(64.999, False), (65.0, True)])
def test_after_a_minute_lines_are_allowed_again(now: float, allowed: bool) -> None:
    lines = RateLimited(per_minute=1)
    lines.allow("key", now=5.0)

    assert lines.allow("key", now=now) is allowed


def test_a_flood_of_addresses_does_not_fill_the_memory() -> None:
    lines = RateLimited(per_minute=1, remembered=100, in_all=10_000)
    for number in range(1_000):
        lines.allow(number, now=0.0)

    assert not lines.allow(999, now=0.0)
    assert lines.allow(0, now=0.0)
    assert len(lines._windows) == 100


def test_a_flood_from_many_addresses_does_not_fill_the_disk() -> None:
    lines = RateLimited(in_all=600)
    written = [lines.allow(number, now=5.0) for number in range(5_000)]

    assert written == [True] * 600 + [False] * 4_400
    assert lines.suppressed_total == 4_400
    assert [lines.allow(("later", number), now=6.0) for number in range(12)] == [True] * 10 + [False] * 2


def test_a_line_for_a_person_is_clean() -> None:
    assert clean_line(f"a\nb\x1b {KEY}", Redactor([Secret(KEY)])) == "a\\nb\\x1b ***"
