"""A check of one destination before the show: DNS, TCP, TLS, handshake, connect, publish, then the planned upload.

It goes the way that a push goes (the same endpoints, the same conversation, the same queue) with a programme of its
own, once, and says where it ended. The rule it guards: every step has an end, and what cannot be trusted with the key
never gets it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.python.failure import Failure

from relay.errors import DestinationError
from relay.log import clean_line
from relay.media.snow import Snow
from relay.net.addresses import resolve
from relay.net.checklink import CheckFactory, CheckLink
from relay.net.checkplan import CheckPlan, Report
from relay.net.endpoints import endpoint_for
from relay.net.failures import classify
from relay.net.flusher import Flusher
from relay.net.lanes import Lanes
from relay.net.pushlink import PushLink
from relay.net.upload import Upload
from relay.net.verdicts import VERDICTS, refusal, sentences
from relay.net.watch import MAX_TICK_S, TICK_S
from relay.net.way import Way
from relay.rtmp.events import ConnectRejected, ReconnectRequested
from relay.secret import Redactor, Secret, redact_urls
from relay.stream.outbox import MIB, Outbox

PACE_S = 0.02
SAMPLE_S = 1.0
ENOUGH = 0.95
"""The share of the planned rate that must get there."""
NOTHING = 0.05
"""Below this share it is no slow line but a destination that stopped reading."""
SILENT_S = 3.0
"""So is it when nothing arrived for this long: on a slow line a little always does."""
NOISE_BYTES = 256 * 1024
OTHER_PORT = 443
OTHER_S = 3.0
MAX_SAID = 200


Tell = Callable[[str, str], None]
"""Takes the name of a step and how it went."""


class _End(Exception):  # noqa: N818 - it is no error
    """The check is over, with this code."""

    def __init__(self, code: str, said: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.said = said


_PASSED = {
    "handshake": ("tls", "encrypted; the certificate is good"),
    "connect": ("handshake", "an RTMP server"),
    "publish": ("connect", "the app is accepted"),
    "live": ("publish", "granted"),
}
"""Phase of a link -> the step that it completes, and what to say about it."""


class Preflight:
    """Checks one destination, once."""

    def __init__(self, reactor: Any, plan: CheckPlan, tell: Tell = lambda step, text: None) -> None:
        self._reactor = reactor
        self._plan = plan
        self._tell = tell
        self._steps: dict[str, float] = {}
        self._figures: dict[str, float] = {}
        self._since = 0.0
        self._facts: dict[str, Any] = {
            "title": plan.title or plan.url.host,
            "step": plan.step_s,
            "seconds": plan.seconds,
            "other": "",
            "said": "",
            "share": "",
        }
        self._way = Way(plan.place, plan.url, PushLink.random)
        self._secrets = Redactor([plan.key or Secret(""), plan.name, *plan.url.secrets])
        if plan.login is not None:
            self._secrets.add(plan.login.password)
        self._rejected: ConnectRejected | None = None
        self._link: CheckLink | None = None
        self._snow = Snow(round(plan.mbps * plan.destinations * 1000), os.urandom(NOISE_BYTES))
        self._outbox = Outbox(max_bytes=64 * MIB)
        self._outbox.configure(self._snow.tracks)
        self._lanes = Lanes(Flusher(reactor))
        self._live: Deferred[None] = Deferred()
        self._lost: Deferred[None] = Deferred()
        self._error: DestinationError | None = None
        self._ticking: IDelayedCall | None = None
        self._ticked_at = 0.0

    async def run(self) -> Report:
        """Check; the answer comes in bounded time. Raises ConfigError when a file with CAs cannot be used."""
        try:
            while True:
                await self._look_up()
                await self._connect()
                if await self._converse():
                    break
            code = await self._upload()
        except _End as end:
            code, self._facts["said"] = end.code, self._safe(end.said)
        finally:
            await self._leave()
        says, do = sentences(code, self._facts)
        return Report(code=code, says=says, do=do, steps=self._steps, figures=self._figures)

    # The steps.

    async def _look_up(self) -> None:
        url = self._way.url
        host = url.host
        app = url.display.partition("://")[2].partition("/")[2]
        self._facts |= {"host": host, "port": url.port, "app": app or "/"}
        self._begin()
        try:
            found = await resolve(self._reactor, host).addTimeout(self._plan.step_s, self._reactor)
        except Exception as error:
            raise _End("dns-silent") from error
        if not found:
            raise _End("dns")
        self._done("dns", f"{host} is {', '.join(sorted(set(found))[:4])}" if found != [host] else "an IP address")

    async def _connect(self) -> None:
        plan, url = self._plan, self._way.url
        rtmp = self._way.connection()
        seconds = self._reactor.seconds
        link = CheckLink(self, rtmp, self._outbox, self._lanes, seconds=seconds, tls=url.tls)
        endpoint = endpoint_for(
            self._reactor,
            url,
            trust=plan.trust,
            timeout_s=plan.step_s,
            policy=self._way.policy,
            on_bad_certificate=link.note_certificate,
        )
        self._link = link
        self._begin()
        try:
            await endpoint.connect(CheckFactory(link)).addTimeout(plan.step_s, self._reactor)
        except Exception:
            failure = Failure()
            self._link = None
            error = classify(failure, phase="connect", tls=url.tls)
            reason = error.reason
            if reason in ("refused", "unreachable", "closed", "reset"):
                await self._try_other_port()
                refused = failure.check(ConnectionRefusedError) is not None
                raise _End("refused" if refused else "unreachable") from None
            raise _End(reason if reason in VERDICTS else "failed", error.detail) from None
        if self._ticking is None:
            self._ticked_at = seconds()
            self._tick()

    async def _try_other_port(self) -> None:
        """Where the port is closed, see whether the port that nobody blocks is open."""
        url = self._way.url
        if url.port == OTHER_PORT:
            return
        there = replace(url, scheme="rtmp", port=OTHER_PORT)
        endpoint = endpoint_for(self._reactor, there, timeout_s=OTHER_S, policy=self._way.policy)
        try:
            protocol: Any = await endpoint.connect(Factory.forProtocol(TwistedProtocol)).addTimeout(
                OTHER_S, self._reactor
            )
        except Exception:
            return
        protocol.transport.abortConnection()
        self._facts["other"] = f" Port {OTHER_PORT} of {url.host} is open: try rtmps://{url.host}."

    async def _converse(self) -> bool:
        """Wait until the publish is granted; False when the server sends us elsewhere, or wants to know who we are."""
        await self._live
        rejected, self._rejected = self._rejected, None
        if rejected is not None:
            try:
                self._way.rejected(rejected)
            except DestinationError as error:
                raise _End(*self._checked.verdict(error)) from error
            self._tell("connect", f"goes on at {self._way.url.display}")
            self._live = Deferred()
            return False
        if self._error is not None:
            raise _End(*self._checked.verdict(self._error))
        if self._plan.test_query:
            self._tell("publish", "as a test of the platform's own: nothing is broadcast")
        return True

    async def _upload(self) -> str:
        plan = self._plan
        upload = Upload(self._snow, plan.mbps * plan.destinations, self._outbox, self._lanes, self._acked)
        started = self._reactor.seconds()
        next_sample = SAMPLE_S
        while self._error is None:
            age = self._reactor.seconds() - started
            if age >= next_sample or age >= plan.seconds:
                next_sample += SAMPLE_S
                self._sampled(upload, age)  # before more is written, which nobody can have yet
            if age >= plan.seconds:
                return self._rate(upload)
            upload.write(age, self._link)
            await self._sleep(PACE_S)
        lived = self._reactor.seconds() - started
        self._sampled(upload, lived)
        self._facts["lived"] = self._figures["lived_s"] = lived
        code = self._rate(upload)
        reason = self._error.reason
        if reason == "stalled":
            return "stalled"
        if reason == "closed-early":
            return "dropped-early"
        self._facts["said"] = self._safe(self._error.detail)
        if reason == "publish-refused":
            return refusal(self._error.detail)
        return "cut" if code != "stalled" else code

    def _sampled(self, upload: Upload, age: float) -> None:
        upload.sample(age)
        figures = None if self._link is None else self._link.tcp
        line = f"{age:.0f} of {self._plan.seconds:.0f} s: {upload.accepted:.1f} of {upload.offered:.1f} Mbit/s"
        if upload.queue_ms > 1000:
            line += f", {upload.queue_ms / 1000:.1f} s wait"
        if figures is not None:
            self._figures |= {"rtt_ms": figures.rtt_ms, "retransmits": figures.retransmits}
            line += f", round trip {figures.rtt_ms:.0f} ms, {figures.retransmits} segments sent twice"
        self._tell("upload", line)

    def _rate(self, upload: Upload) -> str:
        plan = self._plan
        self._figures |= {
            "offered_mbps": upload.offered,
            "accepted_mbps": upload.accepted,
            "queue_ms": upload.queue_ms,
            "dropped_gops": self._outbox.dropped_gops,
        }
        self._facts |= {"offered": upload.offered, "accepted": upload.accepted}
        advised = upload.accepted * 0.7
        self._facts["advised"] = f"{advised:.1f}" if advised >= 1 else f"{advised:.2g}"
        if plan.destinations > 1:
            self._facts["share"] = f" for {plan.destinations} destinations of {plan.mbps:g} Mbit/s"
        if upload.accepted >= ENOUGH * upload.offered:
            return "good"
        silent = upload.accepted < NOTHING * upload.offered or upload.silent_s >= SILENT_S
        return "stalled" if silent else "too-small"

    async def _leave(self) -> None:
        """Say goodbye, which the link does in bounded time, and stop every timer."""
        if self._link is not None and self._error is None:
            await self._link.close()
        if self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None

    @property
    def _checked(self) -> CheckLink:
        """The link, where there was a conversation."""
        assert self._link is not None  # noqa: S101 - `_connect` made it
        return self._link

    # What the link tells.

    def connected(self, link: CheckLink) -> None:
        """TCP is up."""
        self._done("tcp", f"connected to port {self._way.url.port}")

    def entered(self, link: CheckLink, phase: str) -> None:
        """A phase begins, so another is complete."""
        step, text = _PASSED[phase]
        if step != "tls" or self._way.url.tls:
            self._done(step, text)
        if phase == "publish" and self._plan.key is None:
            link.fail(DestinationError("reachable", ""))  # before anything that names the key is written

    def link_live(self, link: PushLink) -> None:
        """The publish is granted."""
        self._outbox.restart()
        self._live.callback(None)

    def link_fell_in(self, link: PushLink) -> None:
        """`Upload.write` looks for itself."""

    def link_fell_out(self, link: PushLink) -> None:
        """The same."""

    def link_progress(self, link: PushLink) -> None:
        """The upload has figures of its own."""

    def link_asked(self, link: PushLink, event: ReconnectRequested) -> None:
        """Not now: the check is over soon."""

    def link_rejected(self, link: PushLink, event: ConnectRejected) -> None:
        """The server wants to know who we are, sends us elsewhere, or says no."""
        self._rejected = event
        self._live.callback(None)

    def link_lost(self, link: PushLink, error: DestinationError) -> None:
        """It is over."""
        self._error = error
        if not self._live.called:
            self._live.callback(None)

    # Time.

    def _tick(self) -> None:
        """Let the link count; a step of the conversation that takes too long ends it."""
        now = self._reactor.seconds()
        passed, self._ticked_at = min(now - self._ticked_at, MAX_TICK_S), now
        self._ticking = self._reactor.callLater(TICK_S, self._tick)
        link = self._link
        if link is None:
            return
        link.tick(passed)
        if not self._live.called and now - self._since >= self._plan.step_s:
            link.fail(DestinationError("handshake", f"no answer during {link.phase}"))

    def _begin(self) -> None:
        self._since = self._reactor.seconds()

    def _done(self, step: str, text: str) -> None:
        now = self._reactor.seconds()
        took, self._since = (now - self._since) * 1000, now
        self._steps[step] = round(took, 1)
        self._tell(step, f"{text} ({took:.0f} ms)")

    def _sleep(self, seconds: float) -> Deferred[None]:
        awake: Deferred[None] = Deferred()
        self._reactor.callLater(seconds, awake.callback, None)
        return awake

    def _acked(self) -> int:
        """Bytes that the destination's kernel has; where nobody knows, those that ours took."""
        link = self._link
        if link is None:
            return 0
        figures = link.tcp
        return link.bytes_sent if figures is None else figures.acked_bytes

    def _safe(self, said: str) -> str:
        """Return what may be shown of a server's words: it may repeat the key."""
        return clean_line(redact_urls(self._secrets.redact(said)))[:MAX_SAID]
