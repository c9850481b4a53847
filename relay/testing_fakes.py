"""Stand-ins for what the relay gives a plugin, and its questions. Use them from `relay.testing`."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from relay.api import Packet, PlayRequest, PublishRequest, PushSink, PushTarget, Role, Secret, StreamInfo, TrackSet
from relay.testing_packets import track_set

T = TypeVar("T")


@dataclass
class RecordingSink:
    """A sink that keeps what it is told and insists that it is told in the right order."""

    configured: list[TrackSet] = field(default_factory=list)
    written: list[Packet] = field(default_factory=list)
    closed: int = 0

    def configure(self, tracks: TrackSet) -> None:
        """Keep the tracks."""
        assert not self.closed, "configured after close"
        self.configured.append(tracks)

    def write(self, packet: Packet) -> None:
        """Keep the packet."""
        assert self.configured, "written to before configure"
        assert not self.closed, "written to after close"
        assert packet.role is not Role.HEADER, "sequence headers go to configure"
        self.written.append(packet)

    def close(self) -> None:
        """Count the close."""
        self.closed += 1


@dataclass
class RecordingPush(RecordingSink):
    """A push that records: *targets* are those it pushes to now."""

    targets: dict[str, PushTarget] = field(default_factory=dict)
    ended: str = ""

    def stream_ending(self, reason: str, /) -> None:
        """Keep the reason of the stream's end."""
        self.ended = reason

    def add(self, target: PushTarget, /) -> None:
        """Push to *target* too."""
        assert target.name not in self.targets, "added twice"
        self.targets[target.name] = target

    def remove(self, name: str, /) -> Deferred[None]:
        """Stop pushing to a target."""
        self.targets.pop(name, None)
        return succeed(None)


@dataclass
class FakePush:
    """Stands in for the relay's push: keeps stream and targets and gives out recording sinks."""

    opened: list[tuple[str, tuple[PushTarget, ...], RecordingPush]] = field(default_factory=list)

    def __call__(self, stream: str, targets: Sequence[PushTarget], /, *, merge_ms: int = 0) -> PushSink:
        """Return a sink that records."""
        sink = RecordingPush(targets={target.name: target for target in targets})
        self.opened.append((stream, tuple(targets), sink))
        return sink


def publish_request(
    key: str = "", /, *, peer: str = "192.0.2.1", app: str = "live", tls: bool = False, **query: str
) -> PublishRequest:
    """Return an encoder's question."""
    secrets = {name: Secret(value) for name, value in query.items()}
    return PublishRequest(connection_id="c1", peer=peer, tls=tls, app=app, stream_key=Secret(key), query=secrets)


def play_request(
    stream: str, /, *, peer: str = "192.0.2.1", app: str = "live", tls: bool = False, **query: str
) -> PlayRequest:
    """Return a player's question."""
    secrets = {name: Secret(value) for name, value in query.items()}
    return PlayRequest(connection_id="c1", peer=peer, tls=tls, app=app, stream_name=stream, query=secrets)


def stream_info(name: str = "stage", tracks: TrackSet | None = None) -> StreamInfo:
    """Return a stream that has just started."""
    return StreamInfo(name=name, tracks=tracks or track_set(), live_feed="primary", started_at=1_767_225_600.0)


def result_of(awaitable: Awaitable[T]) -> T:
    """Return the result of something that is done; raise its error, or AssertionError when it still waits."""

    async def wait() -> T:
        return await awaitable

    results: list[T | Failure] = []
    Deferred.fromCoroutine(wait()).addBoth(results.append)
    assert results, "still waiting"
    (result,) = results
    if isinstance(result, Failure):
        result.raiseException()
    return result
