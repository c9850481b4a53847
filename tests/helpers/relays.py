"""A door with a real listener: what a test on sockets needs of a relay, without the service around it."""

from __future__ import annotations

from typing import Any

from twisted.logger import globalLogPublisher

from relay.events import ConnectionRefused
from relay.media.packets import Packet
from relay.net.accept import IngestFactory
from relay.stream.feeds import Feed
from relay.stream.stream import Stream
from tests.helpers.doors import Answers, answers_of, make_door, new_clock
from tests.helpers.peers import Caller, encoder
from tests.helpers.reactor import NetTestCase, pass_time, reactor, until
from tests.helpers.seats import picture, sound
from tests.helpers.tls import tls_factory
from tests.stream import media


class RelayTestCase(NetTestCase):
    """Ingest on a real port; deadlines follow `self.clock`, bytes follow the reactor."""

    def open(self, *, tls: Any = None, apps: tuple[str, ...] = ("live",), **limits: Any) -> int:
        """Open a listener; return its port."""
        self.clock = new_clock()
        self.door = make_door(self.clock, flush_clock=reactor, apps=apps, **limits)
        self.answers: Answers = answers_of(self.door)
        self.lines: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self._observe)
        self.addCleanup(globalLogPublisher.removeObserver, self._observe)
        factory: Any = IngestFactory(self.door, tls=tls is not None)
        self.made: list[Any] = []
        build = factory.buildProtocol
        factory.buildProtocol = lambda addr: self.made.append(build(addr)) or self.made[-1]
        self.port = self.listen(factory if tls is None else tls_factory(tls, factory))
        self.later(self._everybody_leaves)
        return self.port

    def _observe(self, event: dict[str, Any]) -> None:
        if event.get("log_namespace") == "relay.ingest" and event.get("code"):
            self.lines.append(event)

    async def _everybody_leaves(self) -> None:
        assert self.door.spawn.failures == [], self.door.spawn.failures  # type: ignore[attr-defined]
        for protocol in tuple(self.door.watch._watched):
            protocol.transport.abortConnection()  # type: ignore[attr-defined]
        await until(lambda: self.door.admission.connections == 0, "everybody gone")
        await until(lambda: not self.door.watch._watched, "nothing watched")
        admission = self.door.admission
        assert (admission.unauthenticated, set(admission.roles.values())) == (0, {0}), "a ticket was not given back"

    @property
    def codes(self) -> list[str]:
        """Codes of the refusals so far."""
        return [event.code for event in self.answers.of(ConnectionRefused)]

    def wait(self, seconds: float) -> None:
        """Let deadlines run."""
        pass_time(self.clock, seconds)

    @property
    def stream(self) -> Stream:
        """The stream that encoders of these tests publish."""
        stream = self.door.registry.get("show")
        assert stream is not None
        return stream

    def feed(self, name: str = "primary") -> Feed:
        """A feed of it."""
        feed = self.stream.find_feed(name)
        assert feed is not None
        return feed


class OnAir:
    """An encoder that sends numbered frames."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.serial = 0
        self.dts = 0

    def headers(self) -> OnAir:
        self.caller.send(media.video_header(), media.audio_header())
        return self

    def run(self, frames: int = 1, *, size: int = 400) -> OnAir:
        packets: list[Packet] = []
        for _ in range(frames):
            packets += [
                picture(self.serial, self.dts, key=self.dts % 1000 == 0, size=size),
                sound(self.serial + 1, self.dts),
            ]
            self.serial += 2
            self.dts += 40
        self.caller.send(*packets)
        return self


async def on_air(port: int, key: str = "primary", frames: int = 3) -> OnAir:
    """An encoder whose first frames are sent."""
    return OnAir(await encoder(port, key)).headers().run(frames)
