"""Tells the service what happens: in order, from a bounded queue, again and again until it has heard.

The rule it guards: a service that is slow or gone costs `MAX_QUEUE` events of memory and one connection at a time;
what is lost then is the oldest, and it is counted (reliability.md case 152).
"""

from __future__ import annotations

import random
import secrets
from collections import deque
from collections.abc import Callable, Collection, Mapping
from itertools import islice

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from relay.api import Event, FailoverLocked, StreamEnded, TooSlowError, within

from .asking import Posts
from .client import ServiceError
from .flapping import Flapping, Told
from .guards import Notice
from .wire import report, told

MAX_QUEUE = 1_000
"""Events that wait, those that are being sent included."""
MAX_BATCH = 50
"""Events in one request, about 20 KiB: a service that takes 100 ms for each keeps up with 500 events a second."""
LIMIT_S = 10.0
"""For one delivery. Nobody waits for it but the next one."""
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0
FAREWELL_S = 0.8
"""When the relay stops: for the events of the stop itself (all of it stays under 5 s, P22)."""
NEVER = frozenset({400, 413, 415, 422})
"""The service will never take these events, so they must not stand in the way of the next."""


class Teller:
    """Delivers events to one service."""

    def __init__(
        self,
        client: Posts,
        *,
        place: str,
        wanted: Collection[str],
        clock: IReactorTime,
        log: Logger,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.delivered = self.dropped = self.failures = 0
        self.flapping = Flapping()
        self.instance = secrets.token_hex(8)
        self._client = client
        self._place = place
        self._wanted = frozenset(wanted)
        self._clock = clock
        self._log = log
        self._uniform = uniform
        self._queue: deque[Mapping[str, object]] = deque()
        self._sequence = 0
        self._in_flight = 0
        self._tries = 0
        self._running = False
        self._sending: Deferred[None] | None = None
        self._retry: IDelayedCall | None = None
        self._flap_call: IDelayedCall | None = None
        self._notice = Notice(self._say_bad, self._say_good)
        self._losses = Notice(self._say_lost, lambda _: None)

    @property
    def queued(self) -> int:
        """Events that wait now."""
        return len(self._queue)

    def start(self) -> None:
        """Deliver from now on."""
        self._running = True
        self._go_on()

    # What comes in.

    def take(self, event: Event) -> None:
        """Queue an event, if it is wanted. Never waits."""
        if type(event).__name__ not in self._wanted and not isinstance(event, FailoverLocked | StreamEnded):
            return
        for one in self.flapping.take(event, self._clock.seconds()):
            self._add(one)
        self._watch_flapping()
        self._go_on()

    def _add(self, one: Told) -> None:
        event, left_out = one
        if type(event).__name__ not in self._wanted:
            return  # it told us only when a stream flaps
        self._sequence += 1
        self._queue.append({"sequence": self._sequence, "left_out": left_out, **told(event)})
        if len(self._queue) > MAX_QUEUE:
            del self._queue[self._in_flight]  # the oldest that is not on its way
            self._lost(1, "the queue is full")

    def _lost(self, count: int, why: str) -> None:
        self.dropped += count
        self._losses.fault(why, self._clock.seconds(), count)

    def _watch_flapping(self) -> None:
        due = self.flapping.next_due()
        if due is None or self._flap_call is not None or not self._running:
            return
        self._flap_call = self._clock.callLater(max(0.0, due - self._clock.seconds()), self._flapping_due)

    def _flapping_due(self) -> None:
        self._flap_call = None
        for one in self.flapping.due(self._clock.seconds()):
            self._add(one)
        self._watch_flapping()
        self._go_on()

    # What goes out.

    def _go_on(self) -> None:
        if self._running and self._queue and self._sending is None and self._retry is None:
            self._sending = Deferred.fromCoroutine(self._send())
            self._sending.addErrback(self._broken)
            self._sending.addBoth(self._sent)

    def _broken(self, failure: Failure) -> None:
        if failure.check(CancelledError) is None:
            self._log.failure("events cannot be told to {place}", failure, place=self._place)
            self._wait()

    def _sent(self, _: object) -> None:
        self._sending = None
        if self._running and self._queue and self._retry is None:
            self._retry = self._clock.callLater(0, self._try_again)  # a service that answers at once must not nest

    async def _send(self) -> None:
        batch = list(islice(self._queue, MAX_BATCH))
        self._in_flight = len(batch)
        try:
            problem = await self._deliver(report(self.instance, self.dropped, batch), LIMIT_S)
        finally:
            self._in_flight = 0
        if problem is None:
            self._forget(len(batch))
            self.delivered += len(batch)
        elif problem in NEVER:
            self._forget(len(batch))
            self._lost(len(batch), f"the service does not want them: HTTP status {problem}")
        else:
            self._wait()

    async def _deliver(self, document: bytes, seconds: float) -> int | None:
        """Post a document; return None when it was taken, else the HTTP status or 0."""
        try:
            reply = await within(self._client.post(document), seconds, self._clock)
        except (TooSlowError, ServiceError) as fault:
            return self._failed(str(fault), 0)
        if 200 <= reply.status < 300:
            self._tries = 0
            self._notice.success()
            return None
        return self._failed(f"HTTP status {reply.status}", reply.status)

    def _failed(self, reason: str, status: int) -> int:
        self.failures += 1
        self._notice.fault(reason, self._clock.seconds())
        return status

    def _forget(self, count: int) -> None:
        for _ in range(count):
            self._queue.popleft()

    def _wait(self) -> None:
        wait = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(self._tries, 16)) * self._uniform(0.5, 1.0)
        self._tries += 1
        if self._running:
            self._retry = self._clock.callLater(wait, self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        self._go_on()

    # The end.

    async def stop(self) -> None:
        """Stop; what is queued is tried once more, for a moment."""
        self._running = False
        for call in (self._retry, self._flap_call):
            if call is not None:
                call.cancel()
        self._retry = self._flap_call = None
        if self._sending is not None:
            self._sending.cancel()
        if self._queue:
            batch = list(islice(self._queue, MAX_QUEUE))
            if await self._deliver(report(self.instance, self.dropped, batch), FAREWELL_S) is None:
                self._forget(len(batch))
                self.delivered += len(batch)
        if self._queue:
            self._log.warn("{count} events were never told to {place}", count=len(self._queue), place=self._place)

    # Lines.

    def _say_bad(self, reason: str, count: int) -> None:
        self._log.warn(
            "events cannot be told to {place} ({count} failures): {reason}",
            place=self._place,
            count=count,
            reason=reason,
        )

    def _say_good(self, count: int) -> None:
        self._log.info("events are told to {place} again, after {count} failures", place=self._place, count=count)

    def _say_lost(self, reason: str, count: int) -> None:
        self._log.warn(
            "{dropped} events for {place} were dropped: {reason}", dropped=count, place=self._place, reason=reason
        )
