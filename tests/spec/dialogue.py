"""The ordinary part of a conversation: getting to a phase, and the valid publish that must still work afterwards."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from tests.spec import wire
from tests.spec.model import Phase
from tests.spec.wire import Ear, Heard

FOLLOW_UP_TIME = 20_000
"""Timestamp of the two frames that prove a connection works; later than what most cases send."""
last_picture = wire.picture(b"the last picture", key=True)
last_sound = wire.sound(b"the last sound")


class StuckError(AssertionError):
    """The server did not say what it should have said by now."""


class Link(ABC):
    """One connection to a server, from the client's side, however it is carried."""

    def __init__(self) -> None:
        self.ear = Ear()
        self.heard: list[Heard] = []
        self.closed = False

    @abstractmethod
    def send(self, data: bytes, size: int = 0) -> None:
        """Send *data* in pieces of *size* bytes (0: at once). Sending to a closed connection does nothing."""

    @abstractmethod
    def rest(self, seconds: float) -> None:
        """Let time pass."""

    @abstractmethod
    def listen(self) -> bool:
        """Take in what the server says; False when it has nothing more to say for now."""

    def expect(self, what: str, found: Callable[[Heard], bool]) -> Heard:
        """Return the first message that *found* accepts, of those heard so far and to come."""
        seen = 0
        while True:
            for heard in self.heard[seen:]:
                if found(heard):
                    return heard
            seen = len(self.heard)
            if not self.listen():
                raise StuckError(f"no {what}; {'closed' if self.closed else 'open'}, heard {self.summary()}")

    def summary(self) -> str:
        """What was heard, for failure messages."""
        return ", ".join(describe(heard) for heard in self.heard[-8:]) or "nothing"

    def errors(self) -> tuple[str, ...]:
        """RTMP status codes of level error heard so far."""
        return tuple(code for level, code in map(status, self.heard) if level == "error")


def status(heard: Heard) -> tuple[str, str]:
    """Level and code of an onStatus, _result or _error; empty for anything else."""
    if heard.type_id != wire.COMMAND:
        return "", ""
    values = heard.values()
    if values[0] not in ("onStatus", "_error", "_result") or not isinstance(values[-1], dict):
        return "", ""
    return str(values[-1].get("level", "")), str(values[-1].get("code", ""))


def describe(heard: Heard) -> str:
    """One line about a message."""
    if heard.type_id == wire.COMMAND:
        return f"{heard.values()[0]}({status(heard)[1]})"
    return f"type {heard.type_id}, {len(heard.body)} bytes"


def answer_to(tid: float) -> Callable[[Heard], bool]:
    """Accept `_result` and `_error` with this transaction id."""

    def found(heard: Heard) -> bool:
        return heard.type_id == wire.COMMAND and heard.values()[:2] in (["_result", tid], ["_error", tid])

    return found


def status_is(code: str) -> Callable[[Heard], bool]:
    """Accept a status with this code."""
    return lambda heard: status(heard)[1] == code


def reach(link: Link, phase: Phase, *, key: str = wire.KEY, stream: str = wire.STREAM) -> None:
    """Come to *phase* as an ordinary client does, waiting for each answer."""
    if phase >= Phase.HANDSHAKE:
        link.send(wire.handshake())
    if phase >= Phase.CONNECT:
        link.send(wire.connect())
        link.expect("answer to connect", status_is("NetConnection.Connect.Success"))
    if phase >= Phase.PUBLISH:
        link.send(wire.create_stream())
        link.expect("answer to createStream", answer_to(2))
    if phase in (Phase.PUBLISH, Phase.LIVE):
        link.send(wire.publish(key))
        link.expect("permission to publish", status_is("NetStream.Publish.Start"))
    if phase is Phase.LIVE:
        link.send(wire.opening())
    if phase is Phase.PLAY:
        link.send(wire.play(stream))
        link.expect("permission to play", status_is("NetStream.Play.Start"))


def follow_up(link: Link, phase: Phase, chunk_size: int, *, key: str = wire.KEY) -> str:
    """From *phase*, publish two frames as an ordinary client does. Return what went wrong, or nothing."""
    try:
        if phase is not Phase.PLAY:
            _publish_two_frames(link, phase, chunk_size, key)
        link.send(wire.create_stream(950, chunk_size=chunk_size))
        link.expect("answer to a command after the case", answer_to(950))
    except StuckError as stuck:
        return str(stuck)
    return ""


def _publish_two_frames(link: Link, phase: Phase, chunk_size: int, key: str) -> None:
    if phase < Phase.HANDSHAKE:
        link.send(wire.handshake())
    if phase < Phase.CONNECT:
        link.send(wire.connect(chunk_size=chunk_size))
        link.expect("answer to connect", status_is("NetConnection.Connect.Success"))
    msid = 1
    if phase < Phase.PUBLISH:
        link.send(wire.create_stream(901, chunk_size=chunk_size))
        values = link.expect("answer to createStream", answer_to(901)).values()
        if values[0] == "_result" and isinstance(values[-1], float):
            msid = int(values[-1])
        before = sum(status(heard)[1] == "NetStream.Publish.Start" for heard in link.heard)
        link.send(wire.publish(key, msid=msid, tid=902, chunk_size=chunk_size))
        _expect_another_start(link, before)
    if phase < Phase.LIVE:
        link.send(wire.opening(msid=msid, chunk_size=chunk_size))
    link.send(
        wire.video(last_picture, FOLLOW_UP_TIME, msid=msid, chunk_size=chunk_size)
        + wire.audio(last_sound, FOLLOW_UP_TIME, msid=msid, chunk_size=chunk_size)
    )


def _expect_another_start(link: Link, before: int) -> None:
    while sum(status(heard)[1] == "NetStream.Publish.Start" for heard in link.heard) == before:
        if not link.listen():
            raise StuckError(f"no permission to publish; {'closed' if link.closed else 'open'}, heard {link.summary()}")


def missing_in_order(wanted: tuple[tuple[int, int | None, bytes], ...], got: list[tuple[int, int, bytes]]) -> str:
    """Check that *wanted* is an ordered part of *got*; return what is missing."""
    at = 0
    for kind, timestamp, body in wanted:
        while at < len(got):
            have_kind, have_time, have_body = got[at]
            at += 1
            if have_kind == kind and have_body == body and timestamp in (None, have_time):
                break
        else:
            have = [(kind, time, len(body), body[:12].hex()) for kind, time, body in got[-8:]]
            lost = f"type {kind} at {timestamp} ms, {len(body)} bytes ({body[:12].hex()})"
            return f"{lost} did not come out; the last were {have}"
    return ""
