"""Asks the service whether an encoder may publish or a player may play.

The rule it guards: whatever goes wrong, the answer to whoever is new is no, and it comes within `LIMIT_S` of the
question, the wait for a free place, DNS, connecting, TLS and the body included. Who waits is not told why; the operator
is.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Protocol

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from relay.api import Allow, Decision, Deny, PlayRequest, PublishRequest, TooSlowError, within

from .client import Reply, ServiceError
from .guards import OPEN_S, Breaker, Notice, Refusals, Watching
from .turns import Turns
from .wire import BadAnswerError, decision, question

LIMIT_S = 3.0
"""For one answer in all (reliability.md case 151); the relay itself gives plugins 5 s."""
FAIR_S = 1.5
"""A question that waited for its turn for so long that less was left proves nothing against the service."""
LEAST_S = 0.1
"""With less left a question is not asked at all."""
CONCURRENCY = 20
"""Questions that the service is asked at once (case 153)."""
VIEWERS = 15
"""Of these: a thousand viewers who come at once leave room for the encoder that they want to see."""
MAX_WAITING = 1_000
"""Questions of a kind that wait for their turn: more than a fast service could answer in time."""

NOT_NOW = "this cannot be checked at the moment; try again"
"""What an encoder or player is told when the service is the one at fault."""

HLS = "hls"
"""The app of questions about viewers of HLS. For them a stream on air is many requests, each with its question. That a
dead service harms no stream that is on air (case 152) holds for them because who watches is remembered."""

_UNREACHED = frozenset({429, 502, 503, 504})
"""Statuses that a proxy gives for a service that is down, or that ask us to stay away."""


class Posts(Protocol):
    """What posts a document: `relay_webhook.client.Client`."""

    def post(self, document: bytes) -> Awaitable[Reply]:
        """Return the reply. Raises ServiceError."""
        ...


@dataclass(slots=True)
class Asked:
    """Counters since the start."""

    questions: int = 0
    refused: int = 0
    faults: int = 0
    spared: int = 0
    """Refusals without a question: remembered, or the service counts as gone."""


@dataclass(slots=True)
class _Question:
    """One question on its way."""

    request: PublishRequest | PlayRequest
    until: float
    was_fair: bool = False

    def post_at(self, now: float) -> None:
        """It is its turn. Raises ServiceError when that is too late."""
        if self.until - now < LEAST_S:
            raise ServiceError(f"its turn did not come within {LIMIT_S:g} s: too many questions", reached=True)
        self.was_fair = self.until - now >= FAIR_S

    def late(self) -> ServiceError:
        """What is wrong when `LIMIT_S` are over. A service that is only busy is not gone."""
        return ServiceError(f"no answer within {LIMIT_S:g} s", reached=not self.was_fair)


class Asker:
    """Puts questions to one service."""

    def __init__(self, client: Posts, *, place: str, clock: IReactorTime, log: Logger) -> None:
        self.counters = Asked()
        self.breaker = Breaker()
        self._client = client
        self._place = place
        self._clock = clock
        self._log = log
        self._refusals = Refusals()
        self._watching = Watching()
        self._places = Turns(CONCURRENCY)
        self._viewers = Turns(VIEWERS)
        self._salt = secrets.token_bytes(32)
        self._notice = Notice(self._say_bad, self._say_good)

    @property
    def waiting(self) -> int:
        """Questions that wait for their turn now."""
        return self._places.waiting + self._viewers.waiting

    async def decide(self, request: PublishRequest | PlayRequest) -> Decision:
        """Return the service's decision, or a refusal. Raises CancelledError only."""
        same = self._same_question(request)
        decided = await self._decide(request, same)
        if not isinstance(request, PlayRequest) or request.app != HLS:
            return decided
        now = self._clock.seconds()
        if isinstance(decided, Deny) and not _is_fault(decided):
            self._watching.refused(same)
        elif isinstance(decided, Allow) or self._watching.goes_on(same, now):
            self._watching.seen(same, now)
            return Allow(stream_name=request.stream_name)
        return decided

    async def _decide(self, request: PublishRequest | PlayRequest, same: bytes) -> Decision:
        refusal = self._refusals.find(same, self._clock.seconds()) or self._spare(request)
        if refusal is not None:
            self.counters.spared += 1
            return refusal
        one = _Question(request, self._clock.seconds() + LIMIT_S)
        try:
            decided = await within(self._ask(one), LIMIT_S, self._clock)
        except TooSlowError:
            return self._failed(one.late())
        except ServiceError as fault:
            return self._failed(fault)
        if isinstance(decided, Deny) and not _is_fault(decided):
            self.counters.refused += 1
            self._refusals.add(same, decided, self._clock.seconds())
        return decided

    def _spare(self, request: PublishRequest | PlayRequest) -> Deny | None:
        """Refuse without asking, if asking is of no use now."""
        places = self._viewers if isinstance(request, PlayRequest) else self._places
        if places.waiting >= MAX_WAITING:
            return Deny(reason=f"{MAX_WAITING} questions wait for the service already", public=NOT_NOW)
        return self._gone()

    def _gone(self) -> Deny | None:
        if self.breaker.admits(self._clock.seconds()):
            return None
        return Deny(reason=f"the service does not answer; it is asked again every {OPEN_S:g} s", public=NOT_NOW)

    async def _ask(self, one: _Question) -> Decision:
        if isinstance(one.request, PlayRequest):
            async with self._viewers, self._places:
                return self._gone() or await self._put(one)
        async with self._places:
            return self._gone() or await self._put(one)  # it may have gone while this one waited

    async def _put(self, one: _Question) -> Decision:
        one.post_at(self._clock.seconds())
        self.counters.questions += 1
        self.breaker.asking()
        try:
            reply = await self._client.post(question(one.request))
        except CancelledError:
            self.breaker.dropped()
            raise
        except ServiceError as fault:
            if fault.reached:
                self.breaker.answered()
            raise
        if reply.status in _UNREACHED:
            raise ServiceError(f"HTTP status {reply.status}")
        self.breaker.answered()
        decided = _read(reply, one.request)
        self._notice.success()
        return decided

    def _failed(self, fault: ServiceError) -> Deny:
        """Count a fault, and refuse. A service that answers nonsense to one key is still there for the others."""
        now = self._clock.seconds()
        self.counters.faults += 1
        if not fault.reached:
            self.breaker.failed(now)
        self._notice.fault(fault.reason, now)
        return Deny(reason=f"the service at {self._place} did not decide: {fault.reason}", public=NOT_NOW)

    def _same_question(self, request: PublishRequest | PlayRequest) -> bytes:
        """What makes two questions the same. Keyed, so that what is remembered cannot be compared with a guess."""
        publish = isinstance(request, PublishRequest)
        said = hashlib.sha256(f"{publish}\0{request.peer}\0{request.tls}\0{request.app}\0".encode())
        said.update(
            request.stream_key.digest() if isinstance(request, PublishRequest) else request.stream_name.encode()
        )
        for name, value in sorted(request.query.items()):
            said.update(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest() + value.digest())
        return hmac.digest(self._salt, said.digest(), "sha256")

    def _say_bad(self, reason: str, count: int) -> None:
        self._log.warn(
            "the service at {place} did not decide, so {count} were refused: {reason}",
            place=self._place,
            count=count,
            reason=reason,
        )

    def _say_good(self, count: int) -> None:
        self._log.info("the service at {place} decides again, after {count} faults", place=self._place, count=count)


def _is_fault(refusal: Deny) -> bool:
    """Whether it is we who refuse, because the service did not decide: the very text, which no answer can hold."""
    return refusal.public is NOT_NOW


def _read(reply: Reply, request: PublishRequest | PlayRequest) -> Decision:
    if reply.status == 403:
        return Deny(reason="the service refused: HTTP status 403")
    if 300 <= reply.status < 400:
        raise ServiceError(f"HTTP status {reply.status}: redirects are not followed", reached=True)
    if reply.status != 200:
        raise ServiceError(f"HTTP status {reply.status} instead of 200", reached=True)
    try:
        return decision(reply.body, request)
    except BadAnswerError as error:
        raise ServiceError(f"it answered {error}", reached=True) from None
