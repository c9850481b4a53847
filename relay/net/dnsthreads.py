"""Threads for look-ups of names, and the resolver that uses them.

The rule it guards: a name server that hangs holds up nothing but what waits for that name: not other work in threads,
not the stop of the relay, not the end of the process.
"""

from __future__ import annotations

from functools import partial
from threading import Thread
from typing import Any

from twisted.internet._resolver import GAIResolver  # Twisted has no public way to give DNS its own threads
from twisted.python.threadpool import ThreadPool

DNS_THREADS = 16
"""A stalled look-up holds a thread for seconds; Twisted's shared pool would hold everything else up with it."""


class DnsThreads(ThreadPool):
    """Looks up the names of a reactor from `start` to `stop`. Nobody waits for its threads."""

    threadFactory = partial(Thread, daemon=True)  # type: ignore[assignment]

    def __init__(self, reactor: Any) -> None:
        super().__init__(0, DNS_THREADS, "dns")
        self._reactor = reactor
        self._resolver_before: Any = None

    def start(self) -> None:
        super().start()
        self._resolver_before = self._reactor.installNameResolver(GAIResolver(self._reactor, lambda: self))

    def stop(self) -> None:
        self._reactor.installNameResolver(self._resolver_before)
        self.threads = []  # those that would be joined
        super().stop()
