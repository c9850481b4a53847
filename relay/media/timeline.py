"""One feed's clock: 32-bit wire timestamps to 64-bit stream time that only ever rises.

The rules: output rises strictly per track; audio and video share one offset, so their relation is kept; spacing is
the source's own, bit exact, through every wrap (FFmpeg and OBS wrap at 2^31 ms, the specification at 2^32). Small
steps back (< 1 s) are clamped to last + 1; a larger step back, or one of more than 10 s ahead, is a new clock and
continues one frame after the old one. Arrival times play no part.
"""

from __future__ import annotations

from relay.media.packets import MediaKind

KEEP_UNTIL = 1000
"""A source that starts at or below this keeps its timestamps; any other starts here."""
SMALL_STEP_BACK = 1000
"""Larger steps back are an encoder restart (ms)."""
JUMP = 10_000
"""Larger steps ahead are a new clock, not a pause (ms)."""
SMOOTH = 1000
"""Steps up to this need no thought: the common case (ms)."""
DEFAULT_FRAME = 33
"""How far output advances at a new clock while no frame spacing is known (ms)."""
NEAR = 1000
"""Other tracks this close are in the same interleaving, so a new clock starts after them too (ms)."""
MAX_TRACKS = 64
"""Tracks we keep a clock for; the demuxer admits far fewer."""

_WRAPS = (0, 1 << 31, 1 << 32, -(1 << 31), -(1 << 32))


class _Clock:
    """One track: stream time = wire time + shift."""

    __slots__ = ("last", "shift", "step")

    def __init__(self, shift: int, last: int) -> None:
        self.shift = shift
        self.last = last
        self.step = DEFAULT_FRAME


class Timeline:
    """Places the packets of one feed. Make a new one for every publish.

    Attributes:
        resets: how often the source's clock was replaced by a new one.
        clamped: packets that were moved by a small step back or a repeated timestamp.
    """

    __slots__ = ("_clocks", "_shift", "clamped", "resets")

    def __init__(self) -> None:
        self._clocks: dict[int, _Clock] = {}
        self._shift: int | None = None
        self.resets = 0
        self.clamped = 0

    def place(self, packet_kind: MediaKind, track: int, wire_ts: int, config: bool) -> int:
        """Return the stream time of a packet in ms.

        *config* is for everything that is not a coded frame (sequence headers, side packets, metadata, end of
        sequence, which OBS sends with timestamp 0): it gets a plausible time and never moves the clock. The same
        holds for all data messages.
        """
        clock = self._clocks.get(packet_kind << 8 | track)
        if clock is not None and not config:
            time = wire_ts + clock.shift
            step = time - clock.last
            if 0 < step <= SMOOTH:
                clock.last = time
                clock.step = step
                return time
            return self._unsmooth(clock, wire_ts)
        if config or packet_kind is MediaKind.DATA:
            return self._beside(clock, wire_ts)
        return self._start(packet_kind << 8 | track, wire_ts)

    @property
    def newest(self) -> int:
        """The latest stream time given to a frame, 0 before the first."""
        return max((clock.last for clock in self._clocks.values()), default=0)

    @property
    def skew(self) -> int:
        """How far audio is ahead of video in ms, by their latest frames; 0 unless both are there."""
        audio = [clock.last for key, clock in self._clocks.items() if key >> 8 == MediaKind.AUDIO]
        video = [clock.last for key, clock in self._clocks.items() if key >> 8 == MediaKind.VIDEO]
        return max(audio) - max(video) if audio and video else 0

    def _start(self, key: int, wire_ts: int) -> int:
        """Place the first frame of a track: on the common offset when that puts it near the others."""
        newest = self.newest
        if self._shift is None:
            self._shift = 0 if wire_ts <= KEEP_UNTIL else KEEP_UNTIL - wire_ts
            time = wire_ts + self._shift
        else:
            time = min((wire_ts + self._shift + wrap for wrap in _WRAPS), key=lambda moment: abs(moment - newest))
            if abs(time - newest) > JUMP:
                time = newest + 1
                self.resets += 1
        shift = time - wire_ts
        time = max(time, 0)
        if len(self._clocks) < MAX_TRACKS:
            self._clocks[key] = _Clock(shift, time)
        return time

    def _unsmooth(self, clock: _Clock, wire_ts: int) -> int:
        """Place a frame that is not one small step after its predecessor: pause, clamp, wrap or new clock."""
        shift = self._plausible_shift(clock, wire_ts)
        if shift is None:
            return self._reset(clock, wire_ts)
        time = wire_ts + shift
        if shift != clock.shift:
            clock.shift = self._shift = shift
        if time <= clock.last:
            self.clamped += 1
            time = clock.last + 1
        clock.last = time
        return time

    def _plausible_shift(self, clock: _Clock, wire_ts: int) -> int | None:
        """Return the shift that puts a frame nearest to now: its own, that of a track that moved, or a wrapped one."""
        newest = self.newest
        low = clock.last - SMALL_STEP_BACK
        if clock.last < KEEP_UNTIL:
            low = -JUMP  # a track that began before time 0 is squeezed until it arrives there
        high = max(clock.last, newest) + JUMP
        best: int | None = None
        distance = 0
        for base in (clock.shift, self._shift or 0):
            for wrap in _WRAPS:
                time = wire_ts + base + wrap
                if low < time <= high and (best is None or abs(time - newest) < distance):
                    best, distance = base + wrap, abs(time - newest)
        return best

    def _reset(self, clock: _Clock, wire_ts: int) -> int:
        """Start a new clock one frame after the old one, and after every track it is interleaved with."""
        self.resets += 1
        near = [other.last for other in self._clocks.values() if 0 <= other.last - clock.last <= NEAR]
        time = max(clock.last + clock.step, max(near) + 1)
        clock.shift = self._shift = time - wire_ts
        clock.last = time
        return time

    def _beside(self, clock: _Clock | None, wire_ts: int) -> int:
        """Return a time for something that is no frame: its own if that is near now, else now."""
        if self._shift is None:
            return min(wire_ts, KEEP_UNTIL)
        now = self.newest if clock is None else clock.last
        time = wire_ts + (self._shift if clock is None else clock.shift)
        if not -NEAR <= time - now <= NEAR:
            return now
        return max(time, 0 if clock is None else now)
