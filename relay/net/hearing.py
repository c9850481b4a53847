"""How much of what a peer says is acted on now, and how much later.

64 KiB of an honest encoder are a frame or two; 64 KiB of an attacker are 30,000 chunks or 15,000 messages, and a tenth
of a second. The rule it guards: no connection has the reactor for much longer than `parse_ms_per_turn` at a time, and
who needs more rests for as long as its turn took, so that all others have theirs. Nothing is dropped: the bytes wait
in the kernel. A connection that says ordinary things comes here for two comparisons.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from relay.rtmp.errors import RemoteProtocolError
from relay.rtmp.events import Event

if TYPE_CHECKING:
    from relay.net.ingest import IngestProtocol

SLICE, WHOLE = 4096, 1 << 30
"""Bytes of a read that are parsed without a look at the clock: few of strangers, whose bytes may be 2,000 chunks, all
of those who may publish."""

QUICK_BYTES = 64 * 1024
"""After a slow slice so much must be parsed quickly before reads are taken whole again: a slow one may have been the
machine's fault."""

BATCH = 64
"""Events of one read that are acted on without a look at the clock. Encoders make a few; tiny messages thousands."""

MOST_AT_END = 2000
"""Events that still count when the peer has left: a read of 64 KiB of an honest encoder holds fewer."""


class Hearing:
    """Listens to one connection's peer.

    Attributes:
        trusted: whether the peer may publish.
    """

    __slots__ = ("_clock", "_connection", "_now", "_quick", "_slice", "_turn_s", "_unread", "_waiting", "trusted")

    def __init__(self, connection: IngestProtocol, clock: Any, turn_s: float) -> None:
        self._connection = connection
        self._clock = clock
        self._now = clock.seconds
        self._turn_s = turn_s
        self._slice = SLICE
        self._quick = 0
        self.trusted = False
        self._waiting: Iterator[Event] | None = None
        """What is still to be acted on; empty while nothing is but a rest; None when we listen."""
        self._unread: list[bytes] = []

    def hear(self, data: bytes) -> None:
        """Parse *data* and act on it, or keep it for later."""
        if self._waiting is not None:
            self._unread.append(data)  # TLS had decrypted it already when we stopped reading
        elif len(data) <= self._slice:
            self._read(data)
        else:
            self._read_slices(data)

    def trust(self) -> None:
        """The peer may publish: what it sends is read as it comes."""
        self.trusted = True
        self._slice = WHOLE

    def end(self) -> None:
        """The peer has left: what it said before that counts, as far as an honest encoder can have said it."""
        waiting, self._waiting = self._waiting, None
        connection = self._connection
        if waiting is None or connection.closed or not self.trusted:
            return
        connection.take(islice(waiting, MOST_AT_END), self._now())
        if self._unread and not connection.closed:
            self._read(b"".join(self._unread))

    def _read(self, data: bytes) -> None:
        connection = self._connection
        now = self._now()
        try:
            events = connection.rtmp.receive_data(data, now)
        except RemoteProtocolError as error:
            connection.flush()
            connection.refuse(error.code, error.text, error.answer)
            return
        if len(events) > BATCH:
            self._waiting = iter(events)
            self._take_a_turn(began=now)
            return
        spent = self._now() - now
        connection.take(events, now)
        reply = connection.rtmp.data_to_send()
        if reply:
            connection.send(reply)
        if spent > self._turn_s and not connection.closed:
            self._slice, self._quick = SLICE, 0
            self._waiting = iter(())
            self._rest(spent)

    def _read_slices(self, data: bytes) -> None:
        for start in range(0, len(data), SLICE):
            if self._waiting is not None:
                self._unread.append(data[start:])
                return
            if not self._connection.closed:
                self._read(data[start : start + SLICE])
        self._quick += len(data)
        if self.trusted and self._quick >= QUICK_BYTES:
            self._slice = WHOLE

    def _take_a_turn(self, began: float) -> None:
        """Act on what waits until the turn is over, then rest for as long as it took."""
        connection, waiting = self._connection, self._waiting
        while waiting is not None:
            now = self._now()
            if now - began > self._turn_s:
                self._rest(now - began)
                break
            events = [] if connection.closed else list(islice(waiting, BATCH))
            if not events:
                self._waiting = waiting = None
            connection.take(events, now)
        connection.flush()

    def _rest(self, seconds: float) -> None:
        transport: Any = self._connection.transport
        transport.pauseProducing()
        self._clock.callLater(seconds, self._go_on)

    def _go_on(self) -> None:
        self._take_a_turn(began=self._now())
        if self._waiting is not None:
            return
        transport: Any = self._connection.transport
        transport.resumeProducing()  # does nothing when the connection is gone
        if self._unread and not self._connection.closed:
            unread, self._unread = b"".join(self._unread), []
            self.hear(unread)
