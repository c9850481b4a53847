"""Targets that come and go while the stream is on, at real destinations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from relay.context import PushTarget
from relay.errors import ConfigError
from relay.events import Event, TargetStateChanged
from relay.media.packets import Packet
from relay.net.attempt import PushTools
from relay.net.flusher import Flusher
from relay.net.pushgroup import PushGroup
from relay.net.spacing import HostSpacing
from relay.net.watch import Watch
from relay.secret import Secret
from relay.testing import FakePlatform, aac_frame, avc_frame, track_set
from tests.helpers.reactor import NetTestCase, reactor, turns, until


def programme() -> Iterator[Packet]:
    """Yield a programme for ever: a keyframe every 25 pictures, sound between them."""
    n = 0
    while True:
        yield avc_frame(n * 40, keyframe=n % 25 == 0, size=500)
        yield aac_frame(n * 40 + 10)
        n += 1


class TestComingAndGoing(NetTestCase):
    def open(self, *targets: PushTarget) -> PushGroup:
        self.events: list[Event] = []
        watch = Watch(reactor)
        watch.startService()
        self.later(watch.stopService)
        tools = PushTools(
            reactor=reactor,
            watch=watch,
            emit=self.events.append,
            uniform=lambda low, high: low,
            spacing=HostSpacing(lambda _, high: high),
            queue_bytes=1 << 20,
            queue_ms=2000,
        )
        self.group = PushGroup(tools, Flusher(reactor), "stage", targets)
        self.later(self.group.close)
        self.packets = programme()
        return self.group

    def platform(self, **options: Any) -> FakePlatform:
        platform = FakePlatform(reactor, **options)
        platform.start()
        self.later(platform.stop)
        return platform

    def target(self, name: str, platform: FakePlatform, **options: Any) -> PushTarget:
        return PushTarget(name=name, url=platform.url, key=Secret(f"key-of-{name}"), **options)

    async def play(self, pictures: int) -> None:
        for _ in range(2 * pictures):
            self.group.write(next(self.packets))
        await turns()

    async def play_until_live(self, name: str) -> None:
        while self.group.targets[name].state.value != "live":
            await self.play(1)

    async def test_a_target_that_joins_begins_with_its_headers_and_a_keyframe_and_no_other_notices(self) -> None:
        first, second = self.platform(), self.platform()
        group = self.open(self.target("one", first))
        group.configure(track_set())
        await self.play_until_live("one")
        await self.play(30)
        group.add(self.target("two", second))
        await self.play_until_live("two")
        await self.play(60)
        await until(lambda: second.sessions and len(second.sessions[0].media) > 40, "media at the second")

        media = second.sessions[0].media
        assert [one.header for one in media[:2]] == [True, True]
        assert media[2].keyframe, "nothing before the first keyframe"
        stamps = [one.timestamp for one in first.sessions[0].media if not one.header]
        assert len(first.sessions) == 1
        assert stamps == sorted(stamps)

    async def test_a_target_that_is_removed_says_goodbye_and_the_others_go_on(self) -> None:
        first, second = self.platform(), self.platform()
        group = self.open(self.target("one", first), self.target("two", second))
        group.configure(track_set())
        await self.play_until_live("one")
        await self.play_until_live("two")
        await self.play(30)
        before = group.bytes_sent
        gone = group.remove("two")
        assert set(group.targets) == {"one"}
        await gone
        await self.play(30)

        assert second.sessions[0].clean
        assert first.sessions[0].closed_at is None
        assert group.bytes_sent > before, "a counter never falls"
        await until(lambda: len(first.sessions[0].media) > 100, "the rest at the first")
        states = [event.state for event in self.events if isinstance(event, TargetStateChanged)]
        assert states.count("stopped") == 1

    async def test_a_target_may_be_removed_before_it_is_connected_and_twice(self) -> None:
        platform = self.platform()
        group = self.open()
        group.configure(track_set())
        group.add(self.target("one", platform))
        await group.remove("one")
        await group.remove("one")
        await self.play(5)

        assert group.targets == {}
        assert not any(session.media for session in platform.sessions)

    async def test_a_name_is_taken_once_and_can_be_used_again(self) -> None:
        first, second = self.platform(), self.platform()
        group = self.open(self.target("one", first))
        group.configure(track_set())
        with pytest.raises(KeyError):
            group.add(self.target("one", second))
        await group.remove("one")
        group.add(self.target("one", second))
        await self.play_until_live("one")

        assert len(second.sessions) == 1

    async def test_a_wrong_address_is_refused_at_once(self) -> None:
        group = self.open()

        with pytest.raises(ConfigError):
            group.add(PushTarget(name="one", url="http://h/a", key=Secret("k")))
        assert group.targets == {}

    async def test_a_platform_that_punishes_haste_is_not_called_again_at_once(self) -> None:
        platform = self.platform()
        await platform.close_port()
        group = self.open(self.target("patient", platform, retry_s=7.0), self.target("quick", platform))
        group.configure(track_set())
        for push in group.targets.values():
            await until(lambda push=push: push.state.value == "backing-off", "the first failure")
        waits = {name: push._retry.getTime() - reactor.seconds() for name, push in group.targets.items()}

        assert 6.5 < waits["patient"] <= 7.0
        assert waits["quick"] <= 0.5

    async def test_an_address_that_must_be_public_is_not_connected_to(self) -> None:
        platform = self.platform()
        group = self.open(self.target("one", platform, allow_networks=()))
        group.configure(track_set())
        await until(lambda: group.targets["one"].state.value == "refused", "the refusal")

        assert group.targets["one"].reason == "address-refused"
        assert "allow_networks" in group.targets["one"].detail
        assert platform.sessions == []
