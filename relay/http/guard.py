"""Who may ask: the bearer token, the Host header, the Origin header, and the price of wrong tokens.

The token travels in the Authorization header only: a query ends up in logs and histories, a cookie is sent by
browsers on behalf of foreign pages. Without a token the relay listens on loopback, and there the danger is a web page
in the operator's own browser: so Host must be a loopback name (DNS rebinding) and a foreign Origin is refused.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from twisted.internet.interfaces import IReactorTime

from relay.http.problems import Problem
from relay.secret import Secret

FREE_FAILURES = 5
"""Wrong tokens per minute and address before answers slow down: a person may mistype."""
FORGET_S = 600.0
LONGEST_DELAY_S = 60.0
MAX_ADDRESSES = 4096
"""Addresses remembered; the longest unseen is forgotten first, so a flood of addresses costs 1 MB at most."""
MAX_DELAYED = 4
"""Delayed answers held per address; above it the answer is 429 at once. A right token never waits."""

UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})


@dataclass(slots=True)
class _Failures:
    count: int = 0
    last: float = 0.0
    delayed: int = 0


class Guard:
    """Decides before routing; every refusal looks the same whatever its cause."""

    def __init__(self, *, token: Secret | None, hosts: Collection[str], clock: IReactorTime) -> None:
        self._token = token
        self._hosts = frozenset(host.lower() for host in hosts)
        self._clock = clock
        self._failures: OrderedDict[str, _Failures] = OrderedDict()

    @property
    def needs_token(self) -> bool:
        """Whether a token is configured."""
        return self._token is not None

    def authorized(self, authorization: str) -> bool:
        """Whether the Authorization header carries the token, compared in constant time."""
        if self._token is None:
            return True
        scheme, _, credentials = authorization.partition(" ")
        offered = Secret(credentials.strip())
        return self._token.matches(offered) and scheme.lower() == "bearer"

    def check_origin(self, method: str, host: str, origin: str | None) -> None:
        """Refuse a foreign page's request, and, without a token, a foreign name for this machine.

        Raises:
            Problem: 403.
        """
        if self._token is None and not self._is_ours(_host_name(host)):
            raise Problem(403, "host.refused", "Without an API token only loopback names are answered.")
        if method in UNSAFE and origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            raise Problem(403, "origin.refused", "A page of another site may not change anything here.")

    def _is_ours(self, name: str) -> bool:
        if name == "localhost" or name in self._hosts:
            return True
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return False

    def delay(self, peer: str) -> float:
        """Count a wrong token and return how long its answer must wait.

        Raises:
            Problem: 429 when too many answers to this address wait already.
        """
        now = self._clock.seconds()
        failures = self._failures.pop(peer, None)
        if failures is None or (now - failures.last > FORGET_S and not failures.delayed):
            failures = _Failures()
        self._failures[peer] = failures
        if len(self._failures) > MAX_ADDRESSES:
            self._failures.popitem(last=False)
        if now - failures.last > 60.0:
            failures.count = min(failures.count, FREE_FAILURES) // 2
        failures.count += 1
        failures.last = now
        if failures.count <= FREE_FAILURES:
            return 0.0
        if failures.delayed >= MAX_DELAYED:
            raise Problem(429, "token.too_many", headers={b"Retry-After": b"60"})
        failures.delayed += 1
        return min(LONGEST_DELAY_S, 2.0 ** (failures.count - FREE_FAILURES - 1))

    def delayed_answer_ended(self, peer: str) -> None:
        """A delayed answer was given, or its connection is gone."""
        failures = self._failures.get(peer)
        if failures is not None:
            failures.delayed = max(0, failures.delayed - 1)


def _host_name(host: str) -> str:
    """Return the name in a Host header, without port and brackets, empty when it is malformed."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""
