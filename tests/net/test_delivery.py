from __future__ import annotations

from typing import Any

import pytest

from twisted.internet.task import Clock, deferLater

from relay.api import ConfigModel, Context, Event, TargetDeliveryChanged, hookimpl
from relay.config import Config
from relay.net.delivery import CRAWL_BYTES, FRESH_S, STALL_S, Confirmation, Delivery, Progress, Stall
from relay.net.push import RtmpPush
from relay.pluginfind import plugin_from_class
from relay.pluginhost import PluginHost
from relay.testing import FakePlatform
from tests.helpers.pushes import KEY, PushTestCase
from tests.helpers.reactor import reactor, turns, until


def test_progress_is_seen_within_two_looks_and_forgotten_after_five_seconds() -> None:
    progress, taken = Progress(), [100]
    changes = []
    for tick in range(60):
        taken[0] += 10 if 8 <= tick < 20 else 0
        if progress.tick(0.25, lambda: taken[0]):
            changes.append((tick, progress.moves))

    assert changes[0] == (11, True)
    assert changes[1:] == [(19 + int(FRESH_S / 0.25), False)]


def test_what_was_there_at_the_first_look_is_no_progress() -> None:
    progress = Progress()

    assert not any(progress.tick(1.0, lambda: 3_000) for _ in range(5))


def stalls_after(each_s: float, waiting: bool = True, moved_at: float | None = None) -> float | None:
    """Seconds until a destination that takes so many bytes a second counts as stalled; None: never in two minutes."""
    stall, taken = Stall(), [50_000.0]
    stall.tick(0.25, True, lambda: int(taken[0]))
    for now in (tick / 4 for tick in range(1, 480)):
        taken[0] += each_s / 4
        if now == moved_at:
            stall.moved()
        if stall.tick(0.25, waiting, lambda: int(taken[0])):
            return now
    return None


def test_one_that_takes_nothing_is_stalled_after_ten_seconds_of_waiting() -> None:
    assert stalls_after(0) == STALL_S
    assert stalls_after(0, moved_at=6.0) == 6.0 + STALL_S - 0.25
    assert stalls_after(0, waiting=False) is None


def test_one_that_is_slow_is_not_stalled_and_one_that_drips_is() -> None:
    assert stalls_after(1_000) is None
    assert stalls_after(CRAWL_BYTES / STALL_S / 2) == STALL_S


class TestDelivery:
    def make(self, seen: str = "accepted") -> tuple[Delivery, Clock, list[str]]:
        clock, told = Clock(), []
        self.seen = seen
        delivery = Delivery(clock, lambda: self.seen, lambda: told.append(delivery.word))
        return delivery, clock, told

    def test_a_confirmation_runs_out(self) -> None:
        delivery, clock, told = self.make()
        delivery.update()

        assert delivery.confirm(Confirmation(plugin="p", confirmed=True), 60.0)
        clock.advance(59.0)
        assert delivery.word == "confirmed"
        clock.advance(2.0)

        assert told == ["accepted", "confirmed", "accepted"]
        assert delivery.confirmation is None

    def test_a_second_one_takes_the_place_of_the_first(self) -> None:
        delivery, clock, told = self.make()
        delivery.confirm(Confirmation(plugin="p", confirmed=True), 60.0)
        clock.advance(50.0)
        delivery.confirm(Confirmation(plugin="p", confirmed=False, detail="no picture"), 60.0)
        clock.advance(50.0)

        assert told == ["confirmed", "denied"]
        delivery.confirm(None)
        assert not clock.getDelayedCalls()

    def test_what_is_not_live_is_not_confirmed(self) -> None:
        delivery, clock, told = self.make("")

        assert not delivery.confirm(Confirmation(plugin="p", confirmed=True), 60.0)
        assert (delivery.word, told, clock.getDelayedCalls()) == ("", [], [])


class PushDeliveryTests(PushTestCase):
    def words(self) -> list[str]:
        return [event.delivery for event in self.events if isinstance(event, TargetDeliveryChanged)]

    async def streaming(self, ticks: int) -> None:
        for _ in range(ticks):
            self.frames(6)
            await turns(8)
            self.wait(0.25)

    async def accepted(self, push: RtmpPush, how: str = "") -> None:
        """Let the programme go on until it is taken, which it must be soon."""
        for _ in range(60):
            await self.streaming(1)
            await deferLater(reactor, 0.002)
            if push.delivery.word == "accepted":
                return
        raise AssertionError(f"not accepted {how}")

    async def test_connected_then_accepted_while_bytes_are_taken(self) -> None:
        platform, port = self.platform()
        (push,) = self.push(port)
        await self.live(push)
        assert push.delivery.word == "connected"
        await self.accepted(push)

        platform.last.tcp.pauseProducing()
        for _ in range(40):
            self.frames(6, size=60_000)
            await turns(2)
        self.wait(7.0)
        assert push.delivery.word == "connected", "nobody takes anything"

        platform.last.tcp.resumeProducing()
        await turns(50)
        await self.accepted(push)
        platform.hang_up()
        await self.state(push, "backing-off")

        assert push.delivery.word == ""
        assert self.words() == ["connected", "accepted", "connected", "accepted"]

    async def test_what_the_platform_says_holds_until_the_connection_ends(self) -> None:
        platform, port = self.platform()
        (push,) = self.push(port)
        word = Confirmation(plugin="asks", confirmed=False, detail=f"health: no data for {KEY}")
        assert not push.confirm(word, 60.0), "it is not live"
        await self.live(push)

        assert push.confirm(word, 60.0)

        assert push.delivery.word == "denied"
        self.assert_key_is_nowhere(push.delivery.confirmation)
        platform.hang_up()
        await self.state(push, "backing-off")
        assert push.delivery.confirmation is None
        self.wait(1.0)
        await self.live(push)
        assert push.delivery.word == "connected"

    async def test_a_platform_that_acknowledges_wrongly_is_believed_no_more_than_its_kernel(self) -> None:
        for how in ("never", "backwards", "increments"):
            platform = FakePlatform(reactor, faults=[f"acks={how}"])
            platform.start()
            self.later(platform.stop)
            self.events.clear()
            (push,) = self.push(platform.port)
            await self.live(push)
            await self.accepted(push, how)

            closing = self.group.close() if self.group is not None else None
            await until(lambda closing=closing: closing.called, "the end")


class Asker:
    """Asks a platform whenever more is known about delivery."""

    class Config(ConfigModel):
        pass

    def __init__(self, config: Config, context: Context) -> None:
        self.context = context

    @hookimpl
    def on_event(self, event: Event) -> None:
        """Ask."""
        if isinstance(event, TargetDeliveryChanged) and event.delivery == "accepted":
            self.context.report_delivery(event.stream, event.target, confirmed=True, detail="good", valid_s=30.0)


@pytest.mark.parametrize("known", [True, False])
def test_a_plugin_says_what_the_platform_says(known: bool) -> None:
    said: list[Any] = []

    def confirm(*what: Any) -> bool:
        said.append(what)
        return known

    installed = {"asker": [plugin_from_class("asker", Asker)]}
    host = PluginHost(Config(plugins={"asker": {}}), clock=Clock(), installed=installed, confirm=confirm)
    host.emit(TargetDeliveryChanged(stream="show", target="tube", delivery="accepted"))

    assert said == [("asker", "show", "tube", True, "good", 30.0)]
    instance = host.plugins[0].instance
    assert isinstance(instance, Asker)
    assert instance.context.report_delivery("show", "tube", confirmed=True) is known
