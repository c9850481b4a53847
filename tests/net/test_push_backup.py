"""One target with two addresses, at real destinations (reliability.md P16)."""

from __future__ import annotations

from typing import Any

import pytest

from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater

from relay.context import PushTarget
from relay.net.push import RtmpPush
from relay.secret import Secret
from tests.helpers.pushes import KEY, PushTestCase
from tests.helpers.reactor import reactor, turns, until
from tests.helpers.seats import check_programme, is_key


def target(first: int, second: int, **options: Any) -> PushTarget:
    return PushTarget(
        name="t0",
        url=f"rtmp://127.0.0.1:{first}/live",
        backup_url=f"rtmp://127.0.0.1:{second}/live?backup=1",
        key=Secret(KEY),
        **options,
    )


class FailoverTests(PushTestCase):
    async def closed_port(self) -> int:
        port = reactor.listenTCP(0, Factory(), interface="127.0.0.1")
        number: int = port.getHost().port
        await port.stopListening()
        return number

    async def on_backup(self, push: RtmpPush, within_s: float) -> None:
        """Let the clock run until the backup has the programme; it must be soon enough."""
        began = self.clock.seconds()
        while push.state.value != "live":
            assert self.clock.seconds() - began <= within_s, "too late"
            self.clock.advance(0.05)
            await turns(20)
            if (
                push._attempt is not None and push._attempt.connecting
            ):  # the name is resolved in a thread, which needs real time
                await deferLater(reactor, 0.01)

    async def test_a_dead_primary_is_left_for_the_backup_within_six_seconds(self) -> None:
        second, port = self.platform()
        (push,) = self.push(target(await self.closed_port(), port))
        await self.on_backup(push, 6.0)

        self.frames(30)
        await until(lambda: len(second.last.media) > 60, "media")

        assert (push.reason, push.url.port) == ("backup", port)
        assert "backup" in push.detail
        assert push.attempts == 3
        assert check_programme(second.last.messages)
        self.assert_key_is_nowhere(push, push.place)

    async def test_a_primary_that_never_speaks_is_left_within_six_seconds(self) -> None:
        first, dead = self.platform()
        first.mute = True
        _, port = self.platform()
        (push,) = self.push(target(dead, port))

        await self.on_backup(push, 6.0)

        await until(lambda: first.last.closed, "the end of the attempt")
        assert push.url.port == port

    async def test_a_primary_that_breaks_in_mid_programme_is_left_and_the_backup_starts_at_a_keyframe(self) -> None:
        first, one = self.platform()
        second, two = self.platform()
        (push,) = self.push(target(one, two))
        await self.live(push)
        self.frames(10)
        await until(lambda: first.last.media, "media")
        first.mute = True
        first.hang_up()
        await until(lambda: push.state.value == "backing-off", "the loss")

        await self.on_backup(push, 6.0)
        self.frames(60)
        await until(lambda: len(second.last.media) > 20, "media")

        frames = [one for one in second.last.messages[3:] if one.type_id == 9]
        assert is_key(frames[0])
        assert second.last.messages[0].timestamp == 0

    async def test_the_primary_is_asked_every_minute_without_the_key_and_is_next_when_it_answers(self) -> None:
        first, one = self.platform()
        first.mute = True
        second, two = self.platform()
        (push,) = self.push(target(one, two))
        await self.on_backup(push, 6.0)
        tried = len(first.connections)
        self.wait(59.5)
        assert len(first.connections) == tried
        first.mute = False
        self.wait(1.0)
        await until(lambda: "answers again" in push.detail, "the answer")

        assert len(first.connections) == tried + 1
        assert not first.last.published
        assert push.url.port == two, "it stays"
        second.hang_up()
        await until(lambda: push.state.value == "backing-off", "the loss")
        self.wait(0.25)
        await self.live(push)
        assert (push.reason, push.url.port) == ("", one)

    async def test_a_primary_that_stays_dead_is_asked_again_and_again(self) -> None:
        first, one = self.platform()
        first.mute = True
        _, two = self.platform()
        (push,) = self.push(target(one, two))
        await self.on_backup(push, 6.0)
        tried = len(first.connections)
        for minute in range(1, 4):
            self.wait(60.25)
            await until(lambda minute=minute: len(first.connections) == tried + minute, "a probe")  # type: ignore[misc]
            self.wait(10.25)
            await until(lambda: first.last.closed, "its end")

        assert push.state.value == "live"

    async def test_closing_during_a_probe_leaves_nothing_behind(self) -> None:
        first, one = self.platform()
        first.mute = True
        _, two = self.platform()
        (push,) = self.push(target(one, two))
        await self.on_backup(push, 6.0)
        self.wait(60.25)
        await until(lambda: first.last.closed is None, "the probe")

        assert self.group is not None
        closing = self.group.close()
        await until(lambda: closing.called and first.last.closed, "the end")

    async def test_two_dead_addresses_are_never_given_up(self) -> None:
        (push,) = self.push(target(await self.closed_port(), await self.closed_port()))
        for _ in range(300):
            self.wait(0.25)
            await turns(3)

        assert push.attempts > 8
        assert push.state.value in ("backing-off", "connecting")


class BothTests(PushTestCase):
    async def test_both_addresses_get_the_same_bytes_and_fail_alone(self) -> None:
        first, one = self.platform()
        second, two = self.platform()
        pushes = self.push(target(one, two, backup_mode="both"))
        assert [push.name for push in pushes] == ["t0", "t0.backup"]
        for push in pushes:
            await self.live(push)
        self.frames(30)
        await until(lambda: min(len(p.last.media) for p in (first, second)) == 63, "media")
        assert first.last.media == second.last.media

        first.mute = True
        first.hang_up()
        await until(lambda: pushes[0].state.value == "backing-off", "the loss")
        self.frames(30)
        await until(lambda: len(second.last.media) == 123, "the rest at the second")

        assert pushes[1].state.value == "live"
        assert "t0.backup" in {getattr(event, "target", "") for event in self.events}

    async def test_removing_the_target_removes_both_and_no_namesake(self) -> None:
        first, one = self.platform()
        second, two = self.platform()
        for push in self.push(target(one, two, backup_mode="both")):
            await self.live(push)
        assert self.group is not None

        with pytest.raises(KeyError):
            self.group.add(PushTarget(name="t0.backup", url="rtmp://127.0.0.1:1/live", key=Secret("k")))
        gone = self.group.remove("t0")
        await until(lambda: gone.called and first.last.closed and second.last.closed, "both gone")

        assert self.group.targets == {}
        assert first.last.unpublished
        assert second.last.unpublished
