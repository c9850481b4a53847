"""Every fault that a destination can have: what it is called, and that it costs nobody else anything.

Cases 134-136 and 155-160 of the catalogue of bad input; faults F11, F12 and F17 of the list of failure modes.
"""

from __future__ import annotations

import itertools
import random
from typing import Any

from twisted.internet.defer import DeferredList
from twisted.internet.task import deferLater

from relay.context import PushTarget
from relay.media.packets import MediaKind
from relay.net.push import RtmpPush
from relay.net.pushgroup import PushGroup
from relay.net.spacing import HostSpacing
from relay.secret import Secret
from relay.testing import TWITCH, Authority, FakePlatform
from tests.helpers.pushes import GOP, KEY, TRACKS, PushTestCase
from tests.helpers.reactor import reactor, turns, until

MIB = 1024 * 1024


class FaultTestCase(PushTestCase):
    def fake(self, *faults: str, **options: Any) -> FakePlatform:
        """A platform whose clock is the test's."""
        platform = FakePlatform(self.reactor, faults=faults, **options)
        platform.start()
        self.later(platform.stop)
        return platform

    def target(self, name: str, platform: FakePlatform, **options: Any) -> PushTarget:
        options.setdefault("ca_file", platform.ca_file if platform.tls else None)
        return PushTarget(name=name, url=platform.url, key=Secret(KEY), **options)

    async def pass_by(self, seconds: float, *, frames: int = 6, size: int = 400) -> None:
        """Let the programme go on for a while, in quarters of a second."""
        for _ in range(round(seconds * 4)):
            if frames:
                self.frames(frames, size=size)
            await turns(4)
            self.wait(0.25)
            # The clock is ours, names and sockets take their own time: it must not run away from them.
            await until(self._are_connected, "connections", timeout=15)
            await deferLater(reactor, 0.002)

    def _are_connected(self) -> bool:
        """Whether nobody waits for a name or for TCP, which has timers of its own."""
        pushes = [] if self.group is None else self.group.targets.values()
        if any(push._attempt is not None and push._attempt.connecting for push in pushes):
            self.clock.advance(0.01)
            return False
        return True


class EveryFaultTests(FaultTestCase):
    """One destination with a fault beside one without: (fault, options, reasons)."""

    EXPECTED: tuple[tuple[str, dict[str, Any], set[str]], ...] = (
        ("refuse", {}, {"refused"}),
        ("silent", {}, {"handshake"}),
        ("http", {}, {"protocol", "closed", "reset"}),
        ("mute", {}, {"handshake"}),
        ("deep-amf", {}, {"protocol"}),
        ("stall", {}, {"stalled"}),
        ("half-open", {}, {"stalled"}),
        ("reset", {}, {"closed-early"}),
        ("close", {}, {"closed-early"}),
        ("half-close", {}, {"closed-early"}),
        ("expired", {"tls": True}, {"tls"}),
        ("wrong-host", {"tls": True}, {"tls"}),
        ("untrusted", {"tls": True}, {"tls"}),
        ("self-signed", {"tls": True}, {"tls"}),
        ("tls-garbage", {"tls": True}, {"tls"}),
        ("tls-cut", {"tls": True}, {"tls"}),
        ("reset", {"tls": True}, {"closed-early"}),
        ("close", {"tls": True}, {"closed-early"}),
    )

    async def test_each_is_called_by_its_name_and_the_other_destination_misses_nothing(self) -> None:
        authority = Authority(self.tmp_path)
        good = self.fake()
        targets, expected = [self.target("good", good)], {}
        bad = []
        for number, (fault, options, reasons) in enumerate(self.EXPECTED):
            if options.get("tls"):
                options = options | {"authority": authority}
            platform = self.fake(fault, **options)
            bad.append(platform)
            name = f"{fault}{number}"
            targets.append(self.target(name, platform))
            expected[name] = reasons
        self.push(*targets)
        assert self.group is not None
        pushes = self.group.targets
        seen: dict[str, set[tuple[str, str]]] = {name: set() for name in expected}
        for _ in range(800):
            await self.pass_by(0.25, size=8_000)
            for name, one in seen.items():
                push = pushes[name]
                one.add((push.state.value, push.reason))
                assert push.outbox.queue_bytes <= 8 * MIB
                assert push.outbox.queue_ms <= 2_000
            if all(any(reason in expected[name] for _, reason in one) for name, one in seen.items()):
                break

        for name, reasons in expected.items():
            named = {(state, reason) for state, reason in seen[name] if reason not in ("", "moved")}
            assert named, (name, seen[name], pushes[name].detail)
            assert {reason for _, reason in named} <= reasons, (name, named, pushes[name].detail)
            refused = {"refused"} if "closed-early" in reasons else set()
            assert {state for state, _ in named} <= {"backing-off"} | refused, (name, named)
        await until(lambda: len(good.sessions[0].frames) == self.serial, "everything at the good one")
        assert len(good.sessions) == 1
        assert pushes["good"].dropped_gops == 0
        for platform, (fault, options, _) in zip(bad, self.EXPECTED, strict=True):
            if options.get("tls") and fault not in ("reset", "close"):
                assert not any(session.commands for session in platform.sessions), f"{fault} heard the key"
        self.assert_key_is_nowhere(*(push.detail for push in pushes.values()))

    async def test_a_platform_that_says_goodbye_in_tls_while_we_wait_for_it_is_heard(self) -> None:
        platform = self.fake(tls=True)
        (push,) = self.push(self.target("t0", platform))
        await self.live(push)
        await self.pass_by(11.0)
        platform.inject("stall")
        while push.link is not None and push.link.in_step:
            self.frames(5, size=100_000)
            await turns(2)
        (connection,) = platform.connections
        connection.end()
        platform.clear()

        await until(lambda: push.state.value != "live", "the end of the session")

        assert push.reason == "closed"

    async def test_chunks_of_one_byte_and_a_flood_of_words_are_borne(self) -> None:
        tiny, flood = self.fake("tiny-chunks"), self.fake("flood=20")
        pushes = self.push(self.target("t0", tiny), self.target("t1", flood))
        for push in pushes:
            await self.live(push)
        await self.pass_by(5.0)
        await until(lambda: len(tiny.sessions[0].frames) == self.serial, "everything", timeout=10)

        assert [push.state.value for push in pushes] == ["live", "live"]
        assert len(flood.sessions) == 1

    async def test_a_wrong_key_at_twitch_is_found_out(self) -> None:
        platform = self.fake(manners=TWITCH, keys=["another"])
        (push,) = self.push(self.target("t0", platform))
        began = self.clock.seconds()
        while push.state.value != "refused":
            await self.pass_by(0.25)
            assert self.clock.seconds() < began + 120, "never"

        assert push.reason == "closed-early"
        assert "a wrong key looks like this" in push.detail
        assert len(platform.sessions) == 3
        await self.pass_by(5.0)
        assert len(platform.sessions) == 3, "hammered"


class FaultOfTheNetworkTests(FaultTestCase):
    async def test_f11_reads_a_tenth_resets_every_three_seconds_and_dies_at_once_with_a_healthy_one(self) -> None:
        good, slow, resetting = self.fake(), self.fake("slow=200"), self.fake("reset@3")
        dead, deaf = self.fake("half-open"), self.fake("silent")
        closed, expired = self.fake("refuse"), self.fake("expired", tls=True)
        platforms = [good, slow, resetting, dead, deaf, closed, expired]
        pushes = self.push(*(self.target(f"t{number}", one) for number, one in enumerate(platforms)))
        await self.live(pushes[0])

        await self.pass_by(40.0, size=8_000)
        await until(lambda: len(good.sessions[0].frames) == self.serial, "everything at the good one")

        assert self.states("t0") == ["connecting", "live"]
        assert pushes[0].dropped_gops == 0
        for push in pushes[1:]:
            assert push.outbox.queue_bytes <= 8 * MIB
            assert push.outbox.queue_ms <= 2_000
        assert pushes[1].dropped_gops > 0, "one that reads a tenth gets whole groups of pictures less"
        assert self.states("t1") == ["connecting", "live"], "slow is not dead"
        self.check_groups(slow)
        for push in pushes[2:]:
            assert push.attempts > 2, (push.name, push.reason, push.attempts)

    @staticmethod
    def check_groups(platform: FakePlatform) -> None:
        """After what was left out comes a keyframe, and time never goes back."""
        for session in platform.sessions:
            pictures = session.of(MediaKind.VIDEO)
            for before, after in itertools.pairwise(pictures):
                assert before.timestamp < after.timestamp
                assert after.keyframe or after.timestamp == before.timestamp + 40
            stamps = [one.timestamp for one in session.frames]
            assert stamps == sorted(stamps), "sound and picture go together"

    async def test_f12_a_zero_window_of_a_minute_ends_in_a_fresh_picture(self) -> None:
        platform = self.fake()
        (push,) = self.push(self.target("t0", platform))
        await self.live(push)
        await self.pass_by(2.0)
        platform.inject("stall")

        await self.pass_by(60.0, size=30_000)
        assert "stalled" in {event.reason for event in self.events if hasattr(event, "reason")}
        assert push.outbox.queue_ms <= 2_000
        platform.clear()
        oldest = self.serial - 2 * 2_040 // 40
        await self.pass_by(10.0)
        await self.live(push)
        await self.pass_by(5.0)

        newest = platform.sessions[-1]
        assert newest.frames[0].keyframe
        assert newest.frames[0].timestamp == 0
        assert len(newest.frames) <= self.serial - oldest, "a minute of old pictures"
        assert newest.frames[-1].timestamp > 5_000

    async def test_f17_fifty_streams_of_three_targets_do_not_come_back_as_a_herd(self) -> None:
        self.tools.uniform = random.Random(17).uniform
        self.tools.spacing = HostSpacing(self.tools.uniform)
        platforms = [self.fake() for _ in range(3)]
        for number, platform in enumerate(platforms):
            platform.host = f"127.0.0.{number + 1}"
        groups = []
        for stream in range(50):
            targets = [
                PushTarget(
                    name=f"t{number}", url=f"rtmp://127.0.0.{number + 1}:{one.port}/live", key=Secret(f"{KEY}-{stream}")
                )
                for number, one in enumerate(platforms)
            ]
            groups.append(PushGroup(self.tools, self.flusher, f"s{stream}", targets))
        # Every platform is reached under an address of its own: hosts have rows of their own.
        for platform in platforms:
            await platform.close_port()
            platform.start(platform.host, platform.port)
        for group in groups:
            group.configure(TRACKS)
        pushes: list[RtmpPush] = [push for group in groups for push in group.targets.values()]
        await until(lambda: all(push.state.value == "live" for push in pushes), "all live", timeout=15)

        cut = self.clock.seconds()
        waiting = []
        for platform in platforms:
            waiting.append(platform.close_port())
            for connection in tuple(platform.connections):
                connection.end(abort=True)
        await DeferredList(waiting)
        while self.clock.seconds() < cut + 10.0:
            self.clock.advance(0.025)
            await turns(1)
        known = [len(platform.sessions) for platform in platforms]
        for platform in platforms:
            platform.start(platform.host, platform.port)
        while not all(push.state.value == "live" for push in pushes):
            assert self.clock.seconds() < cut + 70.0, [push.state for push in pushes if push.state.value != "live"]
            self.clock.advance(0.025)
            await turns(2)

        for platform, before in zip(platforms, known, strict=True):
            opened = sorted(session.opened_at for session in platform.sessions[before:])
            assert len(opened) == 50
            assert opened[-1] - opened[0] >= 2.0, "a herd"
            most = max(sum(one <= other < one + 0.5 for other in opened) for one in opened)
            assert most <= 20, f"{most} of 50 within half a second"
        closing = [group.close() for group in groups]
        for _ in range(12):
            self.wait(0.25)
            await turns(2)
        await until(lambda: all(one.called for one in closing), "the end")

    async def test_a_programme_goes_on_in_whole_groups_after_a_reset(self) -> None:
        platform = self.fake()
        (push,) = self.push(self.target("t0", platform))
        await self.live(push)
        self.frames(2 * GOP)
        await until(lambda: len(platform.sessions[0].frames) == self.serial, "the first part")
        platform.inject("reset")
        platform.clear()
        await self.pass_by(3.0)
        await self.live(push)
        await self.pass_by(2.0)

        self.check_groups(platform)
        assert platform.sessions[-1].frames[0].keyframe
