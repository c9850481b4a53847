"""What feeds and failover need of the stream they belong to, and of where feeds are compared. Protocols only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from relay.media.packets import Packet, TrackSet
from relay.media.tracks import TrackTable

if TYPE_CHECKING:
    from relay.stream.feeds import Feed


class FeedOwner(Protocol):
    """The stream as its feeds see it."""

    def publish(self, packet: Packet) -> None:
        """Take a packet of a feed on air, in stream time."""
        ...

    def start_found(self, feed: Feed, now: float) -> None:
        """Put the armed *feed* on air: it has a place to start."""
        ...

    def feed_ended(self, feed: Feed, reason: str, now: float) -> None:
        """Forget *feed*."""
        ...


class Air(Protocol):
    """What goes out: the stream as failover sees it."""

    started: bool
    tracks: TrackSet

    def publish(self, packet: Packet) -> None:
        """Send *packet* to everybody."""
        ...

    def adopt(self, table: TrackTable, cut: int, *, renew: bool = False) -> None:
        """Describe the programme by *table* from stream time *cut* on; sinks learn what is new, or all to *renew*."""
        ...

    def recent(self) -> Iterable[Packet]:
        """The newest packets, from a keyframe on."""
        ...

    def close(self, reason: str) -> None:
        """End the programme."""
        ...


class Peers(Protocol):
    """Where feeds that may carry the same frames are compared; see `relay.stream.merge`."""

    @property
    def next_dts(self) -> int:
        """Stream time after all that was published."""
        ...

    @property
    def last_dts(self) -> int:
        """Stream time of the newest frame that was published."""
        ...

    def compare(self, feed: Feed, packet: Packet) -> None:
        """Look at a keyframe of *feed*, in the feed's own time."""
        ...

    def note(self, packet: Packet) -> None:
        """Remember a frame that was published, in stream time."""
        ...

    def admit(self, feed: Feed, packet: Packet) -> bool:
        """Whether a frame of a merged feed, in stream time, is the first copy."""
        ...

    def admit_other(self, feed: Feed, packet: Packet) -> bool:
        """The same for what is not a frame."""
        ...
