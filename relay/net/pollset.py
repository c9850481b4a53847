"""A poll set for the sockets of encoders, so that many of them can be read together and seldom.

It stands in for the reactor of a transport where that asks to be told of something to read. While nobody wants to
gather, the request is passed on and the reactor does what it always does. While somebody does, the sockets are in a
set of our own: they wake nobody, and `look` reads all that have something, by one call for each where Twisted makes
six. The rules it guards: nobody is in both sets, and whatever is not plain data (the end, an error) goes back to the
reactor, which knows what to do with it.
"""

from __future__ import annotations

import contextlib
import select
from typing import Any

from twisted.logger import Logger

HAVE_EPOLL = hasattr(select, "epoll")
"""Whether this system can gather; elsewhere the reactor reads everything."""

_PLAIN = 1
"""EPOLLIN."""

MOST_READS = 16
"""Reads of one socket at one look: 1 MiB, or 400 Mbit/s at the longest pause. One read would be 26 Mbit/s."""

AGAIN_S = 0.005
"""A look that has taken so long reads nobody again: a hundred encoders that catch up must not hold up all others."""

_WANTED = _PLAIN | 0x2000
"""EPOLLIN and EPOLLRDHUP: the peer has shut down its half."""


class PollSet:
    """The sockets of those who may publish; see above."""

    log = Logger(namespace="relay.pollset")

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._readers: dict[Any, int] = {}
        """All that want to read, with their descriptors: a closed one cannot be asked for it any more."""
        self._gathered: dict[int, Any] = {}
        """Those in our set; the others are with the reactor."""
        self._poller: Any = None

    def __getattr__(self, name: str) -> Any:
        """Be the reactor in everything else that a transport asks."""
        return getattr(self._reactor, name)

    @property
    def gathering(self) -> bool:
        """Whether sockets wait for `look`."""
        return self._poller is not None

    def adopt(self, transport: Any) -> None:
        """Take the TCP transport of an encoder in, whether it reads now or rests."""
        if transport.reactor is self:
            return  # it has published before
        transport.reactor = self
        if transport in self._reactor.getReaders():
            self.addReader(transport)

    def addReader(self, reader: Any) -> None:
        """Call its `doRead` when there is something to read."""
        if reader not in self._readers:
            self._readers[reader] = reader.fileno()
            self._place(reader)

    def removeReader(self, reader: Any) -> None:
        """Do so no more."""
        fd = self._readers.pop(reader, -1)
        if self._gathered.get(fd) is reader:
            self._release(fd)
        else:
            self._reactor.removeReader(reader)

    def start(self) -> None:
        """Gather from now on."""
        self._poller = select.epoll()
        for reader in self._readers:
            self._place(reader)

    def stop(self) -> None:
        """Give all sockets back to the reactor."""
        poller, self._poller = self._poller, None
        self._gathered.clear()
        poller.close()
        for reader in self._readers:
            self._place(reader)

    def look(self) -> None:
        """Read from each socket that has something; and again from who has more than one read takes, while time is."""
        until = self._reactor.seconds() + AGAIN_S
        gathered = self._gathered
        hungry = gathered
        for _ in range(MOST_READS):
            again: dict[int, Any] = {}
            for fd, event in self._poller.poll(0, max(len(gathered), 1)):
                reader = gathered.get(fd)
                if reader is None or fd not in hungry:
                    continue  # what another one said has ended it; or it has only begun to speak
                if event == _PLAIN:
                    again[fd] = reader
                    self._read(fd, reader)
                else:
                    self._give_back(fd, reader)
            if not again or self._poller is None or self._reactor.seconds() >= until:
                return  # the gathering itself may have been ended by what one of them said
            hungry = again

    def _read(self, fd: int, reader: Any) -> None:
        try:
            ended = reader.doRead()
        except Exception:  # as the reactor does: an error in one protocol ends its connection and no other
            self.log.failure("reading failed")
            reader.abortConnection()
        else:
            if ended:  # between the poll and the read; the reactor will find the same
                self._give_back(fd, reader)

    def _place(self, reader: Any) -> None:
        if self._poller is None:
            self._reactor.addReader(reader)
            return
        self._reactor.removeReader(reader)  # does nothing when it is not there
        fd = self._readers[reader]
        self._gathered[fd] = reader
        self._poller.register(fd, _WANTED)

    def _give_back(self, fd: int, reader: Any) -> None:
        if self._gathered.get(fd) is reader:
            self._release(fd)
            del self._readers[reader]
            self._reactor.addReader(reader)

    def _release(self, fd: int) -> None:
        del self._gathered[fd]
        with contextlib.suppress(OSError):  # closed already: the kernel has taken it out
            self._poller.unregister(fd)
