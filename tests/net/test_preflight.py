"""The check before the show: every way in which a destination can be wrong has a name and a sentence."""

from __future__ import annotations

import socket
import string
from collections.abc import Iterable
from ipaddress import ip_network
from typing import Any

import pytest

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IHostnameResolver, IReactorPluggableNameResolver, IReactorTCP, IReactorTime
from zope.interface import implementer

from relay import amf0
from relay.net.addresses import AddressPolicy
from relay.net.checkplan import CheckPlan, Report, facts_of
from relay.net.endpoints import parse_url
from relay.net.preflight import PACE_S, Preflight
from relay.net.trust import Trust
from relay.net.verdicts import CERTIFICATES, PROTOCOLS, VERDICTS, refusal
from relay.secret import Secret
from relay.testing import FACEBOOK, NGINX, TWITCH, YOUTUBE, Authority, FakePlatform, Manners
from tests.helpers.doors import new_clock
from tests.helpers.peers import DestinationConnection, Platform
from tests.helpers.pushes import HalfReactor
from tests.helpers.reactor import NetTestCase, reactor, turns, until

KEY = "canary-key-5531-aa"
FACTS = {"host", "port", "app", "title", "step", "seconds", "other", "said", "share", "lived", "offered", "accepted"}


class PreflightTestCase(NetTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.said: list[str] = []

    def platform(self, *faults: str, manners: Manners | None = None, **options: Any) -> FakePlatform:
        if manners is not None:
            options["manners"] = manners
        platform = FakePlatform(reactor, faults=faults, **options)
        platform.start()
        self.later(platform.stop)
        return platform

    def check(self, url: str, clock: Any = reactor, **options: Any) -> Deferred[Report]:
        options.setdefault("key", Secret(KEY))
        options.setdefault("seconds", 1.5)
        options.setdefault("step_s", 1.0)
        plan = CheckPlan(url=parse_url(url), **options)
        self.preflight = Preflight(clock, plan, lambda step, text: self.said.append(text))
        return Deferred.fromCoroutine(self.preflight.run())

    async def codes(self, checks: Iterable[tuple[str, Deferred[Report]]]) -> dict[str, str]:
        """Run checks side by side; return what each came to."""
        named = list(checks)
        reports = await gatherResults([check for _, check in named])
        for report in reports:
            for text in (report.says, report.do):
                assert text.strip()
                assert "{" not in text
                assert KEY not in text
        assert not [line for line in self.said if KEY in line]
        return {name: report.code for (name, _), report in zip(named, reports, strict=True)}


class WhatCanBeWrong(PreflightTestCase):
    async def test_each_fault_has_its_verdict(self) -> None:
        wanted = {
            "": "good",
            "tiny-chunks": "good",
            "acks=never": "good",
            "acks=backwards": "good",
            "flood=1": "good",
            "refuse": "refused",
            "silent": "handshake-silent",
            "http": "http",
            "mute": "connect-silent",
            "deep-amf": "not-rtmp",
            "reset@0.3": "dropped-early",
            "close@0.3": "dropped-early",
            "half-close@0.3": "dropped-early",
        }
        checks = ((fault, self.check(self.platform(*filter(None, [fault])).url)) for fault in wanted)

        assert await self.codes(checks) == wanted

    async def test_each_fault_of_tls_has_its_verdict_and_the_key_is_not_sent(self) -> None:
        authority = Authority(self.tmp_path / "ca")
        wanted = {
            "expired": "tls-expired",
            "wrong-host": "tls-wrong-host",
            "untrusted": "tls-untrusted",
            "self-signed": "tls-self-signed",
            "tls-garbage": "tls-not-spoken",
            "tls-cut": "tls-closed",
            "silent": "handshake-silent",
            "": "good",
        }
        platforms = {fault: self.platform(*filter(None, [fault]), tls=True, authority=authority) for fault in wanted}
        trust = Trust(ca_file=authority.ca_file)
        checks = [(fault, self.check(one.url, trust=trust)) for fault, one in platforms.items()]

        assert await self.codes(checks) == wanted
        sent = {fault: sum(session.bytes_in for session in one.sessions) for fault, one in platforms.items()}
        assert {fault for fault, count in sent.items() if count} == {"", "silent"}
        assert all("connect" not in one.commands for one in platforms["silent"].sessions)

    async def test_a_certificate_by_its_fingerprint(self) -> None:
        platform = self.platform(tls=True)
        reports = await self.codes([("pinned", self.check(platform.url, trust=Trust(fingerprint=bytes(32))))])

        assert reports == {"pinned": "tls-fingerprint"}

    async def test_the_wrong_scheme(self) -> None:
        plain, tls = self.platform(), self.platform(tls=True)
        to_tls = f"rtmp://127.0.0.1:{tls.port}/live"
        to_plain = f"rtmps://127.0.0.1:{plain.port}/live"
        codes = await self.codes([("tls", self.check(to_tls)), ("plain", self.check(to_plain))])

        assert codes["tls"] in ("tls-needed", "handshake-closed")
        assert codes["plain"] in ("tls-not-spoken", "tls-closed")

    async def test_a_port_that_swallows_everything(self) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
            address = full.getsockname()
            waiting = [socket.socket() for _ in range(4)]
            for one in waiting:
                one.setblocking(False)
                one.connect_ex(address)
            codes = await self.codes([("", self.check(f"rtmp://127.0.0.1:{address[1]}/live"))])
            for one in waiting:
                one.close()

        assert codes == {"": "unreachable"}

    async def test_names(self) -> None:
        codes = await self.codes(
            (name, self.check("rtmp://nowhere.example/live", _Nowhere(answers=answers)))
            for name, answers in (("none", True), ("silent", False))
        )

        assert codes == {"none": "dns", "silent": "dns-silent"}

    async def test_what_platforms_say_no_to(self) -> None:
        taken = self.platform(manners=NGINX)
        first = self.check(taken.url, seconds=2.0)
        await until(lambda: taken.sessions and taken.sessions[0].live_at is not None, "the first publisher")
        app = self.platform(manners=YOUTUBE).url.replace("live2", "live")
        wanted = {
            "wrong key": "key-refused",
            "wrong key, Twitch": "dropped-early",
            "wrong app": "connect-rejected",
            "taken": "busy",
            "the first": "good",
        }
        checks = [
            ("wrong key", self.check(self.platform(manners=FACEBOOK, keys=["another"]).url)),
            ("wrong key, Twitch", self.check(self.platform(manners=TWITCH, keys=["another"]).url, seconds=3)),
            ("wrong app", self.check(app)),
            ("taken", self.check(taken.url)),
            ("the first", first),
        ]

        assert await self.codes(checks) == wanted

    async def test_what_only_words_tell_apart(self) -> None:
        wanted = {
            "The event has not started yet.": "not-started",
            f"Stream {KEY} is not known": "key-refused",
            "Go away": "publish-refused",
        }
        checks = []
        for words in wanted:
            platform = Platform()
            platform.refuse = ("NetStream.Publish.Failed", words)
            checks.append((words, self.check(f"rtmp://127.0.0.1:{self.listen(platform)}/live")))
        closing = Platform()
        closing.answer = _hang_up_at_publish  # type: ignore[method-assign,assignment]
        checks.append(("hangs up", self.check(f"rtmp://127.0.0.1:{self.listen(closing)}/live")))

        assert await self.codes(checks) == {**wanted, "hangs up": "publish-closed"}


class Ways(PreflightTestCase):
    async def test_a_redirect_is_followed_to_where_it_may_lead(self) -> None:
        last = self.platform()
        loopback = AddressPolicy((ip_network("127.0.0.0/8"),))
        wanted = {"allowed": "good", "not allowed": "address-refused", "to nowhere": "redirect-refused"}
        first = self.listen(_Redirecting(last.url))
        astray = self.listen(_Redirecting("https://elsewhere.example/live"))
        checks = [
            ("allowed", self.check(f"rtmp://127.0.0.1:{first}/live", redirects=loopback)),
            ("not allowed", self.check(f"rtmp://127.0.0.1:{first}/live")),
            ("to nowhere", self.check(f"rtmp://127.0.0.1:{astray}/live")),
        ]

        assert await self.codes(checks) == wanted
        assert len(last.sessions) == 1


class _Redirecting(Platform):
    """Sends everybody elsewhere."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where

    def answer(self, connection: DestinationConnection, event: Any) -> None:
        if type(event).__name__ == "ConnectRequested":
            info = {
                "level": "error",
                "code": "NetConnection.Connect.Rejected",
                "ex": {"code": 302.0, "redirect": self.where},
            }
            body = amf0.encode("_error", 1.0, None, info)
            connection.rtmp._send_command(body)
            connection.tcp.write(connection.rtmp.data_to_send())


class Uploads(PreflightTestCase):
    async def test_the_rate_that_arrives_is_said(self) -> None:
        platforms = [self.platform(fault) for fault in ("slow=2000", "stall", "half-open", "stall@1")]
        reports = await gatherResults([self.check(one.url, seconds=6.0, mbps=6.0) for one in platforms])
        slow_one, stalled_one, dead_one, later_one = reports

        assert slow_one.code == "too-small"
        assert 1.0 <= slow_one.figures["accepted_mbps"] <= 3.0
        assert f"Only {slow_one.figures['accepted_mbps']:.1f} of 6.0 Mbit/s" in slow_one.says
        assert (stalled_one.code, dead_one.code) == ("stalled", "stalled")
        assert later_one.code == "stalled", "what came before it stopped reading makes it no small upload"

    def has_arrived(self) -> bool:
        """Whether the platform's machine has all that was sent; the clock is ours, and must not run away from it."""
        link = self.preflight._link
        figures = None if link is None else link.tcp
        return figures is None or not figures.unacked_bytes

    async def test_the_rate_of_all_destinations_together_is_sent(self) -> None:
        platform, clock = self.platform(manners=NGINX), new_clock()
        checking = self.check(platform.url, clock=HalfReactor(clock), seconds=2.0, mbps=4.0, destinations=3)
        await until(lambda: platform.broadcasts, "the publish")
        while not checking.called:
            clock.advance(PACE_S)
            await turns(2)
            await until(self.has_arrived, "what was sent")
        report = await checking

        assert report.code == "good"
        assert report.figures["offered_mbps"] == 12.0
        await until(lambda: platform.sessions[0].close, "the end")
        assert platform.sessions[0].bytes_in == pytest.approx(12e6 / 8 * 2, rel=0.1)
        assert platform.sessions[0].close == "clean"
        assert platform.broadcasts[0].ended == "unpublished"

    async def test_a_platform_that_can_test_is_asked_to(self) -> None:
        platform = self.platform(manners=TWITCH, keys=[KEY])
        report = await self.check(platform.url, seconds=1.0, test_query="bandwidthtest=true")

        assert report.good
        assert [one.test for one in platform.broadcasts] == [True]

    async def test_without_a_key_nothing_is_published(self) -> None:
        platform = self.platform(manners=YOUTUBE)
        report = await self.check(platform.url, key=None)
        await until(lambda: platform.sessions[0].close, "the end")

        assert (report.code, report.good) == ("reachable", True)
        assert platform.sessions[0].commands == ["connect"]
        assert set(report.steps) == {"dns", "tcp", "handshake", "connect"}

    async def test_what_a_report_looks_like_to_a_program(self) -> None:
        report = await self.check(self.platform().url, seconds=1.0)
        facts = facts_of(report)

        assert facts["good"] is True
        assert facts["code"] == "good"
        assert set(report.figures) >= {"offered_mbps", "accepted_mbps", "queue_ms", "rtt_ms", "retransmits"}


def test_every_verdict_is_a_sentence_and_says_what_to_do() -> None:
    for code, verdict in VERDICTS.items():
        named = {
            name for text in (verdict.says, verdict.do) for _, name, _, _ in string.Formatter().parse(text) if name
        }
        assert named <= FACTS | {"advised"}, code
        assert verdict.says.endswith((".", "{said}", "{share}.")), code
        assert verdict.do.endswith((".", "{other}")), code
    assert {code for code, verdict in VERDICTS.items() if verdict.good} == {"good", "reachable"}


def test_no_code_leads_to_a_verdict_that_there_is_not() -> None:
    phases = {f"{phase}-{end}" for phase in ("tls", "handshake", "connect", "publish") for end in ("silent", "closed")}

    assert phases | {*CERTIFICATES.values(), *PROTOCOLS.values()} <= set(VERDICTS)
    assert refusal("what nobody ever said") in VERDICTS


def _hang_up_at_publish(connection: DestinationConnection, event: Any) -> None:
    if type(event).__name__ == "ConnectRequested":
        connection.take(connection.rtmp.accept_connect())
    elif type(event).__name__ == "PublishRequested":
        connection.tcp.loseConnection()


@implementer(IReactorTime, IReactorTCP, IReactorPluggableNameResolver, IHostnameResolver)
class _Nowhere:
    """A reactor whose look-ups find nothing, or never end."""

    def __init__(self, *, answers: bool) -> None:
        self._answers = answers
        self.nameResolver = self

    def resolveHostName(self, receiver: Any, hostName: str, *args: Any, **options: Any) -> Any:
        receiver.resolutionBegan(self)
        if self._answers:
            receiver.resolutionComplete()
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)
