"""A plugin with a decoder says what the relay cannot see, and the relay acts on it."""

from __future__ import annotations

import pytest

from twisted.internet.task import Clock

from relay.api import ConfigModel, Context, Event, hookimpl
from relay.config import Config
from relay.pluginfind import plugin_from_class
from relay.pluginhost import PluginHost
from relay.stream.judge import Fault, Level
from tests.stream.stage import Stage


class Eyes:
    """Looks at nothing itself; the test does."""

    class Config(ConfigModel):
        pass

    def __init__(self, config: Config, context: Context) -> None:
        self.context = context

    @hookimpl
    def on_event(self, event: Event) -> None:
        """Ignore everything."""


def eyes_on(stage: Stage) -> Context:
    """Enable the plugin in front of *stage*."""

    def opine(stream: str, feed: str, trigger: str, fault: Fault | None) -> bool:
        found = stage.stream.find_feed(feed)
        if found is not None:
            found.judge.opine(trigger, fault)
        return found is not None

    host = PluginHost(
        Config(plugins={"eyes": {}}),
        clock=Clock(),
        installed={"eyes": [plugin_from_class("eyes", Eyes)]},
        opine=opine,
    )
    instance = host.plugins[0].instance
    assert isinstance(instance, Eyes)
    return instance.context


def test_a_black_picture_is_left_for_a_good_one() -> None:
    stage = Stage()
    stage.encoder("primary", 0)
    stage.encoder("backup", 1, phase_ms=1000)
    stage.run(10)
    context = eyes_on(stage)

    assert context.report_fault("show", "primary", "black", level="bad", measured=4, threshold=3, unit="s")
    stage.run(1)

    assert stage.on_air == "backup"
    (switch,) = stage.switches
    assert switch.fault == Fault("eyes.black", Level.BAD, 4, 3, "s")
    stage.check()

    context.clear_fault("show", "primary", "black")
    stage.run(1)
    assert stage.stream.feeds[0].judge.verdict.level is Level.GOOD


def test_a_feed_that_is_gone_cannot_be_at_fault() -> None:
    assert not eyes_on(Stage()).report_fault("show", "primary", "black")


@pytest.mark.parametrize("level", ["suspect", "bad", "dead"])
def test_every_level_can_be_reported(level: str) -> None:
    stage = Stage()
    feed = stage.encoder("primary").feed
    context = eyes_on(stage)
    stage.run(2)

    context.report_fault("show", "primary", "odd", level=level)  # type: ignore[arg-type]
    stage.run(0.5)

    assert feed.judge.verdict.level.name.lower() == level
