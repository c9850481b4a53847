"""HLS: packages every stream as fMP4 or MPEG-TS and serves it, low-latency HLS included. See README.md.

Imports relay.api and nothing else of ours. The rule it guards: what is in a playlist can be fetched, whatever encoders,
disks, viewers and restarts do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from twisted.application.service import IService, Service
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from twisted.web.resource import IResource

from relay.api import (
    Context,
    Event,
    FeedSwitched,
    Fmp4Muxer,
    Sink,
    StreamInfo,
    TsMuxer,
    hookimpl,
)

from .access import Access
from .options import CLEAN_S, MAX_KEPT, MAX_WAITERS, MIB, HlsOptions
from .packager import Packager, Packing
from .plan import IN_FMP4, IN_TS
from .programme import Programme, State
from .resource import HlsResource
from .segments import Numbers
from .shelf import Harvest, Shelf, Store
from .sounds import SoundOptions

__all__ = ["HlsPlugin"]

TICK_S = 1.0


class HlsPlugin:
    """Keeps a programme for every stream, and serves them."""

    Config = HlsOptions
    StreamConfig = SoundOptions

    def __init__(self, config: HlsOptions, context: Context[SoundOptions]) -> None:
        self._options = config
        self._context = context
        self._programmes: dict[str, Programme] = {}
        self._packagers: dict[str, Packager] = {}
        is_fmp4 = config.container == "fmp4"
        self._packing = Packing(codecs=IN_FMP4 if is_fmp4 else IN_TS, muxer=Fmp4Muxer if is_fmp4 else TsMuxer)
        self.store: Store | None = None
        self._above: dict[str, Numbers] = {}
        self._forgotten = Numbers()
        self._settled = config.directory is None
        self._cleaned = 0.0
        if config.directory is not None:
            min_free = config.min_free_mb * MIB
            self.store = Store(config.directory, context.clock, time.time, context.log, min_free=min_free)
        self.access = Access(context.authorize_play, context.clock, valid_s=config.access_s)

    # Hooks.

    @hookimpl
    def open_sinks(self, stream: StreamInfo) -> Iterable[Sink]:
        """Go on with the stream's programme, or begin one."""
        programme = self._programmes.get(stream.name) or self._new_programme(stream.name)
        programme.sounds.options = self._context.stream_config(stream.name) or self._options
        programme.begin()
        packager = Packager(programme, self._packing, on_closed=self._closed)
        self._packagers[stream.name] = packager
        return [packager]

    def _new_programme(self, name: str) -> Programme:
        programme = Programme(name, self._options, self._context.clock, time.time, waiters=MAX_WAITERS)
        programme.stay_above(self._forgotten.or_above(self._above.get(name)))
        programme.settled = lambda: self._settled
        programme.open_shelf = self._open_shelf
        self._programmes[name] = programme
        return programme

    def _open_shelf(self, programme: Programme) -> Shelf | None:
        store = self.store
        return None if store is None else Shelf(store, programme.name, store.new_event())

    @hookimpl
    def http_resources(self) -> Mapping[str, IResource]:
        """Serve it."""
        return {"hls": HlsResource(self)}

    @hookimpl
    def services(self) -> Iterable[IService]:
        """Look after what is old."""
        return [Housekeeping(self._context, self.begin, self.tick)]

    @hookimpl
    def on_event(self, event: Event) -> None:
        """Another encoder on air is a discontinuity, unless it sends the same frames."""
        if isinstance(event, FeedSwitched) and event.how != "merged":
            packager = self._packagers.get(event.stream)
            if packager is not None:
                packager.cut_from(event.cut_ms, replay=event.how == "fast")

    # What an earlier run left.

    def begin(self) -> None:
        """The relay starts: look at the disk, in its own thread."""
        if self.store is not None:
            self.store.harvest(self._options.keep_s).addCallbacks(self._harvested, self._no_store)

    def _harvested(self, harvest: Harvest) -> None:
        store = self.store
        assert store is not None  # noqa: S101 - it was asked
        self._above = harvest.above
        for name, numbers in harvest.above.items():
            if name in self._programmes:
                self._programmes[name].stay_above(numbers)
        for found in harvest.going_on:
            programme = self._programmes.get(found.stream) or self._new_programme(found.stream)
            shelf = Shelf(store, found.stream, found.event, found.journal.records)
            shelf.set_index(found.journal.index, found.journal.terms)
            if not programme.restore(found, shelf):
                shelf.end("over")
        self._settled = True

    def _no_store(self, failure: Failure) -> None:
        assert self.store is not None  # noqa: S101 - it was asked
        self.store.complain("use", failure)
        self.store = None
        self._settled = True

    # What is served.

    def programme(self, name: str) -> Programme | None:
        """Return a stream's programme."""
        return self._programmes.get(name)

    def failed(self, failure: Failure) -> None:
        """Log a bug of ours."""
        self._context.log.failure("a request failed", failure)

    def _closed(self, packager: Packager) -> None:
        name = packager.programme.name
        if self._packagers.get(name) is packager:
            del self._packagers[name]
        if self.store is not None:
            packager.flushed = self.store.flushed()
        if packager.odd:
            self._context.log.warn(
                "stream {stream}: frames left out of HLS: {odd}", stream=name, odd=dict(packager.odd)
            )

    def tick(self) -> None:
        """Forget programmes that ended or were lost long ago, the oldest first when there are too many."""
        idle = [p for p in self._programmes.values() if p.state is not State.LIVE]
        idle.sort(key=lambda programme: programme.since)
        held = sum(programme.size for programme in idle)
        for programme in self._programmes.values():
            programme.tick()
        for count, programme in zip(range(len(idle), 0, -1), idle, strict=True):
            if programme.kept_s < self._options.keep_s and count <= MAX_KEPT and held <= 4 * self._memory:
                break
            held -= programme.size
            self._forgotten = self._forgotten.or_above(programme.reached)  # of all: names may be without end
            programme.forget()
            del self._programmes[programme.name]
        now = self._context.clock.seconds()
        if self.store is not None and self._options.keep_days and now - self._cleaned >= CLEAN_S:
            self._cleaned = now
            self.store.clean(self._options.keep_days).addErrback(lambda f: self._context.log.failure("cleaning", f))

    @property
    def _memory(self) -> int:
        return self._options.memory_mb * MIB


class Housekeeping(Service):
    """Calls a function every second, whatever it raises."""

    def __init__(self, context: Context[SoundOptions], begin: Callable[[], None], tick: Callable[[], None]) -> None:
        self._context = context
        self._begin = begin
        self._loop = LoopingCall(self._call)
        self._loop.clock = context.clock
        self._tick = tick

    def _call(self) -> None:
        try:
            self._tick()
        except Exception:  # a loop that raises stops for ever, and says nothing
            self._context.log.failure("looking after HLS failed")

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self._begin()
        self._loop.start(TICK_S, now=False)

    def stopService(self) -> None:
        super().stopService()  # type: ignore[no-untyped-call]
        if self._loop.running:
            self._loop.stop()
