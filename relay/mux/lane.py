"""One track inside a muxer: the frames that wait to be written, and the clock that gives each its place in the file.

The rule: time in the file is the stream's time, it never goes back, and the duration of a frame ends where the next
begins. Video takes every millisecond timestamp as it is. Audio counts samples, because milliseconds round (21.33 ms
come as 21 and 22), and is set right when the count and the timestamps are more than 40 ms apart.
"""

from __future__ import annotations

from relay.media import opus
from relay.media.errors import MediaError
from relay.media.packets import Codec, MediaKind, Packet, Track
from relay.mux.entries import VIDEO_SCALE, Entry
from relay.mux.units import Fit

MAX_DRIFT_MS = 40
"""How far sample count and timestamps may be apart. Rounding makes 1 ms, bad encoders 30; 45 ms show."""
_UNKNOWN_VIDEO_MS = 33
"""Duration of a last frame with none before it: thirty frames a second."""
_U32 = 0xFFFF_FFFF

Sample = tuple[int, int, bool, bytes | memoryview, int]
"""dts and cts in ms, sync, what is written, own duration in ticks (0: take the next frame's time)."""


class Run:
    """Frames of one track that go into one fragment, with their durations."""

    __slots__ = ("durations", "end", "lane", "samples", "start")

    def __init__(self, lane: Lane, samples: list[Sample], start: int, durations: list[int], end: int) -> None:
        self.lane = lane
        self.samples = samples
        self.start = start
        self.durations = durations
        self.end = end


class Lane:
    """The waiting frames of one track. *entry* is None until the first frame tells what the track is."""

    __slots__ = (
        *("_clock", "_fit", "_last_duration", "_late", "_origin"),
        *("entry", "is_video", "key", "last", "number", "pending", "scale", "track"),
    )

    def __init__(self, track: Track, number: int, origin: int, entry: Entry | None, fit: Fit) -> None:
        self.track = track
        self.key = track.kind << 8 | track.track_id
        self.is_video = track.kind is MediaKind.VIDEO
        self.number = number
        self.pending: list[Sample] = []
        self.last: int | None = None
        self._fit = fit
        self._origin = origin
        self._clock: int | None = None
        self._late = False
        self._last_duration = 0
        self.scale = VIDEO_SCALE
        self.entry: Entry | None = None
        if entry is not None:
            self.settle(entry)

    def settle(self, entry: Entry) -> None:
        """Take the track's time scale and sample entry."""
        self.entry = entry
        self.scale = entry.scale

    def put(self, packet: Packet) -> int:
        """Let a frame wait; return its size. Raises `MediaError` when it cannot go into a file."""
        dts = packet.dts
        last = self.last
        if last is not None and dts <= last:
            raise MediaError("mux.backwards", "decode time does not rise")
        data = self._fit(packet)
        entry = self.entry
        if entry is None:
            raise MediaError("mux.no_config", "nothing has told what the track is")
        own = entry.frame
        if packet.codec is Codec.OPUS:
            own = opus.packet_samples(packet.body[packet.offset : packet.offset + 2])
        self.last = dts
        self.pending.append((dts, packet.cts, packet.keyframe, data, own))
        return len(data)

    @property
    def waits_ms(self) -> int:
        """Time between the first and the last frame that wait."""
        return self.pending[-1][0] - self.pending[0][0] if self.pending else 0

    @property
    def waits_bytes(self) -> int:
        """Size of the frames that wait."""
        return sum(len(sample[3]) for sample in self.pending)

    def ticks(self, ms: int) -> int:
        """Return a stream time in the ticks of the file."""
        return (ms - self._origin) * self.scale // 1000

    def ms(self, ticks: int) -> float:
        """Return ticks of the file as stream time."""
        return ticks * 1000 / self.scale + self._origin

    def offset(self, sample: Sample) -> int:
        """Return the composition time offset of a frame in ticks. No picture is shown before time 0."""
        cts = max(sample[1], self._origin - sample[0]) if sample[1] < 0 else sample[1]
        return cts * self.scale // 1000

    def offsets(self, samples: list[Sample]) -> list[int]:
        """Return the composition time offsets of frames as unsigned 32 bits."""
        offsets = [sample[1] for sample in samples]
        if min(offsets) < 0:
            return [self.offset(sample) & _U32 for sample in samples]
        scale = self.scale
        return [cts * scale // 1000 for cts in offsets]

    def take(self, *, end: int | None = None, last: bool = False) -> Run | None:
        """Take the frames whose end is known: all but the newest, or all when *end* (ms) or *last* ends that too."""
        pending = self.pending
        if end is None and not last:
            if len(pending) < 2:
                return None
            samples, self.pending = pending[:-1], pending[-1:]
            end = pending[-1][0]
        else:
            if not pending:
                return None
            samples, self.pending = pending, []
        start = self._begin(samples[0])
        durations, clock = self._durations(samples, start, end)
        self._clock = clock
        self._last_duration = durations[-1]
        return Run(self, samples, start, durations, clock)

    def _begin(self, first: Sample) -> int:
        """Return where the run begins: where the last one ended, or later if nothing filled the time since."""
        target = self.ticks(first[0])
        clock = self._clock
        if clock is None:
            clock = max(0, target)
            self._late = clock > target
        elif target - clock > (MAX_DRIFT_MS * self.scale // 1000 if first[4] else 0):
            clock = target
        return clock

    def _durations(self, samples: list[Sample], clock: int, end: int | None) -> tuple[list[int], int]:
        """Return the durations of *samples* and the clock after them. Their sum is the time that passed, exactly."""
        scale, origin = self.scale, self._origin
        tolerance = MAX_DRIFT_MS * scale // 1000
        late = self._late
        durations: list[int] = []
        final = len(samples) - 1
        for index, sample in enumerate(samples):
            own = sample[4]
            if index < final:
                target = (samples[index + 1][0] - origin) * scale // 1000
            elif end is not None:
                target = (end - origin) * scale // 1000
            else:
                target = clock + (own or self._guess(durations))
            duration = target - clock
            if own and not late and -tolerance <= duration - own <= tolerance:
                duration = own
            elif duration < 1:
                duration, late = 1, True
            else:
                late = False
                duration = min(duration, _U32)
            durations.append(duration)
            clock += duration
        self._late = late
        return durations, clock

    def _guess(self, durations: list[int]) -> int:
        """Return a likely duration of a last frame: that of the one before."""
        before = durations[-1] if durations else self._last_duration
        return before or self.scale * _UNKNOWN_VIDEO_MS // 1000
