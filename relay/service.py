"""The composition root: builds the relay from a configuration, starts it, and stops it in order.

The only room that knows all parts. Stopping: accept nobody, end the streams (destinations get their unpublish,
players the end of the stream), wait for both with a deadline, then stop the rest.
"""

from __future__ import annotations

import gc
import random
import resource
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList, ensureDeferred, maybeDeferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from relay.config import TEMPLATE, Config
from relay.config_file import ConfigFileError
from relay.config_limits import Limits
from relay.context import PushTarget
from relay.errors import ConfigError
from relay.events import Event, SinkFailed, StreamEnded, StreamStarted
from relay.hookspecs import StreamInfo
from relay.http.channel import HttpLimits
from relay.http.site import make_site
from relay.net.addresses import resolve
from relay.net.admission import Admission
from relay.net.attempt import PushTools
from relay.net.audiences import Audiences
from relay.net.delivery import Confirmation
from relay.net.dnsthreads import DnsThreads
from relay.net.door import Door
from relay.net.flusher import Flusher
from relay.net.lag import make_lag_monitor
from relay.net.listen import Listener, ListenError, open_all, open_port
from relay.net.metronome import Metronome
from relay.net.moderation import Moderation
from relay.net.pollset import PollSet
from relay.net.pushgroup import PushGroup
from relay.net.reporting import event_of, log_report
from relay.net.slates import SlateMaker
from relay.net.spacing import HostSpacing
from relay.net.watch import Watch
from relay.pluginhost import PluginHost
from relay.stream.judge import Fault
from relay.stream.policy import FailoverOptions
from relay.stream.registry import Registry
from relay.stream.reports import Report
from relay.stream.sinks import Sink
from relay.stream.slowness import SinkBlocksError
from relay.stream.stream import Stream
from relay.views import RelayViews

STOP_S = 4.0
"""For destinations and players to be told; the whole stop stays under 5 s (P22)."""

RESERVED_FDS = 64
"""Descriptors kept free for files, destinations and the log when connections reach their limit."""


class RelayService(MultiService):
    """One relay: listeners, streams, plugins, HTTP."""

    log = Logger(namespace="relay")

    def __init__(self, config: Config, reactor: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.config = config
        self._reactor = reactor
        limits = _with_room(config, self.log)
        self._infos: dict[str, StreamInfo] = {}
        self._groups: dict[str, list[PushGroup]] = {}
        self._plugin_of: dict[Sink, str] = {}
        self._closing: set[Deferred[Any]] = set()
        failover = _failover_options(config)
        self.registry = Registry(failover=failover, seconds=reactor.seconds, may_block=self._may_block)
        self.watch = Watch(reactor)
        self.metronome = Metronome(reactor, self.registry)
        self.watch.add(self.metronome)
        self._slates = SlateMaker(reactor, self.registry, in_thread=self._in_thread, report=self._reported)
        self.watch.add(self._slates)
        self._moderation = Moderation(reactor, PollSet(reactor))
        self.watch.add(self._moderation)
        self._flushers = {config.play.merge_ms: Flusher(reactor, config.play.merge_ms)}
        self._tools = self._build_tools(limits)
        self.host = self._build_host()
        self.door = self._build_door(limits)
        self._listen_to_registry()
        self._lag = make_lag_monitor(reactor, self.host.plugin_of)
        self.listeners = [self._listener(index, one) for index, one in enumerate(config.listen)]
        self._site = self._build_site()
        self._http_port: Any = None
        self._dns = DnsThreads(reactor)
        self._hurried = False
        for service in (self.watch, self._lag, *self.host.services()):
            service.setServiceParent(self)

    # Building.

    def _build_tools(self, limits: Limits) -> PushTools:
        return PushTools(
            reactor=self._reactor,
            watch=self.watch,
            emit=self._emit,
            uniform=random.Random().uniform,  # noqa: S311 - jitter, not a secret
            spacing=HostSpacing(random.uniform),
            queue_bytes=limits.queue_bytes,
            queue_ms=limits.queue_ms,
            name_for=self._push_name,
        )

    def _build_host(self) -> PluginHost:
        return PluginHost(
            self.config,
            clock=self._reactor,
            streams=self._infos,
            push=self._push,
            resolve=partial(resolve, self._reactor),
            opine=self._opine,
            confirm=self._confirm,
        )

    def _build_door(self, limits: Limits) -> Door:
        return Door(
            clock=self._reactor,
            limits=limits,
            apps=self.config.rtmp.apps,
            deciders=self.host,
            registry=self.registry,
            audiences=Audiences(self.registry, self._flushers[self.config.play.merge_ms]),
            admission=Admission(limits),
            watch=self.watch,
            moderation=self._moderation,
            spawn=self._spawn,
        )

    def _listener(self, index: int, config: Any) -> Listener:
        try:
            listener = Listener(self._reactor, self.door, config, in_thread=self._in_thread)
        except ConfigError as error:
            problem = self.config.source.problem_at(f"listen[{index}].{error.path}", error.message)
            raise ConfigFileError([problem]) from error
        if listener.expiry is not None:
            self.watch.add(listener.expiry)
        return listener

    def _build_site(self) -> Any:
        token, limits = self.config.http.token, self.door.limits
        views = RelayViews(
            door=self.door,
            host=self.host,
            lag=self._lag,
            listeners=self.listeners,
            groups=self._groups,
            started_at={},
            sink_plugins=self._sinks_of,
            wall_clock=time.time,
        )
        self._started_at = views.started_at
        return make_site(
            views,
            token=None if token is None else token.secret,
            resources=self.host.http_resources(),
            targets=self.host.target_control,
            embed_in=self.config.http.embed_in,
            recording=self.host.recording_control,
            clock=self._reactor,
            limits=HttpLimits(
                headers_s=limits.http_header_s,
                body_s=limits.http_body_s,
                body_bytes=limits.http_body_bytes,
                api_in_flight=limits.http_requests_per_ip,
                mount_in_flight=limits.http_viewer_requests_per_ip,
            ),
        )

    def _sinks_of(self, stream: Stream) -> list[tuple[str, object]]:
        return [(self._plugin_of[sink], sink) for sink in stream.sinks if sink in self._plugin_of]

    def _push(self, stream: str, targets: Sequence[PushTarget], *, merge_ms: int = 0) -> PushGroup:
        if merge_ms not in self._flushers:
            self._flushers[merge_ms] = Flusher(self._reactor, merge_ms)
        group = PushGroup(self._tools, self._flushers[merge_ms], stream, targets)
        self._groups.setdefault(stream, []).append(group)
        return group

    def _push_name(self, stream: str) -> str:
        return self.door.push_name(stream)

    def _opine(self, stream: str, feed: str, trigger: str, fault: Fault | None) -> bool:
        """Add what a plugin found out about a feed to what its judge knows."""
        found = self.registry.get(stream)
        judged = None if found is None else found.find_feed(feed)
        if judged is not None:
            judged.judge.opine(trigger, fault)
        return judged is not None

    def _confirm(self, plugin: str, stream: str, target: str, confirmed: bool, detail: str, valid_s: float) -> bool:
        """Note what a platform says of a programme, by a plugin that asked it."""
        word = Confirmation(plugin=plugin, confirmed=confirmed, detail=detail)
        pushes = [group.targets[target] for group in self._groups.get(stream, ()) if target in group.targets]
        return any(push.confirm(word, valid_s) for push in pushes)

    def _emit(self, event: Event) -> None:
        self.host.emit(event)

    def _in_thread(self, work: Callable[..., Any], *arguments: object) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), work, *arguments)

    def _spawn(self, description: str, work: Awaitable[None]) -> None:
        def failed(failure: Failure) -> None:
            self.log.failure("{description} failed", failure, description=description)

        ensureDeferred(work).addErrback(failed)  # type: ignore[arg-type]

    # Streams.

    def _listen_to_registry(self) -> None:
        registry = self.registry
        registry.on_started.append(self._stream_started)
        registry.on_ended.append(self._stream_ended)
        registry.on_report.append(self._reported)
        registry.on_sink_failed.append(self._sink_failed)
        registry.on_sink_closing.append(self._sink_closing)

    def _stream_started(self, stream: Stream) -> None:
        now = time.time()
        self._started_at[stream.name] = now
        live = "" if stream.live_feed is None else stream.live_feed.name
        info = StreamInfo(name=stream.name, tracks=stream.tracks, live_feed=live, started_at=now)
        self._infos[stream.name] = info
        self.log.info("stream {stream} started", stream=stream.name)
        self.host.emit(StreamStarted(stream=stream.name))
        for plugin, sink in self.host.open_sinks(info):
            self._plugin_of[sink] = plugin
            stream.attach(sink)

    def _stream_ended(self, stream: Stream, reason: str) -> None:
        for forget in (self._started_at, self._infos, self._groups):
            forget.pop(stream.name, None)
        self.log.info("stream {stream} ended: {reason}", stream=stream.name, reason=reason)
        if stream.started:
            self.host.emit(StreamEnded(stream=stream.name, reason=reason))

    def _reported(self, stream: Stream, report: Report) -> None:
        log_report(self.log, stream.name, report)
        self.metronome.attend()
        self.host.emit(event_of(stream.name, report))

    def _may_block(self, sink: Sink) -> bool:
        """Ours wait for nobody: when they are slow the machine is, and to lose every player makes it no faster."""
        return isinstance(sink, PushGroup) or sink not in self._plugin_of

    def _sink_failed(self, stream: Stream, sink: Sink, error: Exception) -> None:
        plugin = self._plugin_of.pop(sink, "relay")
        if isinstance(error, SinkBlocksError):  # its traceback would show our own clock
            said = "a sink of {plugin} failed on stream {stream} and was detached: {reason}"
            self.log.error(said, plugin=plugin, stream=stream.name, reason=str(error))
        else:
            said = "a sink of {plugin} failed on stream {stream} and was detached"
            self.log.failure(said, Failure(error), plugin=plugin, stream=stream.name)
        self.host.emit(SinkFailed(stream=stream.name, plugin=plugin, error=type(error).__name__))

    def _sink_closing(self, stream: Stream, sink: Sink, closing: Awaitable[None]) -> None:
        self._plugin_of.pop(sink, None)
        waiting: Deferred[Any] = closing if isinstance(closing, Deferred) else ensureDeferred(closing)  # type: ignore[arg-type]

        def closed(result: object) -> None:
            self._closing.discard(waiting)
            if isinstance(result, Failure):
                self.log.failure("a sink of stream {stream} failed to close", result, stream=stream.name)

        self._closing.add(waiting)
        waiting.addBoth(closed)

    # Running.

    def privilegedStartService(self) -> None:
        """Bind while we may still be root; then the rest runs as the operator's user."""
        open_all(self.listeners)
        http = self.config.http
        try:
            self._http_port = open_port(self._reactor, http.host, http.port, self._site, f"http://{http.listen}")
        except ListenError:
            for listener in self.listeners:
                listener.close()
            raise
        super().privilegedStartService()  # type: ignore[no-untyped-call]

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self._dns.start()
        host, port = self.config.http.listen.rpartition(":")[0], self._http_port.getHost().port
        self.log.info("HTTP on http://{host}:{port}", host=host, port=port)
        _settle_memory()

    async def _stop(self) -> None:
        self.door.draining = True
        self.metronome.stop()
        self._slates.stop()
        self.watch.discard(self._moderation)
        self._moderation.stop()
        for listener in self.listeners:
            await listener.close()
        self.registry.close("shutdown")
        for connection in tuple(self.door.connections):
            connection.shut_down()
        for flusher in self._flushers.values():
            flusher.flush_now()
        deadline = self._reactor.seconds() + STOP_S
        while self._busy() and self._reactor.seconds() < deadline:
            await deferLater(self._reactor, 0.02)
        if self._closing:
            self.log.warn("{count} destinations did not close in time", count=len(self._closing))

    def hurry(self) -> None:
        """Stop waiting for anybody."""
        self._hurried = True

    def _busy(self) -> bool:
        if self._hurried:
            return False
        return bool(self._closing) or self.door.admission.connections > 0

    def stopService(self) -> Deferred[Any]:
        """Stop in order; fires within 5 s."""
        done = ensureDeferred(self._stop())
        done.addErrback(lambda failure: self.log.failure("stopping failed", failure))
        return done.addCallback(lambda _: self._stop_rest())

    def _stop_rest(self) -> Deferred[Any]:
        self.host.stop()
        waiting = [maybeDeferred(super().stopService)]
        if self._http_port is not None:
            waiting.append(maybeDeferred(self._http_port.stopListening))
        if self._dns.started:
            self._dns.stop()
        return DeferredList(waiting)


def _failover_options(config: Config) -> Callable[[str], FailoverOptions]:
    """Return what says how a stream treats its feeds; every table is read now, so that a wrong one stops the start."""
    declared = {name: config.failover(name).options() for name in config.streams}
    template = config.failover(TEMPLATE).options()
    return lambda name: declared.get(name, template)


def _with_room(config: Config, log: Logger) -> Limits:
    """Raise the descriptor limit as far as we may; lower `connections` to what then fits."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = config.limits.connections + config.limits.publishers + RESERVED_FDS
    room = wanted if hard == resource.RLIM_INFINITY else min(hard, max(wanted, 1024))
    soft = max(room, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    most = max(soft - RESERVED_FDS, 16)
    if config.limits.connections <= most:
        return config.limits
    log.warn(
        "limits.connections lowered from {wanted} to {most}: only {soft} files may be open (LimitNOFILE, ulimit -n)",
        wanted=config.limits.connections,
        most=most,
        soft=soft,
    )
    return config.limits.model_copy(update={"connections": most})


def _settle_memory() -> None:
    """What was built at start stays: the collector need not look at it again for every few hundred packets."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 50)
