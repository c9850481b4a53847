"""The recordings of all streams: which should run, what they come to, and the clock that drives them.

Answers the API's calls (`relay.api.RecordingControl`). The rule it guards: one timer serves every recorder, and
whatever happens in it, it comes again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from relay.api import (
    TEMPLATE,
    ConfigError,
    Context,
    RecordingFailed,
    RecordingFinished,
    RecordingPlan,
    RecordingRecovered,
    StreamInfo,
)

from .archive import PASS_S, TICK_S, Archive, Outcome
from .finishing import make_progressive
from .names import folder_name, parse_file
from .options import Options, StreamOptions
from .partfile import Recording
from .program import TRIES, Programs, Ran, Run, fill_in
from .recorder import MIB, Recorder, Tools, Totals
from .recovery import note_done, recover_all
from .retention import Wall, retain
from .settling import end_left
from .worker import Worker

DISK_QUEUE_BYTES = 256 * MIB
"""What waits for one disk in all: as much as 32 streams may have."""
MAX_STREAMS = 10_000
"""Streams whose wish or whose numbers are remembered: names come from callers of the API, and from encoders."""
RESERVE_BYTES = 1024 * MIB
RESERVE_SHARE = 0.02
MORE_THAN_RESERVE = 1.05
"""What is made free when the oldest files go: a little more, so that it need not be done every minute."""
AGAIN = 1.02
"""How much more than the reserve has to be free before recording begins again."""
CHORES_S = 60.0
"""Between two looks for files that are too old, or still torn."""
MEND_S = 5.0
"""After an error of the disk, before the torn file is mended."""


@dataclass(slots=True)
class Past:
    """A recording that may be continued until *until* on the relay's clock."""

    recording: Recording
    until: float


class RecordingBook:
    """Every stream's recorder and wish."""

    def __init__(
        self, options: Options, context: Context[StreamOptions], archive: Archive, wall_clock: Callable[[], float]
    ) -> None:
        self.archive = archive
        self._options = options
        self._context = context
        self._wall_clock = wall_clock
        self._live: dict[str, Recorder] = {}
        self._ending: list[Recorder] = []
        self._past: dict[str, Past] = {}
        self._wishes: dict[str, bool] = {}
        self._totals: dict[str, Totals] = {}
        self._tick: IDelayedCall | None = None
        self._next_pass = 0.0
        self._tools = Tools(
            archive=archive,
            clock=context.clock,
            wall_clock=wall_clock,
            has_room=self.has_room,
            queue_free=lambda: self._queue_free,
        )
        self._queue_free = DISK_QUEUE_BYTES
        self._full = False
        self._programs = Programs()
        self._wall = Wall(wall_clock, context.clock.seconds)
        self._next_chores = 0.0
        self._torn = self._first = True
        self._chores_wait = False
        self._suspect = False
        self._stopping = False

    # Streams.

    def open(self, stream: StreamInfo) -> Recorder:
        """Return the sink of a stream that starts."""
        name = stream.name
        folder_name(name)  # refuses what is not a name, long before there is a path
        options = self._of(name)
        past = self._past.pop(name, None)
        before = self._live.pop(name, None)
        if before is not None:  # it may not have been closed yet
            before.close()
            self._ending.append(before)
            past = past or self._kept(before)
        recording = None
        if past is not None and past.until >= self._context.clock.seconds():
            recording = past.recording
        elif past is not None:
            self._end(past.recording)
        if len(self._totals) >= MAX_STREAMS:
            self._totals = {one: self._totals[one] for one in self._live if one in self._totals}
        recorder = Recorder(
            self._tools,
            name,
            options,
            self._totals.setdefault(name, Totals()),
            recording,
            on=self._wishes.get(name, options.enabled),
        )
        self._live[name] = recorder
        return recorder

    def _of(self, stream: str) -> StreamOptions:
        return self._context.stream_config(stream) or self._options

    # Time.

    def start(self) -> None:
        """Let time pass."""
        for worker in self._workers:
            worker.start()
        self._run()

    def stop(self) -> None:
        """Let nothing more happen. Files that are not finished by now are mended at the next start."""
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        self._stopping = True
        for worker in self._workers:
            worker.stop()

    @property
    def _workers(self) -> tuple[Worker, ...]:
        return (*self.archive.workers, self._programs.worker)

    def _run(self) -> None:
        self._tick = self._context.clock.callLater(TICK_S, self._run)
        now = self._context.clock.seconds()
        recorders = [*self._live.values(), *self._ending]
        self._queue_free = DISK_QUEUE_BYTES - sum(recorder.queued for recorder in recorders)
        for recorder in recorders:
            self._let_work(recorder, now)
            if recorder.closed:
                self._retire(recorder)
        for outcome in self.archive.outcomes():
            self._tell(outcome)
        if now >= self._next_pass:
            self._next_pass = now + PASS_S - TICK_S / 2  # the tick before, not the one after
            self._pass(now)

    def _let_work(self, recorder: Recorder, now: float) -> None:
        """What goes wrong with one recording is an error of ours; the others go on."""
        try:
            recorder.tick(now)
        except Exception:
            self._context.log.failure("recording of {stream} failed", Failure(), stream=recorder.stream)
            recorder.give_up(now)

    def _pass(self, now: float) -> None:
        self.archive.pass_over(now)
        for stream, past in tuple(self._past.items()):
            if past.until < now:
                del self._past[stream]
                self._end(past.recording)
        if now >= self._next_chores:
            self._next_chores = now + CHORES_S
            self._do_chores()
        for ran in self._programs.ended():
            self._tell_ran(ran)
        for worker in self._workers:
            while worker.faults:
                self._context.log.failure("{thread} failed", Failure(worker.faults.popleft()), thread=worker.name)

    def _do_chores(self) -> None:
        """Have torn files mended, and old ones deleted."""
        if self._chores_wait:
            return
        self._chores_wait = True
        torn, self._torn = self._torn, False
        first, self._first = self._first, False
        suspect, self._suspect = self._suspect, False
        now, make_room = self._wall.now(), 0
        if self._options.when_full == "delete-oldest" and self.archive.free is not None:
            make_room = int(self.reserve * MORE_THAN_RESERVE) - self.archive.free

        def work() -> None:
            try:
                if torn and recover_all(self.archive, suspect=suspect, first=first):
                    self._torn, self._suspect = True, suspect
                end_left(self.archive, self._of)
                retain(self.archive, self._of, now, make_room)
            finally:
                self._chores_wait = False

        self.archive.chores.do(work)

    def _retire(self, recorder: Recorder) -> None:
        """Forget a recorder whose stream is over, once its files are finished."""
        if self._live.get(recorder.stream) is recorder:
            del self._live[recorder.stream]
            self._ending.append(recorder)
            past = self._kept(recorder)
            if past is not None:
                self._past[recorder.stream] = past
        if not recorder.closing and recorder in self._ending:
            self._ending.remove(recorder)

    def _kept(self, recorder: Recorder) -> Past | None:
        if recorder.recording is None:
            return None
        return Past(recorder.recording, self._context.clock.seconds() + recorder.options.resume_s)

    def _end(self, recording: Recording) -> None:
        self.archive.end(recording, self._wall_clock())

    def _tell(self, outcome: Outcome) -> None:
        totals = self._totals.setdefault(outcome.stream, Totals())
        log, stream, file = self._context.log, outcome.stream, outcome.file
        if outcome.what == "finished":
            totals.files += 1
            self._finished(outcome)
        elif outcome.what == "recovered":
            log.warn("recording of {stream}: {file} was torn and is whole again", stream=stream, file=file)
            self._emit(RecordingRecovered, outcome)
            self._finished(outcome)
        elif outcome.what == "pending":
            self._finished(outcome)
        elif outcome.what == "remuxed":
            if outcome.error and self._stopping:
                return  # the next start tries again
            if outcome.error:
                log.error("{file} stays fragmented: {reason}", file=file, reason=outcome.error)
            self._complete(outcome)
        elif outcome.what == "deleted":
            log.info("recording of {stream}: {file} was deleted, as the options say", stream=stream, file=file)
        else:
            totals.failures += 1
            self._torn = self._suspect = True
            self._next_chores = self._context.clock.seconds() + MEND_S
            log.error(
                "recording of {stream} failed: {reason}; the stream goes on, and another file is tried",
                stream=stream,
                reason=outcome.error,
            )
            self._context.emit(RecordingFailed(stream=stream, recording=outcome.recording, reason=outcome.error))

    def _finished(self, outcome: Outcome) -> None:
        """Make another file of a finished one if that is wanted, then let it be known."""
        if not self._of(outcome.stream).remux or outcome.path.suffix != ".mp4":
            self._complete(outcome)
            return

        def work() -> None:
            name = parse_file(outcome.file)
            failed = "not a name of ours"
            if name is not None:
                failed = make_progressive(self.archive, outcome.path.parent.name, name, lambda: self._stopping)
            self.archive.tell(replace(outcome, what="remuxed", error=failed))

        self.archive.chores.do(work)

    def _complete(self, outcome: Outcome) -> None:
        self._context.log.info("recording of {stream}: {file} is finished", stream=outcome.stream, file=outcome.file)
        self._emit(RecordingFinished, outcome)
        options = self._of(outcome.stream)
        if options.exec:
            args = fill_in(options.exec, path=str(outcome.path), stream=outcome.stream, id=outcome.recording)
            run = Run(args=args, stream=outcome.stream, path=str(outcome.path), timeout_s=options.exec_timeout_s)
            if not self._programs.run(run):
                self._context.log.error("recording of {stream}: too many programs wait", stream=outcome.stream)
        elif options.remux or outcome.what == "pending":
            self._note_done(outcome.path)

    def _emit(self, kind: type[RecordingFinished] | type[RecordingRecovered], outcome: Outcome) -> None:
        facts = outcome.facts
        self._context.emit(
            kind(
                stream=outcome.stream,
                recording=outcome.recording,
                path=str(outcome.path),
                size=outcome.size,
                duration_ms=max(0, facts.last_ms - facts.first_ms),
                suspect=outcome.suspect,
            )
        )

    def _note_done(self, path: Path) -> None:
        self.archive.chores.do(lambda: note_done(self.archive, path))

    def _tell_ran(self, ran: Ran) -> None:
        self._note_done(Path(ran.run.path))
        file = Path(ran.run.path).name
        if ran.status == 0:
            self._context.log.info("the program for {file} has ended", file=file)
        else:
            self._context.log.error(
                "the program for {file} failed {tries} times; its end: {output}",
                file=file,
                tries=TRIES,
                output="it took too long" if ran.status is None and not ran.output else ran.output,
            )

    # The disk.

    @property
    def reserve(self) -> int:
        """Bytes of the disk that are left free."""
        if self._options.min_free_mb is not None:
            return int(self._options.min_free_mb * 1_000_000)
        return int(max(RESERVE_BYTES, RESERVE_SHARE * self.archive.total))

    def has_room(self) -> bool:
        """Whether the disk has room for more than the reserve. Once it had not, it needs a little more again."""
        free = self.archive.free
        if free is not None:
            self._full = free < self.reserve * (AGAIN if self._full else 1.0)
        return not self._full

    # The API.

    def streams(self) -> Iterable[str]:
        """The streams of which something is known."""
        names = {*self._live, *self._wishes}
        return names | {name for name in self._context.configured_streams if name != TEMPLATE}

    def recording(self, stream: str) -> RecordingPlan:
        """What is known of a stream's recording."""
        recorder = self._live.get(stream)
        totals = self._totals.get(stream, Totals())
        enabled = self._wishes.get(stream, self._of(stream).enabled)
        plan = RecordingPlan(
            state="waiting" if enabled else "off",
            enabled=enabled,
            bytes_written=totals.written,
            files=totals.files,
            failures=totals.failures,
            dropped_packets=totals.dropped_packets,
            dropped_gops=totals.dropped_gops,
        )
        if recorder is None:
            return plan
        part = recorder.part
        file = None if part is None else part.file
        return replace(
            plan,
            state=recorder.state.value,
            enabled=recorder.on,
            reason=recorder.reason,
            recording="" if recorder.recording is None else recorder.recording.stem,
            file="" if file is None else file.name,
            format=recorder.options.format,
            duration_ms=0 if part is None else part.duration_ms,
            queue_bytes=recorder.queued,
        )

    def begin(self, stream: str) -> None:
        """Let the stream be recorded."""
        self._wish(stream, True)

    def end(self, stream: str) -> None:
        """Let the stream not be recorded."""
        self._wish(stream, False)

    def _wish(self, stream: str, on: bool) -> None:
        if stream not in self._wishes and len(self._wishes) >= MAX_STREAMS:
            raise ConfigError("", f"there are {MAX_STREAMS} streams already")
        self._wishes[stream] = on
        recorder = self._live.get(stream)
        if recorder is not None:
            (recorder.start if on else recorder.stop)()
