"""Small parts that calling a hook safely is made of: a deadline that holds, a breaker, counters, checked answers.

Knows no hook by name. The rule it guards: whatever a plugin returns or awaits, the caller goes on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from twisted.application.service import IService
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.resource import IResource

from relay.stream.sinks import Sink

T = TypeVar("T")


@dataclass(slots=True)
class HookStats:
    """What one hook of one plugin cost since the start."""

    calls: int = 0
    errors: int = 0
    """It raised, answered with the wrong type, or took too long."""
    timeouts: int = 0
    """The part of `errors` that took too long."""
    dropped: int = 0
    """Events it was not told, because too many were in flight or it failed too often."""
    seconds: float = 0.0
    """Time from the call to the answer."""


@dataclass(slots=True)
class Breaker:
    """Stops calling a plugin for a while after it failed several times in a minute (reliability.md case 162)."""

    limit: int = 5
    window_s: float = 60.0
    pause_s: float = 60.0
    _failures: deque[float] = field(default_factory=deque)
    _paused_until: float = float("-inf")

    def failed(self, now: float) -> bool:
        """Count a failure; return True when this one was one too many."""
        self._failures.append(now)
        while now - self._failures[0] >= self.window_s:
            self._failures.popleft()
        if len(self._failures) < self.limit:
            return False
        self._failures.clear()
        self._paused_until = now + self.pause_s
        return True

    def paused(self, now: float) -> bool:
        """Whether the plugin should be left alone now."""
        return now < self._paused_until


class TooSlowError(Exception):
    """The answer did not come in time."""


class AnswerCancelledError(Exception):
    """The plugin's own work was cancelled by somebody else than the caller."""


def within(answer: Awaitable[T], seconds: float, clock: IReactorTime) -> Deferred[T]:
    """Wait for *answer* at most *seconds*, then fail with TooSlowError and cancel it.

    The result fires at the deadline even if the awaited work ignores its cancellation, which
    `Deferred.addTimeout` does not promise. Cancelling the result cancels the work.
    """
    inner: Deferred[T] = Deferred.fromCoroutine(_awaited(answer))
    over = False

    def give_up(_: Deferred[T]) -> None:
        nonlocal over
        over = True
        deadline.cancel()
        inner.cancel()

    def expire() -> None:
        nonlocal over
        over = True
        outer.errback(TooSlowError(f"no answer within {seconds:g} s"))
        inner.cancel()

    def arrived(result: T | Failure) -> None:
        if over:
            return  # whatever comes now, the caller has gone on
        deadline.cancel()
        if not isinstance(result, Failure):
            outer.callback(result)
        elif result.check(CancelledError):
            outer.errback(AnswerCancelledError("its work was cancelled"))
        else:
            outer.errback(result)

    outer: Deferred[T] = Deferred(give_up)
    deadline = clock.callLater(max(seconds, 0.0), expire)
    inner.addBoth(arrived)
    return outer


async def _awaited(answer: Awaitable[T]) -> T:
    return await answer


class WrongAnswerError(TypeError):
    """A hook answered with something it may not answer with."""


def collected_sinks(answer: object) -> list[Sink]:
    """Return the sinks in an answer of `open_sinks`; when one is wrong, close the others and raise."""
    sinks: list[Sink] = []
    try:
        for one in _items(answer, "sinks"):
            if isinstance(one, type) or not isinstance(one, Sink):
                raise WrongAnswerError(f"{type(one).__name__} is not a sink: it needs configure, write and close")
            sinks.append(one)
    except Exception:
        for sink in sinks:
            close_quietly(sink)
        raise
    return sinks


def collected_services(answer: object) -> list[IService]:
    """Return the services in an answer of `services`."""
    services: list[IService] = []
    for one in _items(answer, "services"):
        if not IService.providedBy(one):
            raise WrongAnswerError(f"{type(one).__name__} is not a Twisted service")
        services.append(one)
    return services


def collected_resources(answer: object) -> dict[str, IResource]:
    """Return the resources in an answer of `http_resources`."""
    _refuse_coroutine(answer)
    if answer is None:
        return {}
    if not isinstance(answer, Mapping):
        raise WrongAnswerError(f"answered {type(answer).__name__} instead of a mapping of resources")
    resources: dict[str, IResource] = {}
    for segment, resource in answer.items():
        if not (isinstance(segment, str) and segment and "/" not in segment):
            raise WrongAnswerError(f"{segment!r} is not one path segment")
        if not IResource.providedBy(resource):
            raise WrongAnswerError(f"{type(resource).__name__} at {segment!r} is not a Twisted web resource")
        resources[segment] = resource
    return resources


def _items(answer: object, what: str) -> Iterable[object]:
    _refuse_coroutine(answer)
    if answer is None:
        return ()
    if not isinstance(answer, Iterable):
        raise WrongAnswerError(f"answered {type(answer).__name__} instead of {what}")
    return answer


def _refuse_coroutine(answer: object) -> None:
    if isinstance(answer, Coroutine):
        answer.close()  # or Python would warn that nobody awaited it
        raise WrongAnswerError("must not be async: this hook is not awaited")


def close_quietly(sink: Sink) -> None:
    """Close a sink that is not going to be used; its own failure has nobody left to harm."""
    try:
        closing = sink.close()
        if isinstance(closing, Coroutine):
            Deferred.fromCoroutine(closing).addErrback(lambda _: None)
        elif isinstance(closing, Deferred):
            closing.addErrback(lambda _: None)
    except Exception:
        return
