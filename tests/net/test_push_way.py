"""Logins and redirects on real sockets, at platforms that ask for them."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from relay.context import PushTarget
from relay.net.push import RtmpPush
from relay.secret import Secret
from relay.testing import NGINX, Authority, FakePlatform, LoginGuard
from tests.helpers.pushes import KEY, PushTestCase
from tests.helpers.reactor import reactor, turns, until

PASSWORD = "canary-hunter2-77aa"
LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


class WayTestCase(PushTestCase):
    def fake(self, **options: Any) -> FakePlatform:
        platform = FakePlatform(reactor, **options)
        platform.start()
        self.later(platform.stop)
        return platform

    def to(self, platform: FakePlatform, url: str = "", **options: Any) -> RtmpPush:
        """Push to a platform."""
        options.setdefault("ca_file", platform.ca_file if platform.tls else None)
        (push,) = self.push(PushTarget(name="t0", url=url or platform.url, key=Secret(KEY), **options))
        return push

    def to_bob(self, platform: FakePlatform, **options: Any) -> RtmpPush:
        return self.to(platform, user="bob", password=Secret(PASSWORD), **options)

    async def on_air(self, push: RtmpPush, platform: FakePlatform) -> None:
        await self.live(push)
        self.frames(30)
        await until(lambda: platform.sessions[-1].frames, "media")
        await until(lambda: len(platform.sessions[-1].frames) == 60, "all of it")

    def assert_no_key_was_named(self, platform: FakePlatform) -> None:
        """No command that names the key came here."""
        for session in platform.sessions:
            assert set(session.commands) <= {"connect"}, session.commands

    def assert_no_secret_is_shown(self, push: RtmpPush) -> None:
        self.assert_key_is_nowhere(push, push.place, push.detail)
        seen = [*self.logged, *map(repr, self.events), push.detail, repr(push.place)]
        assert not [text for text in seen if PASSWORD in text]


class LoginTests(WayTestCase):
    @staticmethod
    def guard(authmod: Any, password: str = PASSWORD, **options: Any) -> LoginGuard:
        return LoginGuard(authmod, "bob", Secret(password), **options)

    async def logs_in(self, guard: LoginGuard, **options: Any) -> FakePlatform:
        platform = self.fake(guard=guard, **options)
        push = self.to_bob(platform)
        await self.on_air(push, platform)

        assert [session.live_at is not None for session in platform.sessions] == [False, False, True]
        assert push.attempts == 1
        assert self.states() == ["connecting", "live"]
        self.assert_no_secret_is_shown(push)
        return platform

    async def test_adobes_login_takes_three_connections_and_one_attempt(self) -> None:
        platform = await self.logs_in(self.guard("adobe"))

        for session in platform.sessions[:2]:
            assert session.commands == ["connect"], "the key was named before the login"
        assert PASSWORD not in str([session.connect for session in platform.sessions])

    async def test_adobes_login_without_an_opaque_value(self) -> None:
        await self.logs_in(self.guard("adobe", opaque=False))

    async def test_limelights_login(self) -> None:
        await self.logs_in(self.guard("llnw"))

    async def test_limelights_login_at_an_instance_of_an_app(self) -> None:
        await self.logs_in(self.guard("llnw"), app="live/inst")

    async def test_every_new_session_logs_in_again(self) -> None:
        platform = self.fake(guard=self.guard("adobe"))
        push = self.to_bob(platform)
        await self.live(push)
        platform.inject("reset")
        await self.state(push, "backing-off")
        platform.clear()
        self.wait(0.5)
        await self.live(push)

        assert len(platform.sessions) == 6
        assert push.attempts == 2

    async def test_a_wrong_password_needs_a_person(self) -> None:
        platform = self.fake(guard=self.guard("adobe", "another"))
        push = self.to_bob(platform)
        await self.state(push, "refused")

        assert (push.reason, self.due_in(push)) == ("auth-failed", 15.0)
        assert "password is wrong" in push.detail
        assert len(platform.sessions) == 3
        self.assert_no_key_was_named(platform)
        self.assert_no_secret_is_shown(push)

    async def test_a_user_that_is_not_known_needs_a_person(self) -> None:
        platform = self.fake(guard=LoginGuard("llnw", "alice", Secret(PASSWORD)))
        push = self.to_bob(platform)
        await self.state(push, "refused")

        assert push.reason == "auth-failed"
        assert "no such user" in push.detail

    async def test_a_login_that_is_asked_for_and_not_configured_is_said(self) -> None:
        platform = self.fake(guard=self.guard("adobe"))
        push = self.to(platform)
        await self.state(push, "refused")

        assert push.reason == "auth-needed"
        assert "user and password" in push.detail
        assert len(platform.sessions) == 1

    async def test_a_server_that_asks_for_nothing_is_told_nothing(self) -> None:
        platform = self.fake()
        push = self.to_bob(platform)
        await self.on_air(push, platform)

        assert len(platform.sessions) == 1
        assert "bob" not in str(platform.sessions[0].connect)


class RedirectTests(WayTestCase):
    async def test_a_redirect_is_followed_and_only_the_last_server_hears_the_key(self) -> None:
        last = self.fake()
        middle = self.fake(redirect=last.url)
        first = self.fake(redirect=middle.url)
        push = self.to(first, redirect_networks=LOOPBACK)
        await self.on_air(push, last)

        assert push.attempts == 1
        assert push.url.port == last.port
        self.assert_no_key_was_named(first)
        self.assert_no_key_was_named(middle)

    async def test_a_private_address_is_refused_though_the_operator_wrote_the_first_one(self) -> None:
        last = self.fake()
        first = self.fake(redirect=last.url)
        push = self.to(first)
        await self.state(push, "refused")

        assert push.reason == "address-refused"
        assert "allow_networks" in push.detail
        assert self.due_in(push) == 15.0
        assert last.sessions == []

    async def test_the_next_attempt_begins_at_the_address_that_is_configured(self) -> None:
        last = self.fake()
        first = self.fake(redirect=last.url)
        push = self.to(first, redirect_networks=LOOPBACK)
        await self.live(push)
        last.inject("reset")
        await self.state(push, "backing-off")
        last.clear()
        self.wait(0.5)
        await self.live(push)

        assert len(first.sessions) == 2

    async def test_a_loop_ends_and_needs_a_person(self) -> None:
        one, two = self.fake(), self.fake()
        one.redirect, two.redirect = two.url, one.url
        push = self.to(one, redirect_networks=LOOPBACK)
        await self.state(push, "refused")

        assert push.reason == "redirect-refused"
        assert len(one.sessions) + len(two.sessions) == 4

    async def test_tls_is_not_given_up_for_a_redirect(self) -> None:
        plain = self.fake()
        first = self.fake(tls=True, redirect=plain.url)
        push = self.to(first, redirect_networks=LOOPBACK)
        await self.state(push, "refused")

        assert push.reason == "redirect-refused"
        assert "rtmps to rtmp" in push.detail
        assert plain.sessions == []

    async def test_another_server_must_show_a_good_certificate(self) -> None:
        stranger = self.fake(tls=True, authority=Authority(self.tmp_path))
        first = self.fake(tls=True, redirect=stranger.url)
        push = self.to(first, redirect_networks=LOOPBACK)
        await self.state(push, "backing-off")

        assert push.reason == "tls"
        assert "not signed by a CA we trust" in push.detail
        assert [session.bytes_in for session in stranger.sessions] == [0]

    async def test_a_good_certificate_is_good(self) -> None:
        authority = Authority(self.tmp_path)
        last = self.fake(tls=True, authority=authority)
        first = self.fake(tls=True, authority=authority, redirect=last.url)
        push = self.to(first, redirect_networks=LOOPBACK)

        await self.on_air(push, last)

    async def test_a_login_is_made_where_the_redirect_leads(self) -> None:
        last = self.fake(guard=LoginGuard("adobe", "bob", Secret(PASSWORD)))
        first = self.fake(redirect=last.url)
        push = self.to_bob(first, redirect_networks=LOOPBACK)

        await self.on_air(push, last)
        assert "bob" not in str(first.sessions[0].connect)

    async def test_secrets_in_a_redirect_are_not_shown(self) -> None:
        token = "canary-token-0099887766"
        last = self.fake(keys=["another"])
        first = self.fake(redirect=f"{last.url}?token={token}")
        push = self.to(first, redirect_networks=LOOPBACK)
        await self.state(push, "refused")

        assert push.reason == "publish-refused"
        assert token not in push.url.display
        assert not [text for text in (*self.logged, *map(repr, self.events), push.detail) if token in text]

    async def test_a_primary_that_asks_for_a_login_or_redirects_is_well(self) -> None:
        platform = self.fake(guard=LoginGuard("adobe", "bob", Secret(PASSWORD)))
        push = self.to_bob(platform)
        await self.live(push)
        endpoint, link = push._prepare_probe()
        await endpoint.connect(_Same(link))
        await link.answer

        assert platform.sessions[-1].commands == ["connect"]


class _Same:
    """A factory for one protocol."""

    noisy = False

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol

    def doStart(self) -> None: ...

    def doStop(self) -> None: ...

    def buildProtocol(self, addr: object) -> Any:
        return self._protocol


class ReconnectTests(WayTestCase):
    async def frames_arrive(self, *platforms: FakePlatform, count: int) -> None:
        def total() -> int:
            return sum(len(session.frames) for platform in platforms for session in platform.sessions)

        await until(lambda: total() >= count, f"{count} frames; there are {total()}")

    async def heard(self, push: RtmpPush) -> None:
        """Wait until the request to reconnect has arrived: from then on the clock may go on."""
        await until(lambda: push._handover is not None, "the request to reconnect")

    async def ready(self, push: RtmpPush) -> None:
        """Wait for the new connection to be accepted; it waits for a keyframe then."""
        await until(lambda: push._handover is not None and push._handover.ready, "the new connection")

    async def asked(self, first: FakePlatform, **options: Any) -> RtmpPush:
        push = self.to(first, announce_enhanced=True, redirect_networks=LOOPBACK, **options)
        await self.live(push)
        self.frames(30)
        await self.frames_arrive(first, count=60)
        return push

    async def test_the_programme_moves_at_a_keyframe_and_no_frame_is_lost_or_sent_twice(self) -> None:
        first, second = self.fake(), self.fake()
        push = await self.asked(first)
        assert first.ask_to_reconnect(second.url) == 1
        await self.heard(push)
        self.wait(1.25)
        await self.ready(push)
        assert push.url.port == first.port, "before the keyframe"
        sent = []
        for _ in range(60):
            self.frames(1)
            await turns(2)
            sent.append(push.bytes_sent)
        await until(lambda: first.sessions[0].closed_at is not None, "the end of the old one")
        self.frames(10)
        await self.frames_arrive(first, second, count=200)

        old, new = first.sessions[0], second.sessions[0]
        assert [one.header for one in new.media[:3]] == [False, True, True]
        assert new.frames[0].keyframe
        assert len(old.frames) + len(new.frames) == 200
        digests = [one.digest for one in (*old.frames, *new.frames)]
        assert len(set(digests)) == 200, "twice"
        assert sent == sorted(sent), "what was sent does not become less"
        assert not old.clean, "a goodbye would end the broadcast"
        assert old.close == "fin"
        assert (push.state.value, push.reason, push.url.port, push.attempts) == ("live", "moved", second.port, 1)
        assert push.link is not None
        assert push.link.in_step
        assert self.states() == ["connecting", "live", "live"]

    async def test_the_same_address_may_be_asked_for(self) -> None:
        platform = self.fake()
        push = await self.asked(platform)
        platform.ask_to_reconnect()
        await self.heard(push)
        self.wait(1.25)
        await self.ready(push)
        self.frames(60)
        await self.frames_arrive(platform, count=180)

        assert push.reason == "moved"
        assert len(platform.broadcasts) == 1

    async def test_after_a_second_move_the_target_tells_of_the_second(self) -> None:
        first, second, third = self.fake(), self.fake(), self.fake()
        push = await self.asked(first)

        async def move(asking: FakePlatform, asked: FakePlatform) -> None:
            asking.ask_to_reconnect(asked.url)
            await self.heard(push)
            self.wait(1.25)
            await self.ready(push)
            self.frames(60)
            await until(lambda: push.url.port == asked.port, "the move")

        await move(first, second)
        second.ask_to_reconnect("file:///etc/passwd")
        await until(lambda: "which failed" in push.detail, "the refusal")
        await move(second, third)

        assert push.detail == f"the destination asked for it; now at {push.url.display}"

    async def test_a_new_server_that_does_not_work_costs_nothing(self) -> None:
        first, second = self.fake(), self.fake(faults=["silent"])
        push = await self.asked(first)
        first.ask_to_reconnect(second.url)
        await self.heard(push)
        self.wait(1.25)
        await until(lambda: second.sessions, "the new connection")
        for _ in range(64):
            self.wait(0.25)
            self.frames(1)
            await turns(3)
        await self.frames_arrive(first, count=60 + 128)

        assert (push.state.value, push.url.port, len(first.sessions)) == ("live", first.port, 1)
        assert "asked to reconnect, which failed" in push.detail
        await until(lambda: second.sessions[0].closed_at is not None, "the end of the attempt")

    async def test_an_address_where_it_must_not_go_is_refused_and_it_stays(self) -> None:
        first = self.fake()
        push = self.to(first, announce_enhanced=True)
        await self.live(push)

        def refused() -> bool:
            self.wait(0.25)
            return "which failed" in push.detail

        for where in ("file:///etc/passwd", "rtmp://10.0.0.1/live"):
            first.ask_to_reconnect(where)
            await until(refused, where)
            push.detail = ""

        assert (push.state.value, len(first.sessions)) == ("live", 1)

    async def test_one_that_never_stops_asking_is_not_heard_every_time(self) -> None:
        first = self.fake()
        push = self.to(first, announce_enhanced=True)
        await self.live(push)

        for _ in range(300):
            first.ask_to_reconnect("file:///etc/passwd")
        await until(lambda: len(self.asked_lines()) == 4, "what was heard")
        await turns(20)
        assert len(self.asked_lines()) == 4
        self.wait(21.0)
        first.ask_to_reconnect("file:///etc/passwd")
        await until(lambda: len(self.asked_lines()) == 5, "one of later")

        assert push.state.value == "live"

    def asked_lines(self) -> list[str]:
        return [line for line in self.logged if "was asked to reconnect" in line]

    async def test_a_server_that_takes_one_publisher_only_is_left_first(self) -> None:
        platform = self.fake(manners=NGINX, app="live")
        push = await self.asked(platform)
        platform.ask_to_reconnect()
        await self.heard(push)
        self.wait(1.25)
        await until(lambda: platform.sessions[0].closed_at is not None, "the old one's end")
        self.wait(0.75)
        await self.live(push)

        assert len(platform.sessions) == 3
        assert push.attempts == 2

    async def test_a_server_that_does_not_wait_is_followed(self) -> None:
        first, second = self.fake(), self.fake()
        push = await self.asked(first)
        first.ask_to_reconnect(second.url)
        await self.heard(push)
        first.inject("reset")
        await self.state(push, "backing-off")
        self.wait(0.75)
        await self.live(push)

        assert push.url.port == second.port

    async def test_an_old_connection_that_ends_before_the_keyframe_leaves_the_programme_to_the_new_one(self) -> None:
        first, second = self.fake(), self.fake()
        push = await self.asked(first)
        first.ask_to_reconnect(second.url)
        await self.heard(push)
        self.wait(1.25)
        await self.ready(push)
        first.inject("reset")
        await until(lambda: push.url.port == second.port, "the jump")
        self.frames(60)
        await self.frames_arrive(second, count=60)

        assert (push.state.value, push.attempts) == ("live", 1)
        assert second.sessions[0].frames[0].keyframe

    async def test_closing_in_the_middle_of_a_move_leaves_nothing_behind(self) -> None:
        first, second = self.fake(), self.fake()
        push = await self.asked(first)
        first.ask_to_reconnect(second.url)
        await self.heard(push)
        self.wait(1.25)
        await self.ready(push)
        assert self.group is not None
        self.group.close()
        await until(lambda: push.state.value == "stopped", "the end")

        await until(lambda: all(one.closed_at for one in (*first.sessions, *second.sessions)), "both ends")
        assert first.sessions[0].clean

    async def test_a_destination_that_never_heard_that_we_can_is_not_asked(self) -> None:
        platform = self.fake()
        push = self.to(platform)
        await self.live(push)

        assert platform.ask_to_reconnect() == 0


@pytest.mark.parametrize("authmod", ["adobe", "llnw"])
def test_a_guard_says_what_it_is(authmod: Any) -> None:
    assert PASSWORD not in repr(LoginGuard(authmod, "bob", Secret(PASSWORD)))
