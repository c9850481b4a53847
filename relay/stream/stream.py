"""One continuous programme: which feed is live, and who gets its packets.

Imports the media floor and the feeds. The rules it guards: a sink gets its tracks before its first packet, and its
first frame is a keyframe; a sink that raises, or blocks again and again, is detached, closed and reported, and nobody
else notices; the encoder waits for nobody.

Which feed is live is decided in `relay.stream.failover`; whoever it is, its packets come to `publish` in stream time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from relay.errors import RelayError
from relay.media.packets import Codec, MediaKind, Packet, Role, TrackSet
from relay.media.tracks import TrackTable
from relay.stream.failover import Failover
from relay.stream.feeds import Feed
from relay.stream.gop import GopCache, lead_video
from relay.stream.policy import FailoverOptions
from relay.stream.reports import Report
from relay.stream.sinks import HearsReason, Sink
from relay.stream.slowness import BLOCKED_S, Slowness
from relay.stream.tracksets import announced_kinds, configuration, only_adds, restamped

MIB = 1024 * 1024

FRAME = Role.FRAME

ALONE = FailoverOptions(mode="switch", hold_s=0)
"""A stream that waits for nobody: it ends with its last feed."""

FAULTS = (Exception, SystemExit)
"""What a sink may fail with. A plugin's `sys.exit()` is its own failure, not that of the encoder it listens to."""


class StreamClosedError(RelayError):
    """The stream has ended; its name is free for a new one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamLimits:
    """What one stream may hold, and how long it waits."""

    gop_bytes: int = 16 * MIB
    """Two of the largest video messages we accept; 10 s at 12 Mbit/s."""
    gop_ms: int = 20_000
    """Twice the longest keyframe interval that encoders are set to in practice."""
    audio_ms: int = 1000
    """What an audio-only stream keeps for joiners (see relay.stream.gop)."""
    settle_ms: int = 1000
    """Stream time to wait for the second kind of track before the stream starts with one kind only."""


def _ignore(*_: object) -> None:
    """Stand in for a callback nobody gave."""


class Stream:
    """Takes packets of the live feed and gives them to every sink.

    Attributes:
        name: public name.
        tracks: what is on air; its generation rises whenever the configuration changes.
        failover: its feeds, and which of them subscribers see.
        started: the tracks are known, so sinks can be opened.
        closed: nothing comes any more.
        undecodable_packets_total: frames left out because their track had no sequence header yet.
    """

    def __init__(
        self,
        name: str,
        *,
        limits: StreamLimits | None = None,
        failover: FailoverOptions | None = None,
        slowness: Slowness | None = None,
        on_sink_failed: Callable[[Sink, Exception], None] = _ignore,
        on_sink_closing: Callable[[Sink, Awaitable[None]], None] = _ignore,
        on_started: Callable[[Stream], None] = _ignore,
        on_report: Callable[[Stream, Report], None] = _ignore,
        on_ended: Callable[[Stream, str], None] = _ignore,
    ) -> None:
        """Create a stream without feeds.

        Args:
            failover: what happens to feeds; without it the stream ends with its last one.
            slowness: what finds sinks that block; without it nobody does.
            on_sink_failed: called with the sink and what it raised, after it was detached.
            on_sink_closing: called with the sink and what its `close` returned to be awaited.
            on_started: called once, when the tracks are known.
            on_report: called with everything that happens to its feeds.
            on_ended: called once, with the reason, after all sinks were closed.
        """
        self.name = name
        self.limits = limits = limits or StreamLimits()
        self.tracks = TrackSet()
        self.started = False
        self.closed = False
        self.undecodable_packets_total = 0
        self._slowness = slowness or Slowness()
        self._seconds = self._slowness.seconds
        self._on_sink_failed = on_sink_failed
        self._on_sink_closing = on_sink_closing
        self._on_started = on_started
        self._on_ended = on_ended
        self._table = TrackTable()
        self._codecs: dict[int, Codec] = {}
        self._cache = GopCache(limits.gop_bytes, limits.gop_ms, audio_ms=limits.audio_ms)
        self._sinks: tuple[Sink, ...] = ()
        self._joining: list[Sink] = []
        self._first_dts: int | None = None
        self._announced: set[MediaKind] = set()
        self.failover = Failover(self, failover or ALONE, settle_ms=limits.settle_ms, report=partial(on_report, self))

    # Packets

    def publish(self, packet: Packet) -> None:
        """Give *packet*, in stream time, to every sink."""
        if packet.role is not FRAME:
            self._publish_other(packet)
            return
        if self._codecs.get((packet.track << 4) + packet.kind) is not packet.codec and not self._learn(packet):
            return
        sinks = self._sinks
        if self._cache.add(packet) and self._joining:
            self._admit()
        if not self.started:
            self._settle(packet)
        if self._slowness.suspects:
            self._write_timed(packet, sinks)
            return
        before = self._seconds()
        for sink in sinks:
            try:
                sink.write(packet)
            except FAULTS as error:  # the sink guard: one of three places that catch everything
                self._fail(sink, error)
        if self._seconds() - before >= BLOCKED_S:
            self._slowness.suspect()

    def _publish_other(self, packet: Packet) -> None:
        role = packet.role
        if role is Role.OTHER or role is Role.END:
            self._cache.add(packet)
            self._write_timed(packet, self._sinks)
            return
        if role is Role.METADATA and not self.started:
            self._announced = announced_kinds(packet)
        before = self._table.tracks
        if self._table.see(packet) or self._table.tracks.generation != before.generation:
            self._configure(self._table.tracks)
        elif self._table.tracks is not before:
            self.tracks = replace(self._table.tracks, generation=self.tracks.generation)
            self._write_timed(packet, self._sinks)

    def _write_timed(self, packet: Packet, sinks: Sequence[Sink]) -> None:
        """Give *packet* to each sink by the clock: it is of a rare kind, or one of the sinks is suspected."""
        for sink in sinks:
            try:
                self._slowness.write(sink, packet)
            except FAULTS as error:
                self._fail(sink, error)
        self._slowness.relax()

    def _learn(self, packet: Packet) -> bool:
        """Meet the first frame of a track, or of a new codec; return whether it can be decoded."""
        if self._table.see(packet):
            self._configure(self._table.tracks)
        if not self._table.ready(packet):
            self.undecodable_packets_total += 1
            return False
        self._codecs[(packet.track << 4) + packet.kind] = packet.codec
        return True

    def _configure(self, tracks: TrackSet) -> None:
        """Tell every sink the new tracks, and forget packets that they do not describe."""
        before, self.tracks = self.tracks, replace(tracks, generation=self.tracks.generation + 1)
        self._codecs.clear()
        lead = lead_video(tracks)
        if lead != self._cache.lead:
            self._cache.follow(lead)
        elif not only_adds(before, tracks):
            self._cache.clear()
        for sink in self._sinks:
            try:
                sink.configure(self.tracks)
            except FAULTS as error:
                self._fail(sink, error)
        if self._joining:
            self._admit()

    def _settle(self, packet: Packet) -> None:
        """Start the stream once both kinds of track are known, or all that were announced, or one for long enough."""
        if self._first_dts is None:
            self._first_dts = packet.dts
        kinds = {track.kind for track in self.tracks.tracks}
        if len(kinds) > 1 or kinds == self._announced or packet.dts - self._first_dts >= self.limits.settle_ms:
            self.started = True
            self._admit()
            self._on_started(self)

    # Sinks

    @property
    def sinks(self) -> tuple[Sink, ...]:
        """Every attached sink, those that wait for their first keyframe included."""
        return self._sinks + tuple(self._joining)

    @property
    def gop_overflowed(self) -> bool:
        """Whether the GOP is too long to be cached, so that joiners wait for the next keyframe."""
        return self._cache.overflowed

    @property
    def gop_overflows(self) -> int:
        """How often a GOP was too long to be cached."""
        return self._cache.overflows

    def attach(self, sink: Sink, *, from_keyframe: bool = True) -> None:
        """Give *sink* the tracks and all packets from the cached keyframe on; without one, from the next.

        With *from_keyframe* false it gets the packets that come from now on, wherever they start.
        """
        if self.closed:
            raise StreamClosedError(f"stream {self.name} has ended")
        if from_keyframe or not self.started:
            self._joining.append(sink)
            self._admit()
        elif self._introduce(sink, ()):
            self._sinks = (*self._sinks, sink)

    def detach(self, sink: Sink) -> None:
        """Close *sink* and forget it. A sink that is not attached is left alone."""
        if self._forget(sink):
            self._close(sink)

    def _admit(self) -> None:
        """Let those who wait begin, if the stream is at a place where they can."""
        if not self.started or not self._cache.ready:
            return
        joining, self._joining = self._joining, []
        for sink in joining:
            if self._introduce(sink, tuple(self._cache.packets)):
                self._sinks = (*self._sinks, sink)

    def _introduce(self, sink: Sink, packets: Sequence[Packet]) -> bool:
        try:
            sink.configure(self.tracks)
            for packet in packets:
                self._slowness.write(sink, packet)  # a GOP of hundreds, each of which may block
        except FAULTS as error:
            self._slowness.forget(sink)
            self._close(sink)
            self._report_failed(sink, error)
            return False
        return True

    def _fail(self, sink: Sink, error: Exception | SystemExit) -> None:
        if self._forget(sink):
            self._close(sink)
            self._report_failed(sink, error)

    def _report_failed(self, sink: Sink, error: Exception | SystemExit) -> None:
        self._on_sink_failed(sink, RuntimeError("called sys.exit()") if isinstance(error, SystemExit) else error)

    def _forget(self, sink: Sink) -> bool:
        known = any(other is sink for other in self.sinks)
        self._slowness.forget(sink)
        self._sinks = tuple(other for other in self._sinks if other is not sink)
        self._joining = [other for other in self._joining if other is not sink]
        return known

    def _tell_reason(self, sink: Sink, reason: str) -> None:
        if isinstance(sink, HearsReason):
            try:
                sink.stream_ending(reason)
            except FAULTS as error:
                self._report_failed(sink, error)

    def _close(self, sink: Sink) -> None:
        try:
            closing = sink.close()
        except FAULTS as error:
            self._report_failed(sink, error)
        else:
            if closing is not None:
                self._on_sink_closing(sink, closing)

    # Feeds

    @property
    def feeds(self) -> tuple[Feed, ...]:
        """Those that publish now, in order of arrival."""
        return self.failover.feeds

    @property
    def live_feed(self) -> Feed | None:
        """The one that subscribers see."""
        return self.failover.live_feed

    @property
    def switches(self) -> int:
        """How often another feed went live."""
        return self.failover.switches

    @property
    def last_dts(self) -> int:
        """Stream time of the newest packet, 0 before the first."""
        return self.failover.last_dts

    def find_feed(self, name: str) -> Feed | None:
        """Return the newest feed of this name."""
        return next((feed for feed in reversed(self.feeds) if feed.name == name), None)

    def open_feed(self, name: str, priority: int, now: float) -> Feed:
        """Add a publisher. The first feed is live at once, a later one stands by.

        Names may repeat for a moment: an encoder that comes back before its old connection was noticed dead is opened
        first, then the old feed is ended, and the programme goes on without a break.
        """
        if self.closed:
            raise StreamClosedError(f"stream {self.name} has ended")
        return self.failover.open(name, priority, now)

    def close(self, reason: str) -> None:
        """End the programme: feeds, then sinks. A second call does nothing."""
        if self.closed:
            return
        self.closed = True
        self.failover.retire()
        sinks, self._sinks, self._joining = self.sinks, (), []
        for sink in sinks:
            self._tell_reason(sink, reason)
            self._close(sink)
        self._cache.clear()
        self._on_ended(self, reason)

    def recent(self) -> Iterable[Packet]:
        """Return the newest packets, from a keyframe on if there is video."""
        return tuple(self._cache.packets)

    def adopt(self, table: TrackTable, cut: int, *, renew: bool = False) -> None:
        """Describe the programme by *table*, the tracks of the feed that goes on air, from stream time *cut* on.

        To *renew* is to give the sinks their headers again even if nothing is new: decoders may hold others.

        Called before the feed's first packet, so that new headers always stand in front of what needs them.
        """
        self._table = table
        self._codecs.clear()
        before = self.tracks
        tracks = restamped(table.tracks, cut)
        if not tracks.tracks:
            return
        if renew or configuration(before) != configuration(tracks):
            self._configure(tracks)
            return
        self.tracks = replace(tracks, generation=before.generation)
        new = tracks.metadata
        if new is not None and (before.metadata is None or before.metadata.body != new.body):
            self._write_timed(new, self._sinks)
