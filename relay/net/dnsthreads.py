"""Threads for look-ups of names, and the resolver that uses them.

The rule it guards: a name server that hangs holds up nothing but what waits for that name: not other names, not other
work in threads, not the stop of the relay, not the end of the process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from socket import gaierror, getaddrinfo
from threading import Thread
from typing import Any

from twisted.internet._resolver import GAIResolver  # Twisted has no public way to give DNS its own threads
from twisted.internet.interfaces import IAddress, IHostnameResolver
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from relay.net.addresses import Collector, NamedLookUp

DNS_THREADS = 64
"""Names that may hang at once before another one waits. Each holds a thread for up to half a minute, which Twisted's
shared pool could not spare."""

_Question = tuple[str, int, frozenset[type[IAddress]] | None, str]


@implementer(IHostnameResolver)
class SharedLookUps:
    """Asks *inner* for a name once at a time: whoever wants it meanwhile gets the same answer.

    A destination gives a look-up up after seconds and asks again, while the one before still holds its thread. Nothing
    is kept: who asks when no look-up runs gets a new one.
    """

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._running: dict[_Question, list[Any]] = {}

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        """Part of IHostnameResolver."""
        types = None if addressTypes is None else frozenset(addressTypes)
        question = (hostName, portNumber, types, transportSemantics)
        resolution = NamedLookUp(hostName)
        resolutionReceiver.resolutionBegan(resolution)
        waiting = self._running.get(question)
        if waiting is not None:
            waiting.append(resolutionReceiver)
            return resolution
        self._running[question] = [resolutionReceiver]
        collector = Collector(lambda found: self._answer(question, found))
        self._inner.resolveHostName(collector, hostName, portNumber, addressTypes, transportSemantics)
        return resolution

    def _answer(self, question: _Question, found: Sequence[IAddress]) -> None:
        for receiver in self._running.pop(question):
            for address in found:
                receiver.addressResolved(address)
            receiver.resolutionComplete()


class DnsThreads(ThreadPool):
    """Looks up the names of a reactor from `start` to `stop`. Nobody waits for its threads."""

    threadFactory = partial(Thread, daemon=True)  # type: ignore[assignment]

    def __init__(self, reactor: Any, *, getaddrinfo: Callable[..., Any] = getaddrinfo) -> None:
        super().__init__(0, DNS_THREADS, "dns")
        self._reactor = reactor
        self._getaddrinfo = getaddrinfo
        self._resolver_before: Any = None

    def start(self) -> None:
        super().start()
        look_up: Any = self._look_up
        inner = GAIResolver(self._reactor, lambda: self, look_up)
        self._resolver_before = self._reactor.installNameResolver(SharedLookUps(inner))

    def _look_up(self, *question: Any) -> Any:
        """Have every question answered: what is no name at all has no address."""
        try:
            return self._getaddrinfo(*question)
        except UnicodeError as error:
            raise gaierror(str(error)) from error

    def stop(self) -> None:
        self._reactor.installNameResolver(self._resolver_before)
        self.threads = []  # those that would be joined
        super().stop()
