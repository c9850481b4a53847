"""Pushes to real sockets whose waits and deadlines follow a clock that the test turns."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IReactorPluggableNameResolver, IReactorTCP, IReactorTime
from twisted.logger import formatEvent, globalLogPublisher
from zope.interface import implementer

from relay.context import PushTarget
from relay.events import Event, TargetStateChanged
from relay.net.attempt import PushTools
from relay.net.flusher import Flusher
from relay.net.push import RtmpPush
from relay.net.pushgroup import PushGroup
from relay.net.spacing import HostSpacing
from relay.net.watch import Watch
from relay.secret import Secret
from tests.helpers.doors import new_clock
from tests.helpers.peers import Platform
from tests.helpers.reactor import NetTestCase, pass_time, quiet, reactor, turns, until
from tests.helpers.seats import picture, sound
from tests.stream import media

KEY = "canary-5d41402abc4b2a76"
METADATA = media.data(0, role=media.Role.METADATA, body=b"\x02\x00\x0aonMetaData\x08\x00\x00\x00\x00\x00\x00\x09")
TRACKS = media.tracks(media.video_header(), media.audio_header(), metadata=METADATA)
FRAME_MS = 40
GOP = 25


@implementer(IReactorTime, IReactorTCP, IReactorPluggableNameResolver)
class HalfReactor:
    """The real reactor for sockets, a clock for time."""

    def __init__(self, clock: Any) -> None:
        self.callLater = clock.callLater
        self.seconds = clock.seconds
        self.nameResolver = reactor.nameResolver

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)


class PushTestCase(NetTestCase):
    """A stream that is pushed to platforms of the test's own."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = new_clock()
        self.reactor = HalfReactor(self.clock)
        self.watch = Watch(self.clock)
        self.watch.startService()
        self.flusher = Flusher(reactor)
        self.events: list[Event] = []
        self.logged: list[str] = []
        self.serial = 0
        self.dts = 100_000
        self.group: PushGroup | None = None
        self.tools = PushTools(
            reactor=self.reactor,
            watch=self.watch,
            emit=self.events.append,
            uniform=lambda _, high: high,
            spacing=HostSpacing(lambda _, high: high),
            queue_bytes=8 * 1024 * 1024,
            queue_ms=2000,
        )
        globalLogPublisher.addObserver(self._log)
        self.addCleanup(globalLogPublisher.removeObserver, self._log)
        self.later(self._end)

    def _log(self, event: Any) -> None:
        self.logged.append(f"{formatEvent(event)} {event}")

    async def _end(self) -> None:
        if self.group is None:
            return
        closing = self.group.close()
        for _ in range(12):
            self.wait(0.25)
            await turns(2)
        await until(lambda: closing.called, "the end of the push")
        self.flusher.flush_now()  # under load a flush waits a little
        assert not self.watch._watched, "a link is still watched"

        def due() -> list[Any]:
            return [call for call in self.clock.getDelayedCalls() if call.active()][1:]

        # A look-up's limit goes when its thread answers, which takes real time.
        await until(lambda: not due(), f"a retry is still due: {due()}")

    async def kernels_quiet(self, push: RtmpPush) -> None:
        """Wait until the kernels have moved what they can: what they acknowledge late is progress of a destination."""
        await quiet(lambda: push.tcp and push.tcp.acked_bytes, turns_quiet=40)

    def platform(self) -> tuple[Platform, int]:
        """A destination and its port."""
        platform = Platform()
        return platform, self.listen(platform)

    def push(self, *places: int | PushTarget) -> list[RtmpPush]:
        """Push to these ports of this machine, or to these targets."""
        targets = [
            PushTarget(name=f"t{number}", url=f"rtmp://127.0.0.1:{place}/live", key=Secret(KEY))
            if isinstance(place, int)
            else place
            for number, place in enumerate(places)
        ]
        self.group = PushGroup(self.tools, self.flusher, "show", targets)
        self.group.configure(TRACKS)
        return list(self.group.targets.values())

    def frames(self, count: int = 1, *, size: int = 400) -> None:
        """Publish so many pictures and sounds."""
        assert self.group is not None
        for _ in range(count):
            key = (self.dts // FRAME_MS) % GOP == 0
            self.group.write(picture(self.serial, self.dts, key=key, size=size))
            self.group.write(sound(self.serial + 1, self.dts))
            self.serial += 2
            self.dts += FRAME_MS

    def wait(self, seconds: float) -> None:
        """Let waits and deadlines run."""
        pass_time(self.clock, seconds)

    async def live(self, push: RtmpPush) -> None:
        """Wait until a target is live."""
        await until(lambda: push.state.value == "live", f"{push.name} live, it is {push.state.value} {push.detail}")

    async def state(self, push: RtmpPush, state: str) -> None:
        """Wait for a state; the clock goes on a little, because connecting has timers of its own."""

        def reached() -> bool:
            if push.state.value == "connecting":
                self.clock.advance(0.02)
            return push.state.value == state

        await until(reached, f"{push.name} {state}, it is {push.state.value} {push.detail}")

    def due_in(self, push: RtmpPush) -> float:
        """Seconds between the failure and the next attempt."""
        assert push._retry is not None
        return round(push._retry.getTime() - push.since, 3)

    def states(self, name: str = "t0") -> list[str]:
        """The states that were reported for a target."""
        return [event.state for event in self.events if isinstance(event, TargetStateChanged) and event.target == name]

    def assert_key_is_nowhere(self, *more: object) -> None:
        """Check everything that a person or a program may see."""
        seen = [*self.logged, *map(repr, self.events), *map(repr, more), *map(str, more)]
        assert not [text for text in seen if KEY in text]
