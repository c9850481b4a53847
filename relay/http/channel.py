"""The connection under a request, with deadlines that a slow peer cannot move.

twisted.web restarts its one timer at every byte, takes bodies of any size and waits for ever for a peer that does
not read; all three let one machine hold thousands of connections. Here every phase has an absolute deadline.
The rule: whatever the peer does or leaves undone, a timer is running, unless the relay itself is busy answering.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from twisted.internet.interfaces import IDelayedCall, IReactorTime, ITCPTransport
from twisted.python.failure import Failure
from twisted.web import http

from relay.http.problems import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """What a peer may make us hold or wait for."""

    headers_s: float = 10.0
    """From the first byte of a request (or from accept) to the end of its headers."""
    body_s: float = 10.0
    """From there to the end of the body."""
    body_bytes: int = 1024 * 1024
    """The largest body; API bodies are far below 64 kB."""
    idle_s: float = 30.0
    """Between two requests of one connection: longer than a player's playlist interval."""
    stall_s: float = 10.0
    """For a peer that does not read what it asked for..."""
    stall_rate: int = 8 * 1024
    """...plus the time its unsent bytes take at this rate: slower than any video that could be watched."""
    connections: int = 12_000
    """Open HTTP connections in all; one viewer keeps one."""
    api_in_flight: int = 8
    """Unfinished API requests of one address."""
    mount_in_flight: int = 2_000
    """Unfinished requests of one address to plugins' resources: an office is one address, and players wait there for
    what comes next, with two or three requests each."""
    answer_s: float = 30.0
    """For an API function that waits."""


class RelayChannel(http.HTTPChannel):
    """One HTTP/1.1 connection. `timeOut` stays None: twisted's own timer is replaced, see the module's docstring."""

    limits = HttpLimits()
    clock: IReactorTime
    timeOut = None

    _deadline: IDelayedCall | None = None
    _stall: IDelayedCall | None = None
    _idle = False  # between two requests
    _quiet = True  # the peer has not sent a byte of the next request
    _unread = 0  # bytes written since the peer's socket was last known to be empty
    _body = 0  # bytes of a chunked body so far

    def connectionMade(self) -> None:
        """Start the clock for the first request."""
        super().connectionMade()  # type: ignore[no-untyped-call]
        self._arm(self.limits.headers_s)

    def dataReceived(self, data: bytes) -> None:
        """Start the clock when a further request begins; never move a clock that is running."""
        self._quiet = False
        if self._idle:
            self._idle = False
            self._arm(self.limits.headers_s)
        super().dataReceived(data)  # type: ignore[no-untyped-call]

    def headerReceived(self, line: bytes) -> bool:
        """Refuse a body that announces itself too large; int() of thousands of digits would raise, so count first."""
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            digits = value.strip(b" \t")
            if digits.isdigit() and (len(digits) > 12 or int(digits) > self.limits.body_bytes):
                self.refuse(Problem(413, "body.too_large", f"At most {self.limits.body_bytes} bytes are taken."))
                return False
        return bool(super().headerReceived(line))  # type: ignore[no-untyped-call]

    def allHeadersReceived(self) -> None:
        """Give the body its own deadline."""
        super().allHeadersReceived()  # type: ignore[no-untyped-call]
        if self.length != 0:
            self._arm(self.limits.body_s)

    def rawDataReceived(self, data: bytes) -> None:
        """Count a chunked body, whose size nobody announced."""
        if not self._handlingRequest and self.length is None:
            self._body += len(data)
            if self._body > self.limits.body_bytes:
                self.refuse(Problem(413, "body.too_large", f"At most {self.limits.body_bytes} bytes are taken."))
                return
        super().rawDataReceived(data)

    def allContentReceived(self) -> None:
        """The request is whole: from here the time is ours, not the peer's."""
        self._body = 0
        self._disarm()
        super().allContentReceived()  # type: ignore[no-untyped-call]

    def requestDone(self, request: http.Request) -> None:
        """Wait for the next request."""
        if self.persistent:
            self._idle = self._quiet = True
            self._arm(self.limits.idle_s)
            if not self._waitingForTransport:
                self._unread = 0
        super().requestDone(request)  # type: ignore[no-untyped-call]

    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse a request line or header of more than 16 KiB."""
        self.refuse(Problem(431, "headers.too_large"))

    def refuse(self, problem: Problem) -> None:
        """Answer a request that never became one, and close."""
        self.write(problem.raw())
        self.loseConnection()

    def _respondToBadRequestAndDisconnect(self) -> None:
        self.refuse(Problem(400, "request.malformed", "This is not a well-formed HTTP/1.1 request."))

    # The peer must read.

    def write(self, data: bytes) -> None:
        """Send, and remember how much may be waiting."""
        self._unread += len(data)
        super().write(data)  # type: ignore[no-untyped-call]

    def writeSequence(self, iovec: list[bytes]) -> None:
        """Send, and remember how much may be waiting."""
        self._unread += sum(map(len, iovec))
        super().writeSequence(iovec)  # type: ignore[no-untyped-call]

    def pauseProducing(self) -> None:
        """The transport is full: the peer must take what is there in time."""
        super().pauseProducing()  # type: ignore[no-untyped-call]
        self._expect_reading()

    def resumeProducing(self) -> None:
        """The peer took everything."""
        self._unread = 0
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        super().resumeProducing()  # type: ignore[no-untyped-call]

    def loseConnection(self) -> None:
        """Close once everything is sent, or when the peer takes too long to read it."""
        self._disarm()
        self._expect_reading()
        super().loseConnection()  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Leave no timer behind."""
        self._disarm()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    def _expect_reading(self) -> None:
        if self._stall is None:
            seconds = self.limits.stall_s + self._unread / self.limits.stall_rate
            self._stall = self.clock.callLater(seconds, self._stalled)

    def _stalled(self) -> None:
        self._stall = None
        cast(ITCPTransport, self.transport).abortConnection()

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._deadline = self.clock.callLater(seconds, self._expired)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expired(self) -> None:
        self._deadline = None
        if self._quiet:
            self.loseConnection()
        else:
            self.refuse(Problem(408, "request.too_slow"))
