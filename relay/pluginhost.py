"""Builds the enabled plugins and calls their hooks, one plugin at a time.

pluggy finds and checks implementations, but its own loop stops at the first exception and cannot await, so each
implementation is called from here: isolated, timed and counted. The rule it guards: a plugin can fail itself only.
decide fails closed, collect leaves the failing plugin out, observe goes on with the next one.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import pluggy

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from relay.config import Config
from relay.config_file import ConfigFileError
from relay.context import Context, Push, RecordingControl, TargetControl
from relay.decisions import Allow, Decision, Deny, PlayRequest, PublishRequest
from relay.errors import ConfigError, PluginError
from relay.events import Event
from relay.hookcaller import HookCaller, Plugin
from relay.hookcalls import (
    HookStats,
    collected_resources,
    collected_services,
    collected_sinks,
    within,
)
from relay.hookspecs import StreamInfo
from relay.pluginfind import installed_plugins, new_plugin_manager
from relay.plugintables import Installed, PluginTables, plugin_problem, read_tables, resolve_secrets
from relay.rtmp.names import is_public_name
from relay.stream.judge import Fault
from relay.stream.sinks import Sink

if TYPE_CHECKING:
    from twisted.application.service import IService
    from twisted.web.resource import IResource

DECIDE_BUDGET_S = 5.0
"""For all plugins together: an encoder waits 10 s at most for its answer (L-CMD)."""
MAX_EVENTS_IN_FLIGHT = 100
"""Unfinished `on_event` calls of one plugin; a webhook that answers in 1 s still keeps up with 100 events a second."""
MAX_EVENT_DEPTH = 4
"""Events that may be emitted while events are delivered: a plugin that answers every event with an event stops here."""

OBSERVE_LIMIT_S = 30.0
"""An `on_event` that takes longer is cancelled and counted, so that its place becomes free."""

UNDECIDED = "the relay cannot check stream keys at the moment; try again"


T = TypeVar("T")


class PluginSink(NamedTuple):
    """A sink and who opened it."""

    plugin: str
    sink: Sink


class PluginHost(HookCaller):
    """The enabled plugins of one relay, in the order of the configuration.

    Attributes:
        target_control: what answers the API's target calls, if anything does.
        target_plugin: the name of the plugin it belongs to.
        recording_control: what answers the API's recording calls, if anything does.
        observers: core code that hears of every event after the plugins; it must not raise.
    """

    def __init__(
        self,
        config: Config,
        *,
        clock: IReactorTime,
        installed: Installed | None = None,
        streams: Mapping[str, StreamInfo] | None = None,
        push: Push | None = None,
        resolve: Callable[[str], Deferred[Sequence[str]]] | None = None,
        opine: Callable[[str, str, str, Fault | None], bool] | None = None,
        confirm: Callable[[str, str, str, bool, str, float], bool] | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Import, validate and build every configured plugin; raise ConfigFileError with everything that is wrong."""
        super().__init__(clock)
        self.observers: list[Callable[[Event], None]] = []
        self._wall_clock = wall_clock
        self._streams = streams if streams is not None else {}
        self._push = push
        self._opine = opine
        self._confirm = confirm
        self._resolve = resolve
        self.target_control: TargetControl | None = None
        self.target_plugin = ""
        self.recording_control: RecordingControl | None = None
        self._depth = 0
        self._build_all(config, installed_plugins() if installed is None else installed)

    # Building.

    def _build_all(self, config: Config, installed: Installed) -> None:
        tables, problems = read_tables(config.plugins, config.streams, config.source, installed)
        problems += resolve_secrets(config, tables)
        if problems:
            raise ConfigFileError(problems)
        manager = new_plugin_manager()
        built = []
        for table in tables:
            try:
                built.append(self._build(table, config, manager))
            except ConfigError as error:
                problems.append(plugin_problem(config, table.plugin.name, error))
        if problems:
            raise ConfigFileError(problems)
        manager.check_pending()
        self.plugins = tuple(built)

    def _build(self, table: PluginTables, config: Config, manager: pluggy.PluginManager) -> Plugin:
        plugin = Plugin(spec=table.plugin)
        context = self._context(plugin, table, config)
        try:
            plugin.instance = table.plugin.factory(table.config, context)
            manager.register(plugin.instance, name=plugin.name)
        except ConfigError:
            raise
        except Exception as error:
            raise ConfigError("", f"the plugin cannot be built: {type(error).__name__}: {error}") from error
        for hook in table.plugin.hooks:
            for call in getattr(manager.hook, hook).get_hookimpls():
                if call.plugin is plugin.instance:
                    plugin.calls[hook] = call
                    self.stats[hook, plugin.name] = HookStats()
        return plugin

    def _context(self, plugin: Plugin, table: PluginTables, config: Config) -> Context:
        def run(description: str, work: Coroutine[Deferred[object], object, object]) -> Deferred[None]:
            return self._run_in_background(plugin, description, work)

        return Context(
            name=plugin.name,
            clock=self._clock,
            log=Logger(namespace=f"plugin.{plugin.name}"),
            streams=self._streams,
            emit=self.emit,
            run_in_background=run,
            _push=self._push,
            _resolve=self._resolve,
            _authorize_play=self.authorize_play,
            _opine=self._opine,
            _confirm=self._confirm,
            _control_targets=partial(self._control_targets, plugin),
            _control_recording=partial(self._control_recording, plugin),
            _report_numbers=partial(setattr, plugin, "read_numbers"),
            _stream_configs=table.stream_configs,
            _declared=frozenset(config.streams),
            _stream_defaults=table.stream_defaults,
        )

    def _control_targets(self, plugin: Plugin, control: TargetControl) -> None:
        if self.target_control is not None:
            raise ConfigError(f"plugins.{plugin.name}", "another plugin answers the API's target calls already")
        self.target_control = control
        self.target_plugin = plugin.name

    def _control_recording(self, plugin: Plugin, control: RecordingControl) -> None:
        if self.recording_control is not None:
            raise ConfigError(f"plugins.{plugin.name}", "another plugin answers the API's recording calls already")
        self.recording_control = control

    # Decide.

    async def authorize_publish(self, request: PublishRequest) -> Decision:
        """Ask who may publish. Never raises and never says nothing: no answer is a refusal."""
        decision, plugin = await self._decide("authorize_publish", request)
        if isinstance(decision, Allow) and not _is_valid(decision):
            if plugin is not None:
                self._failed("authorize_publish", plugin, "allowed a stream or feed whose name is not valid")
            return Deny(reason="invalid stream name from a plugin", public=UNDECIDED)
        return decision

    async def authorize_play(self, request: PlayRequest) -> Decision:
        """Ask who may play. Never raises and never says nothing: no answer is a refusal."""
        return (await self._decide("authorize_play", request))[0]

    async def _decide(self, hook: str, request: PublishRequest | PlayRequest) -> tuple[Decision, Plugin | None]:
        deadline = self._clock.seconds() + DECIDE_BUDGET_S
        for plugin in self.plugins:
            if hook not in plugin.calls:
                continue
            try:
                answer = await self._ask(hook, plugin, request, deadline)
            except CancelledError:
                raise  # the connection is gone, nobody waits for the answer
            except Exception as error:
                self._failed(hook, plugin, f"{type(error).__name__}: {error}", error)
                return Deny(reason=f"plugin {plugin.name} failed", public=UNDECIDED), plugin
            if isinstance(answer, Allow | Deny):
                return answer, plugin
            if answer is not None:
                self._failed(hook, plugin, f"answered {type(answer).__name__} instead of Allow, Deny or None")
                return Deny(reason=f"plugin {plugin.name} failed", public=UNDECIDED), plugin
        return Deny(reason="no plugin allowed it"), None

    async def _ask(self, hook: str, plugin: Plugin, request: object, deadline: float) -> object:
        started = self._clock.seconds()
        try:
            try:
                answer = self._call(hook, plugin, request)
                if isinstance(answer, Awaitable):  # its first step is taken here
                    answer = within(answer, deadline - started, self._clock)
            finally:
                self._warn_if_slow(hook, plugin, started)
            return await answer if isinstance(answer, Awaitable) else answer
        finally:
            self.stats[hook, plugin.name].seconds += self._clock.seconds() - started

    # Collect.

    def open_sinks(self, stream: StreamInfo) -> list[PluginSink]:
        """Collect the sinks for a stream that starts. A plugin that fails gives none."""
        sinks: list[PluginSink] = []
        for plugin in self._calling("open_sinks"):
            try:
                opened = self._collect("open_sinks", plugin, collected_sinks, stream)
            except Exception as error:
                self._failed("open_sinks", plugin, f"{type(error).__name__}: {error}", error)
            else:
                sinks += (PluginSink(plugin.name, sink) for sink in opened)
        return sinks

    def http_resources(self) -> dict[str, IResource]:
        """Collect what plugins serve, by first path segment; raise PluginError when one fails or two want the same."""
        resources: dict[str, IResource] = {}
        for plugin in self._calling("http_resources"):
            served = self._collect_or_refuse("http_resources", plugin, collected_resources)
            for segment in served:
                if segment in resources:
                    raise PluginError(plugin.name, f"wants /{segment}, which another plugin serves already")
            resources |= served
        return resources

    def services(self) -> list[IService]:
        """Collect what plugins run; raise PluginError when one fails."""
        services: list[IService] = []
        for plugin in self._calling("services"):
            services += self._collect_or_refuse("services", plugin, collected_services)
        return services

    def _collect_or_refuse(self, hook: str, plugin: Plugin, take: Callable[[object], T]) -> T:
        try:
            return self._collect(hook, plugin, take)
        except Exception as error:
            self.stats[hook, plugin.name].errors += 1
            raise PluginError(plugin.name, f"{hook} failed: {type(error).__name__}: {error}") from error

    def _collect(self, hook: str, plugin: Plugin, take: Callable[[object], T], *arguments: object) -> T:
        started = self._clock.seconds()
        try:
            return take(self._call(hook, plugin, *arguments))
        finally:
            self.stats[hook, plugin.name].seconds += self._clock.seconds() - started
            self._warn_if_slow(hook, plugin, started)

    # Observe.

    def emit(self, event: Event) -> None:
        """Tell every plugin, then the core's observers. Never raises, waits for nobody."""
        if self._depth >= MAX_EVENT_DEPTH:
            self._log.error("event {event} dropped: events are answered with events", event=type(event).__name__)
            return
        if not event.at:
            event = replace(event, at=self._wall_clock())
        self._depth += 1
        try:
            for plugin in self.plugins:
                if "on_event" in plugin.calls:
                    self._tell(plugin, event)
            for observer in self.observers:
                observer(event)
        finally:
            self._depth -= 1

    def _tell(self, plugin: Plugin, event: Event) -> None:
        started = self._clock.seconds()
        stats = self.stats["on_event", plugin.name]
        if plugin.in_flight >= MAX_EVENTS_IN_FLIGHT or plugin.breaker.paused(started):
            stats.dropped += 1
            return
        try:
            answer = self._call("on_event", plugin, event)
            if isinstance(answer, Awaitable):
                plugin.in_flight += 1
                Deferred.fromCoroutine(self._told(plugin, answer, started))
            else:
                stats.seconds += self._clock.seconds() - started
        except Exception as error:
            self._failed("on_event", plugin, f"{type(error).__name__}: {error}", error)
        self._warn_if_slow("on_event", plugin, started)

    async def _told(self, plugin: Plugin, answer: Awaitable[object], started: float) -> None:
        try:
            await within(answer, OBSERVE_LIMIT_S, self._clock)
        except Exception as error:
            self._failed("on_event", plugin, f"{type(error).__name__}: {error}", error)
        finally:
            plugin.in_flight -= 1
            self.stats["on_event", plugin.name].seconds += self._clock.seconds() - started

    # Work in the background.

    def _run_in_background(
        self, plugin: Plugin, description: str, work: Coroutine[Deferred[object], object, object]
    ) -> Deferred[None]:
        stats = self.stats.setdefault(("background", plugin.name), HookStats())
        stats.calls += 1
        started = self._clock.seconds()

        async def run() -> None:
            try:
                await work
            except CancelledError:
                self._log.debug("plugin {plugin}: {work} was cancelled", plugin=plugin.name, work=description)
            except Exception as error:
                stats.errors += 1
                self._report(plugin, description, f"{type(error).__name__}: {error}", error)
            finally:
                stats.seconds += self._clock.seconds() - started

        running = Deferred.fromCoroutine(run())
        plugin.background.add(running)
        running.addBoth(lambda _: plugin.background.discard(running))
        return running

    def stop(self) -> None:
        """Cancel what plugins run in the background."""
        for plugin in self.plugins:
            for running in tuple(plugin.background):
                running.cancel()

    def numbers(self) -> dict[str, dict[str, float]]:
        """Return what plugins say of themselves in numbers, by plugin. One that fails says nothing."""
        said: dict[str, dict[str, float]] = {}
        for plugin in self.plugins:
            if plugin.read_numbers is None:
                continue
            try:
                said[plugin.name] = {str(name): float(number) for name, number in plugin.read_numbers().items()}
            except Exception as error:
                self._report(plugin, "its numbers", f"{type(error).__name__}: {error}", error)
        return said


def _is_valid(allow: Allow) -> bool:
    return is_public_name(allow.stream_name) and is_public_name(allow.feed) and "/" not in allow.feed
