"""What is said of a target, and how loudly."""

from __future__ import annotations

from typing import Any

import pytest

from twisted.logger import LogLevel, capturedLogs, formatEvent

from relay.errors import DestinationError
from relay.events import Event, TargetStateChanged
from relay.net.bulletin import LASTED_S, MAX_DETAIL, Bulletin, TargetState
from relay.net.endpoints import parse_url
from relay.net.way import PushPlace
from relay.secret import Secret
from tests.helpers.pushes import PushTestCase
from tests.helpers.reactor import until

URL = parse_url("rtmp://127.0.0.1:1935/live")
KEY = "canary-7b1e0a55"
BACKING_OFF, REFUSED, LIVE = TargetState.BACKING_OFF, TargetState.REFUSED, TargetState.LIVE


class Board:
    """A bulletin, its events and its lines."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.bulletin = Bulletin(
            self.events.append, stream="show", target="t", place=PushPlace(url=URL, key=Secret(KEY))
        )
        self.attempt = 0

    def tell(self, state: TargetState, reason: str = "", detail: str = "", *, address: int = 0) -> tuple[str, str]:
        """Tell of a state; return level and line."""
        self.attempt += state is TargetState.CONNECTING
        with capturedLogs() as captured:
            self.bulletin.changed(state, reason, detail, URL, address=address, attempt=self.attempt)
        (line,) = captured
        return line["log_level"].name, formatEvent(line)

    def retry(self, state: TargetState, reason: str, detail: str, *, address: int = 0) -> tuple[str, str]:
        """Connect, and end in *state*."""
        assert self.tell(TargetState.CONNECTING, address=address)[0] == "info"
        return self.tell(state, reason, detail, address=address)


@pytest.fixture
def board() -> Board:
    return Board()


def test_the_same_refusal_is_a_warning_once_and_a_line_with_its_number_after_that(board: Board) -> None:
    lines = [board.retry(REFUSED, "publish-refused", "BadName: no") for _ in range(3)]

    assert [level for level, _ in lines] == ["warn", "info", "info"]
    assert "refused: publish-refused, BadName: no; destination" in lines[0][1]
    assert "refused: publish-refused, BadName: no (as before, attempt 3); destination" in lines[2][1]


def test_every_change_is_an_event(board: Board) -> None:
    for _ in range(3):
        board.retry(REFUSED, "publish-refused", "BadName: no")

    told = [event for event in board.events if isinstance(event, TargetStateChanged)]
    assert [(event.state, event.reason) for event in told] == [("connecting", ""), ("refused", "publish-refused")] * 3
    assert {event.detail for event in told if event.reason} == {"BadName: no"}


@pytest.mark.parametrize(
    ("state", "reason", "detail"),
    [
        (REFUSED, "auth-failed", "BadName: no"),
        (REFUSED, "publish-refused", "Denied: the event is over"),
        (BACKING_OFF, "publish-refused", "BadName: no"),
    ],
)
def test_another_reason_detail_or_state_is_a_warning_and_so_is_the_old_one_after_it(
    board: Board, state: TargetState, reason: str, detail: str
) -> None:
    old = REFUSED, "publish-refused", "BadName: no"
    board.retry(*old)
    board.retry(*old)

    assert board.retry(state, reason, detail)[0] == "warn"
    assert board.retry(*old)[0] == "warn"


def test_seconds_make_no_new_trouble(board: Board) -> None:
    details = [f"the destination ended the connection {age} s after the publish" for age in ("1.0", "1.4", "12")]

    assert [board.retry(REFUSED, "closed-early", detail)[0] for detail in details] == ["warn", "info", "info"]


def test_each_of_two_addresses_has_a_trouble_of_its_own(board: Board) -> None:
    troubles = [("refused", "nothing listens there"), ("auth-failed", "wrong password")] * 2
    levels = [board.retry(BACKING_OFF, *one, address=number % 2)[0] for number, one in enumerate(troubles)]

    assert levels == ["warn", "warn", "info", "info"]


@pytest.mark.parametrize(("seconds", "level"), [(LASTED_S - 0.1, "info"), (LASTED_S, "warn")])
def test_after_a_good_session_the_same_trouble_is_a_new_one(board: Board, seconds: float, level: str) -> None:
    board.retry(BACKING_OFF, "stalled", "the destination took nothing")
    board.retry(LIVE, "", "")
    board.bulletin.lived(seconds)

    assert board.tell(BACKING_OFF, "stalled", "the destination took nothing")[0] == level


def test_being_on_the_backup_is_a_warning_and_hides_no_trouble(board: Board) -> None:
    assert board.retry(LIVE, "backup", "on the backup address", address=1)[0] == "warn"
    assert board.tell(BACKING_OFF, "reset", "the connection broke", address=1)[0] == "warn"
    assert board.retry(LIVE, "backup", "on the backup address", address=1)[0] == "info"
    assert board.tell(BACKING_OFF, "reset", "the connection broke", address=1)[0] == "info"


def test_the_end_of_a_push_is_called_its_end(board: Board) -> None:
    level, line = board.tell(TargetState.STOPPED, "ended")

    assert level == "info"
    assert line.startswith("the push to target t of stream show has ended; destination")
    assert board.events == [TargetStateChanged(stream="show", target="t", state="stopped", reason="ended")]


def test_what_a_destination_said_is_shown_without_secrets_and_cut(board: Board) -> None:
    said = board.bulletin.safe("x" * (MAX_DETAIL - 5) + KEY, URL)

    assert KEY[:6] not in said
    assert len(said) <= MAX_DETAIL


def test_a_destination_that_asks_in_vain_is_a_warning(board: Board) -> None:
    with capturedLogs() as captured:
        board.bulletin.stays(DestinationError("unreachable", "no answer"), "no answer")

    assert [line["log_level"] for line in captured] == [LogLevel.warn]
    assert formatEvent(captured[0]).endswith("stays: unreachable, no answer")


class RefusedTests(PushTestCase):
    async def test_a_wrong_key_is_a_warning_once_and_the_push_ends_in_these_words(self) -> None:
        platform, port = self.platform()
        platform.refuse = ("NetStream.Publish.BadName", "no")
        with capturedLogs() as captured:
            (push,) = self.push(port)
            for _ in range(3):
                await self.state(push, "refused")
                self.wait(self.due_in(push) + 0.25)
            await self.state(push, "refused")
            assert self.group is not None
            closing = self.group.close()
            await until(lambda: closing.called, "the end")
        about: list[Any] = [event for event in captured if event.get("target") == "t0"]

        assert [event["attempt"] for event in about if event["state"] == "refused"] == [1, 2, 3, 4]
        assert [event["attempt"] for event in about if event["log_level"] is LogLevel.warn] == [1]
        assert self.states() == ["connecting", "refused"] * 4 + ["stopped"]
        assert formatEvent(about[-1]).startswith("the push to target t0 of stream show has ended")
