"""A door for tests: every answer is chosen by the test, every event is kept."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from relay.config_limits import Limits
from relay.decisions import Allow, Decision, PlayRequest, PublishRequest
from relay.events import Event
from relay.net.admission import Admission
from relay.net.audiences import Audiences
from relay.net.door import Door
from relay.net.flusher import Flusher
from relay.net.moderation import Moderation
from relay.net.pollset import PollSet
from relay.net.watch import Watch
from relay.stream.registry import Registry
from tests.helpers.reactor import reactor


class Answers:
    """Decides as the test says. A Deferred keeps the question open."""

    def __init__(self) -> None:
        self.publish: Callable[[PublishRequest], Decision | Deferred[Decision]] = lambda request: Allow(
            stream_name="show", feed=request.stream_key.reveal() or "primary"
        )
        self.play: Callable[[PlayRequest], Decision | Deferred[Decision]] = lambda _: Allow()
        self.events: list[Event] = []
        self.asked: list[PublishRequest | PlayRequest] = []

    async def authorize_publish(self, request: PublishRequest) -> Decision:
        self.asked.append(request)
        return await _settled(self.publish(request))

    async def authorize_play(self, request: PlayRequest) -> Decision:
        self.asked.append(request)
        return await _settled(self.play(request))

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[Event]) -> list[Any]:
        """The events of one class."""
        return [event for event in self.events if isinstance(event, kind)]


async def _settled(answer: Decision | Deferred[Decision]) -> Decision:
    return await answer if isinstance(answer, Deferred) else answer


class Spawned:
    """Runs coroutines and keeps what went wrong in them."""

    def __init__(self) -> None:
        self.failures: list[Failure] = []

    def __call__(self, name: str, work: Awaitable[None]) -> None:
        ensureDeferred(work).addErrback(self.failures.append)  # type: ignore[arg-type]


def make_door(
    clock: Any, *, flush_clock: Any = None, apps: tuple[str, ...] = ("live",), merge_ms: int = 0, **limits: Any
) -> Door:
    """Build a door whose deadlines follow *clock*; `door.deciders` is an `Answers`, `door.spawn` a `Spawned`."""
    bounds = Limits(**limits)
    registry = Registry()
    watch = Watch(clock)
    watch.startService()
    return Door(
        clock=clock,
        limits=bounds,
        apps=apps,
        deciders=Answers(),
        registry=registry,
        audiences=Audiences(registry, Flusher(flush_clock or clock, merge_ms)),
        admission=Admission(bounds),
        watch=watch,
        moderation=Moderation(clock, PollSet(reactor)),
        spawn=Spawned(),
    )


def answers_of(door: Door) -> Answers:
    """The decider of a door made here."""
    assert isinstance(door.deciders, Answers)
    return door.deciders


def new_clock() -> Clock:
    """A clock that does not begin at 0, as the monotonic one does not."""
    clock = Clock()
    clock.advance(1000.0)
    return clock
