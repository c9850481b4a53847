"""Two ways to hand bytes to a peer without queueing them here: straight to the kernel, or through TLS.

Twisted's `transport.write` never refuses: what the kernel does not take piles up in memory (reliability.md M2) and
each write costs twice a direct send (speed.md). So players and destinations keep their backlog themselves, as shared
references, and ask a writer how much it takes *now*. This is the only module that looks at a transport's private
attributes; `has_unsent` falls back to "yes" when they are gone, which is slow and correct.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from twisted.internet.interfaces import IPullProducer, IPushProducer, ISSLTransport
from zope.interface import implementer

Piece = bytes | memoryview

MAX_PIECES = 512
"""Buffers per sendmsg call; Linux stops at 1024 (IOV_MAX)."""

MAX_COPY = 128 * 1024
"""Bytes handed to a TLS transport at a time. It encrypts into a copy of its own and takes everything it is given, so
this is what a peer that does not read can make us hold; a whole GOP would be megabytes for each of them."""

MAX_FLUSH = 1024 * 1024
"""The same for a flush, which many share. Nearly every one is smaller and goes out whole, so that the peer stays in
step with the others."""


class Writer(Protocol):
    """Takes as many bytes as the peer can take now."""

    @property
    def send_now(self) -> Callable[[bytes], int]:
        """Sends one piece now; may take less than all, raises BlockingIOError when full. Only while `clear`."""
        ...

    @property
    def clear(self) -> bool:
        """Nothing sent earlier is still waiting, so `send_now` keeps the order."""
        ...

    def send(self, pieces: Sequence[Piece]) -> int:
        """Send *pieces* in order; return how many bytes were taken (0: the peer is full). Raises OSError when dead."""
        ...

    def wait(self) -> None:
        """Ask for one `on_writable` call when there is room again."""
        ...

    def close(self) -> None:
        """Let go of the transport."""
        ...


def has_unsent(transport: Any) -> bool:
    """Whether Twisted still holds bytes for this transport that must go before ours."""
    try:
        return bool(transport._tempDataLen or len(transport.dataBuffer) > transport.offset)
    except AttributeError:
        return True


@implementer(IPullProducer)
class SocketWriter:
    """Sends on the socket itself; Twisted is asked only to tell when a full socket drains.

    Registered as a pull producer because Twisted calls `resumeProducing` of one each time its own (empty) buffer
    drains, which is exactly "the socket is writable".
    """

    def __init__(self, transport: Any, on_writable: Callable[[], None]) -> None:
        self._transport = transport
        self._on_writable = on_writable
        sock = transport.getHandle()
        self._sendmsg = sock.sendmsg
        self.send_now: Callable[[bytes], int] = sock.send
        """The socket's own send, for the fan-out loop; raises BlockingIOError when the peer is full."""
        self._waiting = False
        transport.registerProducer(self, False)

    @property
    def clear(self) -> bool:
        """Nothing of ours or of Twisted's is waiting, so `send_now` keeps the order."""
        return not self._waiting and not has_unsent(self._transport)

    def send(self, pieces: Sequence[Piece]) -> int:
        if has_unsent(self._transport):
            return 0
        try:
            return int(self._sendmsg(pieces[:MAX_PIECES]))
        except BlockingIOError:
            return 0

    def wait(self) -> None:
        self._waiting = True
        self._transport.startWriting()

    def resumeProducing(self) -> None:
        if self._waiting and not has_unsent(self._transport):
            self._waiting = False
            self._on_writable()

    def stopProducing(self) -> None:
        self._waiting = False

    def close(self) -> None:
        self._waiting = False
        self._transport.unregisterProducer()


@implementer(IPushProducer)
class TransportWriter:
    """Sends through the transport (TLS): takes everything while the transport has not asked to pause."""

    def __init__(self, transport: Any, on_writable: Callable[[], None]) -> None:
        self._transport = transport
        self._on_writable = on_writable
        self._paused = False
        self._waiting = False
        transport.registerProducer(self, True)

    @property
    def clear(self) -> bool:
        """TLS takes whole writes, so the order is always kept."""
        return not self._paused

    def send_now(self, data: bytes) -> int:
        """Send *data*, or the part of it that the transport takes before it asks to pause."""
        taken = 0
        while taken < len(data) and not self._paused:
            self._transport.write(data[taken : taken + MAX_FLUSH])
            taken += MAX_FLUSH
        return min(taken, len(data))

    def send(self, pieces: Sequence[Piece]) -> int:
        if self._paused:
            return 0
        data = b"".join(_first(pieces, MAX_COPY))
        self._transport.write(data)
        return len(data)

    def wait(self) -> None:
        self._waiting = True

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        if getattr(self._transport, "_lostTLSConnection", False):
            # The peer said goodbye while we were paused. Twisted closes once the producer is gone, and would take and
            # forget all that we write until then.
            self.close()
            return
        self._paused = False
        if self._waiting:
            self._waiting = False
            self._on_writable()

    def stopProducing(self) -> None:
        self._waiting = False

    def close(self) -> None:
        self._waiting = False
        self._transport.unregisterProducer()


def _first(pieces: Iterable[Piece], count: int) -> Iterator[Piece]:
    """Yield what makes up the first *count* bytes of *pieces*."""
    for piece in pieces:
        yield piece if len(piece) <= count else memoryview(piece)[:count]
        count -= len(piece)
        if count <= 0:
            return


def writer_for(transport: Any, on_writable: Callable[[], None]) -> Writer:
    """Choose the way for this transport."""
    if ISSLTransport.providedBy(transport) or not hasattr(transport, "startWriting"):
        return TransportWriter(transport, on_writable)
    return SocketWriter(transport, on_writable)
