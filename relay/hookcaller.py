"""Calls one hook of one plugin, counts and times it, and complains when it fails.

The rule it guards: what a plugin raises stays here, and a plugin that fails without end fills no log.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import pluggy

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from relay.context import ReadNumbers
from relay.hookcalls import AnswerCancelledError, Breaker, HookStats, TooSlowError
from relay.log import RateLimited
from relay.pluginfind import PluginClass

SLOW_S = 0.05
"""A hook that keeps the reactor this long delays every stream by two pictures."""


@dataclass(slots=True, eq=False)
class Plugin:
    """One plugin at work."""

    spec: PluginClass
    instance: object = None
    calls: dict[str, pluggy.HookImpl] = field(default_factory=dict)
    breaker: Breaker = field(default_factory=Breaker)
    in_flight: int = 0
    background: set[Deferred[None]] = field(default_factory=set)
    read_numbers: ReadNumbers | None = None

    @property
    def name(self) -> str:
        """Its name in the configuration."""
        return self.spec.name


class HookCaller:
    """The plugins at work, and what calling them came to.

    Attributes:
        plugins: in the order of the configuration.
        stats: what each hook of each plugin cost, by (hook, plugin).
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.plugins: tuple[Plugin, ...] = ()
        self.stats: dict[tuple[str, str], HookStats] = {}
        self._clock = clock
        self._log = Logger(namespace="relay.plugins")
        self._lines = RateLimited()

    def plugin_of(self, module: str) -> str:
        """Name the plugin in whose package *module* is, empty if there is none. Any thread may ask."""
        near = {plugin.name: _shared(plugin.spec.factory.__module__, module) for plugin in self.plugins}
        most = max(near.values(), default=0)
        return " or ".join(name for name, shared in near.items() if shared == most) if most else ""

    def _calling(self, hook: str) -> Iterable[Plugin]:
        now = self._clock.seconds()
        for plugin in self.plugins:
            if hook not in plugin.calls:
                continue
            if plugin.breaker.paused(now):
                self.stats[hook, plugin.name].dropped += 1
            else:
                yield plugin

    def _call(self, hook: str, plugin: Plugin, *arguments: object) -> object:
        self.stats[hook, plugin.name].calls += 1
        call = plugin.calls[hook]
        try:
            return call.function(*arguments[: len(call.argnames)])
        except CancelledError as error:  # only our caller may cancel; see _decide
            raise AnswerCancelledError("its work was cancelled") from error
        except SystemExit as error:
            raise RuntimeError("called sys.exit()") from error

    def _failed(self, hook: str, plugin: Plugin, reason: str, error: Exception | None = None) -> None:
        stats = self.stats[hook, plugin.name]
        stats.errors += 1
        stats.timeouts += isinstance(error, TooSlowError)
        self._report(plugin, hook, reason, error)
        if plugin.breaker.failed(self._clock.seconds()):
            self._log.error(
                "plugin {plugin} failed {limit} times in a minute; it opens no sinks and hears no events for {pause} s",
                plugin=plugin.name,
                limit=plugin.breaker.limit,
                pause=plugin.breaker.pause_s,
            )

    def _report(self, plugin: Plugin, where: str, reason: str, error: Exception | None) -> None:
        if not self._lines.allow((plugin.name, where), self._clock.seconds()):
            return
        trace = {} if error is None or isinstance(error, TooSlowError) else {"log_failure": Failure(error)}
        self._log.error(
            "plugin {plugin} failed in {where}: {reason}", plugin=plugin.name, where=where, reason=reason, **trace
        )

    def _warn_if_slow(self, hook: str, plugin: Plugin, started: float) -> None:
        took = self._clock.seconds() - started
        if took > SLOW_S and self._lines.allow((plugin.name, hook, "slow"), self._clock.seconds()):
            self._log.warn(
                "plugin {plugin} blocked the reactor for {took_ms} ms in {hook}",
                plugin=plugin.name,
                took_ms=round(took * 1000),
                hook=hook,
            )


def _shared(one: str, other: str) -> int:
    """Count the leading parts that two dotted names have in common."""
    count = 0
    for mine, theirs in zip(one.split("."), other.split("."), strict=False):
        if mine != theirs:
            break
        count += 1
    return count
