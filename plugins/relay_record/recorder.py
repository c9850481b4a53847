"""Records one stream: decides where files begin and end, and what to do while the disk does not follow.

The rule it guards: a file begins at a keyframe, and every frame of the stream is in one file, never in two. What the
disk cannot take is left out from one keyframe to another, counted, and nobody but this recording notices.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from relay.api import MediaKind, Packet, Role, Track, TrackSet

from .archive import Archive, reason_of
from .options import MAX_PART_S, StreamOptions
from .part import Part
from .partfile import Recording

MIB = 1024 * 1024
QUEUE_BYTES = 8 * MIB
"""What waits for the disk at most: 10 s at 6 Mbit/s. Beyond it whole GOPs are left out."""
HELD_BYTES = 4 * MIB
"""What waits for the keyframe with which a new configuration begins."""
RETRY_S = 2.0
"""Between two attempts to open a file after an error: with a keyframe every 2 s it goes on within 5 s (P20)."""
NO_PICTURE_MS = 2000
"""A stream whose video track stays silent is recorded without it."""

VIDEO = MediaKind.VIDEO
DATA = MediaKind.DATA
FRAME = Role.FRAME

Key = tuple[MediaKind, int]


class State(Enum):
    """What a recording does."""

    OFF = "off"
    WAITING = "waiting"
    RECORDING = "recording"
    DEGRADED = "degraded"
    FULL = "full"


@dataclass(slots=True)
class Totals:
    """What recording a stream came to since the relay's start; lives longer than one recorder."""

    written: int = 0
    files: int = 0
    failures: int = 0
    dropped_packets: int = 0
    dropped_gops: int = 0
    begun: bool = False
    """There was a recording."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What recorders share."""

    archive: Archive
    clock: IReactorTime
    wall_clock: Callable[[], float]
    has_room: Callable[[], bool]
    queue_free: Callable[[], int]


class Recorder:
    """The sink of one stream.

    Attributes:
        recording: the recording that is continued, None before the first file.
        part: the file that takes packets.
        reason: why nothing is recorded although it should be.
        closing: parts whose files are not finished yet.
    """

    def __init__(
        self,
        tools: Tools,
        stream: str,
        options: StreamOptions,
        totals: Totals,
        recording: Recording | None,
        *,
        on: bool,
    ) -> None:
        self.stream = stream
        self.options = options
        self.totals = totals
        self.recording = recording
        self.on = on
        self.part: Part | None = None
        self.reason = ""
        self.closing: list[Part] = []
        self.closed = False
        self._tools = tools
        self._tracks = TrackSet()
        self._configuration: dict[Key, object] = {}
        self._lead: Key | None = None
        self._rolling = False
        self._held: deque[Packet] = deque()
        self._held_bytes = 0
        self._skipping = False
        self._waiting_since: int | None = None
        self._retry_at = 0.0
        self._done: Deferred[None] | None = None
        self._slot = 0

    # What it does now.

    @property
    def state(self) -> State:
        """What it does now."""
        if not self.on or self.closed:
            return State.OFF
        if self.part is not None and not self.reason:
            return State.RECORDING
        if not self._tools.has_room():
            return State.FULL
        return State.DEGRADED if self.reason else State.WAITING

    @property
    def queued(self) -> int:
        """Bytes that wait for the disk."""
        parts = self.closing if self.part is None else [*self.closing, self.part]
        return sum(part.file.queued for part in parts)

    # The stream's calls.

    def configure(self, tracks: TrackSet) -> None:
        """Take the tracks. The same ones again are no news; others begin a new file at the next keyframe."""
        before = {(track.kind, track.track_id): _configured(track) for track in self._tracks.tracks}
        configuration = {(track.kind, track.track_id): _configured(track) for track in tracks.tracks}
        self._tracks = tracks
        self._lead = next(((t.kind, t.track_id) for t in tracks.tracks if t.kind is VIDEO), None)
        self._rolling = self.part is not None and configuration != self._configuration
        if self._held:
            same = {key for key, value in configuration.items() if self._rolling and before.get(key) == value}
            self._keep_held(same)

    def write(self, packet: Packet) -> None:
        """Take one packet."""
        if not self.on or self.closed:
            return
        starts = packet.role is FRAME and self._starts(packet)
        if starts and (self.part is None or self._due(packet)):
            self._begin(packet)
        part = self.part
        if part is None:
            if self.reason:
                self._drop(starts)
        elif self._skipping and not (starts and self._caught_up()):
            self._drop(starts)
            part.dropped += 1
        elif self._rolling and self._belongs_to_next(packet):
            self._hold(packet)
        else:
            self._skipping = False
            part.write(packet)

    def close(self) -> Deferred[None] | None:
        """End the file; fires when it has its name."""
        if not self.closed:
            self.closed = True
            self._end_part()
        if not self.closing:
            return None
        if self._done is None:
            self._done = Deferred()
        return self._done

    # By hand.

    def start(self) -> None:
        """Record from the next keyframe on."""
        if not self.on:
            self.on = True
            self.reason = ""
            self._retry_at = 0.0
            self._waiting_since = None

    def stop(self) -> None:
        """End the file; record nothing more."""
        if self.on:
            self.on = False
            self._end_part()

    # Time.

    def tick(self, now: float) -> None:
        """Hand on what came, and see how the disk gets on."""
        part = self.part
        if part is not None:
            if part.file.error is not None:
                self._fail(part, part.file.error, now)
            elif self._tools.has_room():
                part.flush()
                self._skipping = self._skipping or self._too_much()
            else:
                self._end_part()
                self.reason = "disk-full"
        for one in tuple(self.closing):
            if one.file.finished:
                self.closing.remove(one)
            self._count(one)
        if self.part is not None:
            self._count(self.part)
        if self.closed and not self.closing and self._done is not None:
            done, self._done = self._done, None
            done.callback(None)

    def give_up(self, now: float) -> None:
        """Something went wrong that must not: the file is given up, and another one tried."""
        if self.part is not None:
            self._fail(self.part, OSError(errno.ECANCELED, "an error of the relay; see the log"), now)

    def _count(self, part: Part) -> None:
        """Add to the total what has been written since the last look: it only grows, whatever becomes of the file."""
        size = part.file.size
        self.totals.written += size - part.counted
        part.counted = size

    # Where files begin.

    def _starts(self, packet: Packet) -> bool:
        """Whether a file may begin with this frame."""
        if self._lead is None:
            return True
        if packet.kind is VIDEO:
            if packet.keyframe and packet.track == self._lead[1]:
                return True
            self._waiting_since = None  # there is a picture: wait for its keyframe
            return False
        if self.part is not None or packet.kind is DATA:
            return False
        if self._waiting_since is None:
            self._waiting_since = packet.dts
        return packet.dts - self._waiting_since >= NO_PICTURE_MS

    def _due(self, packet: Packet) -> bool:
        """Whether the file is to end before this frame, with which the next may begin."""
        part, options = self.part, self.options
        if part is None or self._rolling:
            return True
        lasts = packet.dts - part.first_dts
        if lasts >= MAX_PART_S * 1000:
            return True
        if options.segment_bytes and part.file.handed >= options.segment_bytes:
            return True
        if not options.segment_s:
            return False
        if options.segment_clock:
            return self._clock_slot() != self._slot
        return lasts >= options.segment_s * 1000

    def _clock_slot(self) -> int:
        return int(self._tools.wall_clock() // self.options.segment_s) if self.options.segment_s else 0

    def _begin(self, packet: Packet) -> None:
        """Begin a file with *packet*; the one before ends."""
        now = self._tools.clock.seconds()
        if now < self._retry_at:
            return
        if not self._tools.has_room():
            self.reason = "disk-full"
            self._retry_at = now + RETRY_S
            return
        wall = self._tools.wall_clock()
        if self.recording is None:
            self.recording = Recording(self.stream, self.options.format, wall)
            if not self.totals.begun:  # by this relay; one before may have
                self.recording.adopt_s = self.options.resume_s
            self.totals.begun = True
        before = self.part
        pending = bool(self.options.exec or self.options.remux)
        self.part = Part(self._tools.archive, self.recording, self._tracks, packet, wall=wall, pending=pending)
        if before is not None:
            before.finish()
            self.closing.append(before)
        self.reason = ""
        self._slot = self._clock_slot()
        self._skipping = False
        self._rolling = False
        self._configuration = {(track.kind, track.track_id): _configured(track) for track in self._tracks.tracks}
        held, self._held, self._held_bytes = self._held, deque(), 0
        for one in held:
            self.part.write(one)

    # A configuration that changes.

    def _belongs_to_next(self, packet: Packet) -> bool:
        """Whether the file cannot hold the packet, because it does not know its track as it is now."""
        if packet.kind is DATA:
            return False
        key = (packet.kind, packet.track)
        now = next((_configured(t) for t in self._tracks.tracks if (t.kind, t.track_id) == key), None)
        return now != self._configuration.get(key)

    def _hold(self, packet: Packet) -> None:
        if packet.kind is VIDEO and not packet.keyframe and not any(p.kind is VIDEO for p in self._held):
            self._drop(False)  # nobody could decode it
            return
        self._held.append(packet)
        self._held_bytes += len(packet.body)
        while self._held_bytes > HELD_BYTES:
            self._held_bytes -= len(self._held.popleft().body)
            self._drop(False)

    def _keep_held(self, tracks: set[Key]) -> None:
        """Leave out what waits for a file that will never begin, of all but these tracks: nothing could decode it."""
        held, self._held = self._held, deque()
        for packet in held:
            if (packet.kind, packet.track) in tracks:
                self._held.append(packet)
            else:
                self._drop(False)
        self._held_bytes = sum(len(packet.body) for packet in self._held)

    # A disk that does not follow.

    def _too_much(self) -> bool:
        return self.queued > QUEUE_BYTES or self._tools.queue_free() <= 0

    def _caught_up(self) -> bool:
        return self.queued < QUEUE_BYTES // 2 and self._tools.queue_free() > 0

    def _drop(self, starts: bool) -> None:
        self.totals.dropped_packets += 1
        self.totals.dropped_gops += starts

    def _fail(self, part: Part, error: OSError, now: float) -> None:
        self.part = None
        self.reason = reason_of(error)
        self._retry_at = now + RETRY_S
        self._rolling = False
        self._keep_held(set())
        part.abandon()
        self.closing.append(part)

    def _end_part(self) -> None:
        part, self.part = self.part, None
        self._rolling = False
        self._keep_held(set())
        if part is not None:
            part.finish()
            self.closing.append(part)


def _configured(track: Track) -> tuple[object, ...]:
    """Return what decides whether a decoder, or a file, can go on."""
    return track.codec, track.config, tuple(packet.body for packet in track.side)
