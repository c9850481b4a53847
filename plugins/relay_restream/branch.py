"""One way of sending a stream: which tracks, in which form, how much later; for all targets that want it so.

The rule it guards: what is done to packets is done once for all targets of the branch.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from relay.api import Context, Packet, PushSink, PushTarget, Tailor, TrackSet

from .delay import DelayLine
from .fit import Meter
from .options import Targets, Wanted


@dataclass(slots=True, kw_only=True)
class Tools:
    """What every live stream of this plugin shares."""

    context: Context[Targets]
    merge_ms: int
    target_for: Callable[[Wanted], PushTarget]
    directory: Path | None = None
    taken: dict[bytes, tuple[str, str]] = field(default_factory=dict)
    """Address and key of each target that runs -> its stream and name: a platform takes one programme per key."""
    on_freed: Callable[[], None] = lambda: None
    """Told when an address with its key is free again."""

    def free(self, claim: bytes) -> None:
        """A target no longer runs."""
        if self.taken.pop(claim, None) is not None:
            self.on_freed()


class Branch:
    """One tailoring of one stream: cut, measured, delayed, pushed."""

    def __init__(self, tools: Tools, stream: str, wanted: Wanted, on_broken: Callable[[Branch, Failure], None]) -> None:
        self.names: set[str] = set()
        self.meter = Meter()
        self.tracks = TrackSet()
        self.push: PushSink = tools.context.push(stream, [], merge_ms=tools.merge_ms)
        self.delay: DelayLine | None = None
        self._tailor = None if wanted.tailoring.changes_nothing else Tailor(wanted.tailoring)
        self._out: PushSink | DelayLine = self.push
        if wanted.options.delay_s:
            log = tools.context.log
            self._out = self.delay = DelayLine(
                self.push,
                wanted.options.delay_s,
                clock=tools.context.clock,
                directory=tools.directory,
                on_broken=lambda failure: on_broken(self, failure),
                on_disk_failed=lambda failure: log.failure(
                    "the delay of {targets} of stream {stream} cannot use the disk",
                    failure,
                    targets=", ".join(sorted(self.names)),
                    stream=stream,
                ),
            )

    def configure(self, tracks: TrackSet) -> None:
        """Take the stream's tracks."""
        self.tracks = tracks if self._tailor is None else self._tailor.configure(tracks)
        self._out.configure(self.tracks)

    def write(self, packet: Packet) -> bool:
        """Take a packet of the stream; True when the meter has new figures."""
        if self._tailor is None:
            self._out.write(packet)
            return self.meter.add(packet)
        news = False
        for cut in self._tailor.cut(packet):
            self._out.write(cut)
            news |= self.meter.add(cut)
        return news

    def close(self) -> Deferred[object]:
        """Close when what waits is out."""
        return deferred(self._out.close())

    def cut(self) -> None:
        """Let nothing wait any longer."""
        if self.delay is not None:
            self.delay.cut()


def deferred(closing: Awaitable[object] | None) -> Deferred[object]:
    """Return something to wait for as a Deferred of our own."""

    async def wait() -> object:
        return None if closing is None else await closing

    return Deferred.fromCoroutine(wait())
