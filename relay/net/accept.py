"""Accepting connections: the limits are asked before anything is built, and a few connections at a time.

The rule it guards (reliability.md P17, case 121): a flood of connections takes time from nobody who is on air. What a
refused one costs is the look at the counters; Twisted alone would build a transport and a protocol first, and would
accept hundreds in one turn.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.internet.tcp import Port
from twisted.protocols.tls import TLSMemoryBIOFactory

from relay.net.door import Door
from relay.net.ingest import IngestProtocol

MOST_PER_TURN = 16
"""Connections accepted before everybody else has a turn again: about 3 ms when all are let in."""


class IngestFactory(Factory):
    """Makes an IngestProtocol for each connection that is let in."""

    noisy = False

    def __init__(self, door: Door, *, tls: bool) -> None:
        self._door = door
        self._tls = tls

    def buildProtocol(self, addr: IAddress | None) -> IngestProtocol | None:
        """Return None for who is not let in; the connection is closed then, unheard."""
        door = self._door
        peer = str(getattr(addr, "host", ""))
        admitted = "shutdown" if door.draining else door.admission.admit(peer, door.clock.seconds(), tls=self._tls)
        if isinstance(admitted, str):
            phase = "tls" if self._tls else "handshake"
            door.report_refusal(door.next_connection_id(), peer, phase, admitted, "refused at accept")
            return None
        return IngestProtocol(door, admitted, tls=self._tls)


class SecureFactory(TLSMemoryBIOFactory):
    """TLS around the protocols of another factory, which may let nobody in."""

    noisy = False

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Build nothing around nothing: the state of a TLS connection is 26 KiB."""
        inner = self.wrappedFactory.buildProtocol(addr)
        return None if inner is None else self.protocol(self, inner)


class CalmPort(Port):
    """A listening port that accepts at most `MOST_PER_TURN` connections in a turn of the reactor."""

    _most = 1

    @property
    def numberAccepts(self) -> int:
        """How many Twisted accepts in the next turn; it raises this without an end while there are more."""
        return self._most

    @numberAccepts.setter
    def numberAccepts(self, wanted: int) -> None:
        self._most = min(wanted, MOST_PER_TURN)
