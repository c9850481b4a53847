"""Asks a web service who may publish and who may play, and tells it what happens. See README.md.

Imports relay.api and nothing else of ours. The rule it guards: nobody is let in unless the service said so just now,
and no stream that is on air depends on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred

from relay.api import ConfigModel, Context, Decision, Deny, Event, PlayRequest, PublishRequest, hookimpl

from .asking import NOT_NOW, Asker
from .client import Client
from .options import Options, Place, read_place
from .telling import Teller

__all__ = ["WebhookPlugin"]


class WebhookPlugin:
    """Answers `authorize_publish` and `authorize_play` with what the service says, and forwards events to it."""

    Config = Options

    def __init__(self, config: Options, context: Context[ConfigModel]) -> None:
        self._config = config
        self._context = context
        where = read_place(config.url, "plugins.webhook.url", plain_http=config.plain_http)
        told = where
        if config.events_url:
            told = read_place(config.events_url, "plugins.webhook.events_url", plain_http=config.plain_http)
        self.asker = Asker(self._client(where), place=where.display, clock=context.clock, log=context.log)
        self.teller = Teller(
            self._client(told), place=told.display, wanted=config.events, clock=context.clock, log=context.log
        )
        self.running = False
        context.report_numbers(self.numbers)

    def _client(self, place: Place) -> Client:
        config = self._config
        return Client(
            self._context.clock, place, secret=config.secret, ca_file=config.ca_file, plain_http=config.plain_http
        )

    @hookimpl
    async def authorize_publish(self, request: PublishRequest) -> Decision | None:
        """Ask the service whether, and as what, an encoder may publish."""
        return await self._decide(request) if "publish" in self._config.ask else None

    @hookimpl
    async def authorize_play(self, request: PlayRequest) -> Decision | None:
        """Ask the service whether a player may play."""
        return await self._decide(request) if "play" in self._config.ask else None

    async def _decide(self, request: PublishRequest | PlayRequest) -> Decision:
        if not self.running:
            return Deny(reason="the relay does not run", public=NOT_NOW)
        return await self.asker.decide(request)

    @hookimpl
    def on_event(self, event: Event) -> None:
        """Queue the event for the service."""
        self.teller.take(event)

    @hookimpl
    def services(self) -> Iterable[IService]:
        """Return what runs the plugin."""
        return [_Running(self)]

    def numbers(self) -> Mapping[str, float]:
        """Return what `/metrics` shows."""
        asked, teller = self.asker.counters, self.teller
        return {
            "questions_total": asked.questions,
            "refusals_total": asked.refused,
            "faults_total": asked.faults,
            "spared_total": asked.spared,
            "waiting": self.asker.waiting,
            "service_gone": self.asker.breaker.is_open,
            "events_delivered_total": teller.delivered,
            "events_dropped_total": teller.dropped,
            "events_left_out_total": teller.flapping.left_out,
            "events_queued": teller.queued,
            "deliveries_failed_total": teller.failures,
        }


class _Running(Service):
    """Starts and stops the plugin with the relay."""

    def __init__(self, plugin: WebhookPlugin) -> None:
        self._plugin = plugin

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self._plugin.running = True
        self._plugin.teller.start()

    def stopService(self) -> Deferred[None]:
        super().stopService()  # type: ignore[no-untyped-call]
        self._plugin.running = False
        return Deferred.fromCoroutine(self._plugin.teller.stop())
