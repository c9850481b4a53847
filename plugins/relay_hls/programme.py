"""One stream as its viewers know it: playlists that outlive encoders.

A programme begins with its first packet, is *lost* when the stream ends without anybody wanting that, continues when
it comes back, and is *over* after a planned end. The rule it guards: sequence numbers never fall, whatever happens.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Iterator, Sequence
from enum import Enum

from twisted.internet.interfaces import IReactorTime

from relay.api import SinkStatus

from .cutting import Cutter
from .journal import relist
from .journal import renditions as renditions_of
from .options import HOT_MS, LONGEST_FIRST_MS, MIB, HlsOptions
from .plan import Planned
from .playlists import Alternative, Terms, Variant, multivariant_playlist
from .reload import Waiters
from .rendition import FMP4, TS, Form, Place, Rendition
from .segments import File, Numbers, Segment
from .shelf import Found, Shelf
from .sounds import Sounds
from .variants import Output, describe

COUNT_FROM = 1_577_836_800
"""2020-01-01: sequence numbers start at the seconds since then, so they are higher after every restart, and fit the
32 bits of some players until 2088."""
DISCONTINUITIES_FROM, EVERY_S = 1_767_225_600, 600
"""Discontinuities start at the tens of minutes since 2026-01-01: as above, but hls.js keeps an array as long as the
number and walks through it at every update (1 ms for 50,000), so it would hang at the number of seconds. What they
cannot do: a relay without a disk that was killed within ten minutes of each discontinuity begins below."""


class State(Enum):
    """Where a programme is in its life."""

    NEW = "new"
    LIVE = "live"
    LOST = "lost"
    OVER = "over"


class Timeline:
    """Stream time to time of day, the same for all renditions; it never goes back."""

    def __init__(self) -> None:
        self._offset_ms = 0.0
        self._end_ms = 0.0

    def restart(self, stream_ms: float, day_ms: float) -> None:
        """Let *stream_ms* be *day_ms*, or the end of what was before if that is later."""
        self._offset_ms = max(day_ms, self._end_ms) - stream_ms

    def at(self, stream_ms: float) -> float:
        """Return the time of day of a moment in the stream."""
        return stream_ms + self._offset_ms

    def reached(self, day_ms: float) -> None:
        """Something that lasts until *day_ms* is in a playlist."""
        self._end_ms = max(self._end_ms, day_ms)


class Programme:
    """The playlists of one stream.

    Attributes:
        state: see `State`.
        outputs: what is on now, the leading rendition first.
        sounds: what they are called.
        target_duration: in seconds; 0 until the first segment is complete.
        since: when it came into its state, on the relay's clock.
        part_target_ms: how long parts are.
        promised_ms: the same once a playlist may have said it; 0 until then.
        ready: requests that wait for the first segment.
        requests: answered so far.
        bytes_sent: media bytes sent to viewers.
    """

    def __init__(
        self, name: str, options: HlsOptions, clock: IReactorTime, wall_clock: Callable[[], float], *, waiters: int
    ) -> None:
        self.name = name
        self.options = options
        self.sounds = Sounds(options)
        self.state = State.NEW
        self.outputs: list[Output] = []
        self.target_duration = 0
        self.timeline = Timeline()
        self.since = clock.seconds()
        self.ready = Waiters(clock, waiters)
        self.requests = 0
        self.bytes_sent = 0
        self.part_target_ms = float(options.part_ms)
        self.promised_ms = 0.0
        self.form: Form = FMP4 if options.container == "fmp4" else TS
        if not options.part_ms:
            self.form = Form(extension=self.form.extension, content_type=self.form.content_type, parts=False)
        self._clock = clock
        self._wall_clock = wall_clock
        self.open_shelf: Callable[[Programme], Shelf | None] = lambda programme: None
        self.settled: Callable[[], bool] = lambda: True
        self.shelf: Shelf | None = None
        self._index = ""
        self._epoch = f"{int(wall_clock()):x}{secrets.token_hex(2)}"
        self._first = max(int(wall_clock()) - COUNT_FROM, 0)
        self._discontinuity = max(int(wall_clock()) - DISCONTINUITIES_FROM, 0) // EVERY_S
        self._renditions: dict[str, Rendition] = {}
        self._before: list[Rendition] = []
        self._before_terms = Terms(target_duration=options.segment_s, part_target_ms=0)

    @property
    def now_ms(self) -> float:
        """Time of day."""
        return self._wall_clock() * 1000

    # Life.

    def begin(self) -> None:
        """A stream of this name has started."""
        if self.state is State.OVER:
            self._start_over()
        self._become(State.LIVE)

    def _start_over(self) -> None:
        """Begin a new list above the numbers of the old one, which stays until the new one can be shown."""
        if self.published:
            self._index = self.index()
        self._before_terms = self.terms
        renditions = list(self._renditions.values())
        self._before = [rendition for rendition in renditions if rendition.listed]
        reached = self.reached
        self._first, self._discontinuity = reached.segment, reached.discontinuity + 1
        self._renditions = {}
        self.outputs = []
        self.target_duration = 0
        self.promised_ms = 0.0

    def lose(self) -> None:
        """The stream is gone, and may come back."""
        if self.shelf is not None:
            self.shelf.end("lost")
        self._become(State.LOST)
        self.ready.changed()

    def end(self) -> None:
        """The stream ended as planned."""
        for rendition in self._renditions.values():
            rendition.end()
        self._put_away()
        self._become(State.OVER)
        self.ready.changed()

    def forget(self) -> None:
        """Nobody will ask for it any more, and who waits is told."""
        self._put_away()
        for rendition in self.renditions():
            rendition.over = True
            rendition.changed()

    def _put_away(self) -> None:
        shelf, self.shelf = self.shelf, None
        if shelf is not None:
            shelf.end("over")

    def _become(self, state: State) -> None:
        self.state = state
        self.since = self._clock.seconds()

    @property
    def kept_s(self) -> float:
        """For how long it is lost or over."""
        return 0.0 if self.state is State.LIVE else self._clock.seconds() - self.since

    # Renditions.

    def output(self, planned: Planned, cutter: Cutter) -> Output:
        """Return the rendition for *planned*: the one of that name, if there is one."""
        rendition = self._renditions.get(planned.name)
        if rendition is None or rendition.over:
            reached = self.reached
            place = Place(epoch=self._epoch, number=reached.segment, discontinuity=reached.discontinuity)
            window_ms = self.options.window_s * 1000.0
            rendition = Rendition(planned.name, place, self.form, window_ms=window_ms, clock=self._clock)
            self._adopt(rendition)
        return Output(planned=planned, rendition=rendition, cutter=cutter)

    def _adopt(self, rendition: Rendition) -> None:
        rendition.on_segment = self._segment
        rendition.on_begin = self._begun
        self._renditions[rendition.name] = rendition

    def use(self, outputs: Sequence[Output], part_target_ms: float) -> None:
        """These are on from now; what else there was will not go on."""
        if self.shelf is None and outputs:
            self.shelf = self.open_shelf(self)
        self.outputs = list(outputs)
        if not self.promised_ms:
            self.part_target_ms = part_target_ms or self.part_target_ms
        kept = {output.planned.name for output in outputs}
        for name, rendition in self._renditions.items():
            if name not in kept and not rendition.over:
                rendition.end()

    @property
    def limit_ms(self) -> float:
        """The longest that a segment may become: EXTINF is rounded to the target duration."""
        if not self.target_duration:
            return max(LONGEST_FIRST_MS, 2 * self.options.segment_ms)
        return self.target_duration * 1000 + 499

    @property
    def published(self) -> bool:
        """Whether there is something to show of every rendition that is on."""
        return bool(self.outputs) and bool(self.target_duration) and all(o.rendition.listed for o in self.outputs)

    def _segment(self, rendition: Rendition, segment: Segment) -> None:
        """A segment is complete."""
        self.timeline.reached(segment.at_ms + segment.duration_ms)
        if not self.target_duration:
            rounded = math.floor(segment.duration_ms / 1000 + 0.5)
            self.target_duration = max(self.options.segment_s, rounded)
        self.promised_ms = self.part_target_ms
        if self.shelf is not None:
            self._store(self.shelf, rendition, segment)
        self._stay_small()
        if self.published:
            self.ready.changed()

    def _begun(self, rendition: Rendition, segment: Segment) -> None:
        """A segment begins, and viewers may see its parts."""
        if self.shelf is not None:
            self.shelf.begin(segment.number, rendition.discontinuities)

    def _store(self, shelf: Shelf, rendition: Rendition, segment: Segment) -> None:
        def stored() -> None:
            segment.event = shelf.event
            rendition.cool(max(HOT_MS, 6_000 * self.target_duration))

        shelf.add(rendition.name, segment, stored)
        if self.published:
            shelf.set_index(multivariant_playlist(*self.variants()), self.terms)

    # After a restart.

    def stay_above(self, numbers: Numbers) -> None:
        """Begin with these numbers at least."""
        if not self._renditions:
            self._first = max(self._first, numbers.segment)
            self._discontinuity = max(self._discontinuity, numbers.discontinuity)

    @property
    def reached(self) -> Numbers:
        """What a list that comes after this one begins above."""
        renditions = list(self._renditions.values())
        return Numbers(
            max((r.next_number for r in renditions), default=self._first),
            max((r.discontinuities for r in renditions), default=self._discontinuity),
        )

    def restore(self, found: Found, shelf: Shelf) -> bool:
        """Go on where an earlier run stopped; False when it is too late for that."""
        if self._renditions:
            return False
        known = found.journal
        self.target_duration = known.terms.target_duration or self.options.segment_s
        self.promised_ms = known.terms.part_target_ms
        self.part_target_ms = self.promised_ms or self.part_target_ms
        for name, records in renditions_of(known.records).items():
            listed = relist(records, self.options.window_s * 1000.0, found.event, self.form.content_type)
            place = Place(epoch=self._epoch, number=listed[-1].number + 1, discontinuity=known.discontinuity)
            rendition = Rendition(name, place, self.form, window_ms=self.options.window_s * 1000.0, clock=self._clock)
            rendition.restore(listed, known.discontinuity)
            self._adopt(rendition)
            self.timeline.reached(listed[-1].at_ms + listed[-1].duration_ms)
        self.shelf = shelf
        self._index = known.index
        if self.state is State.NEW:
            self._become(State.LOST)
        return True

    def _stay_small(self) -> None:
        limit = self.options.memory_mb * MIB
        while self.size > limit:
            old = max((*self._before, *self._renditions.values()), key=lambda r: r.size)
            if not old.shed():
                return

    @property
    def size(self) -> int:
        """Bytes held."""
        return sum(r.size for r in self._renditions.values()) + sum(r.size for r in self._before)

    # What is shown.

    @property
    def terms(self) -> Terms:
        """What its playlists have in common."""
        return Terms(target_duration=self.target_duration, part_target_ms=self.part_target_ms)

    @property
    def shown(self) -> bool:
        """Whether there is a playlist to give out, the last one's included."""
        return self.published or bool(self._index)

    def index(self, prefix: str = "") -> str:
        """Return the multivariant playlist, whose addresses begin with *prefix*: at first that of what was before."""
        if self.published or not self._index:
            return multivariant_playlist(*self.variants(prefix))
        lines = (line if line.startswith("#") else prefix + line for line in self._index.splitlines())
        return "\n".join(lines).replace('URI="', f'URI="{prefix}') + "\n"

    def playlist(self, name: str) -> tuple[Rendition, Terms] | None:
        """Return a rendition by its name, once it can be shown."""
        rendition = self._renditions.get(name)
        if rendition is not None and self.target_duration and rendition.listed:
            return rendition, self.terms
        return next(((r, self._before_terms) for r in self._before if r.name == name), None)

    def others(self, rendition: Rendition) -> list[Rendition]:
        """Return the renditions beside this one, for rendition reports."""
        return [o.rendition for o in self.outputs if o.rendition is not rendition and o.rendition.listed]

    def file(self, name: str) -> File | None:
        """Return something that is served under a name of its own."""
        for rendition in (*self._renditions.values(), *self._before):
            file = rendition.files.get(name)
            if file is not None:
                return file
        return None

    def hinted(self, name: str) -> Rendition | None:
        """Return the rendition whose next part has this name."""
        return next((o.rendition for o in self.outputs if o.rendition.hint == name), None)

    def renditions(self) -> Iterator[Rendition]:
        """Every rendition, those of the programme before included."""
        yield from self._renditions.values()
        yield from self._before

    def status(self) -> SinkStatus:
        """What the API and the metrics say."""
        renditions = list(self._renditions.values())
        numbers = {
            "segments_total": sum(r.segments_total for r in renditions),
            "parts_total": sum(r.parts_total for r in renditions),
            "packaged_bytes_total": sum(r.bytes_total for r in renditions),
            "requests_total": self.requests,
            "waiting_requests": len(self.ready) + sum(len(r.waiters) for r in renditions),
            "memory_bytes": self.size,
        }
        detail = ", ".join(o.rendition.name for o in self.outputs)
        if self.shelf is not None:
            numbers["missing_segments_total"] = self.shelf.missing
            detail += f"; recording {self.shelf.event}"
        return SinkStatus(bytes_out=self.bytes_sent, detail=detail, numbers=numbers)

    def tick(self) -> None:
        """Called once a second: nobody waits for ever, and nothing old is kept for ever."""
        self.ready.tick()
        for rendition in self.renditions():
            rendition.waiters.tick()
        if self._before and self.published and self._clock.seconds() - self.since > 2 * self.options.window_s:
            self._before = []

    def variants(self, prefix: str = "") -> tuple[list[Variant], list[Alternative]]:
        """Describe what is on; every address begins with *prefix*."""
        return describe(self.outputs, self.sounds, prefix)
