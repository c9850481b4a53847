"""The connection of a check: a push link that tells how far it got, and what its end comes to.

The rule it guards: whatever ends the conversation has a code of `verdicts.VERDICTS`.
"""

from __future__ import annotations

from typing import Any, Protocol

from OpenSSL import SSL
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from relay.errors import DestinationError
from relay.net.failures import wrong_name
from relay.net.lanes import Lanes
from relay.net.linkowner import LinkOwner
from relay.net.pushlink import PushLink
from relay.net.verdicts import CERTIFICATES, PROTOCOLS, refusal
from relay.rtmp.client import ClientConnection
from relay.stream.outbox import Outbox

_NO_TLS = ("wrong version number", "http request", "packet length too long", "record layer failure")


class CheckOwner(LinkOwner, Protocol):
    """The check that a link belongs to."""

    def connected(self, link: CheckLink) -> None:
        """TCP is up."""
        ...

    def entered(self, link: CheckLink, phase: str) -> None:
        """A phase begins, so another is complete."""
        ...


class CheckLink(PushLink):
    """A push link that tells how far it got, and why it ended."""

    def __init__(self, owner: CheckOwner, rtmp: ClientConnection, outbox: Outbox, lanes: Lanes, **options: Any) -> None:
        super().__init__(owner, rtmp, outbox, lanes, **options)
        self._check = owner
        self._reason: Failure | None = None
        self._certificate = 0

    def note_certificate(self, number: int) -> None:
        """Note OpenSSL's number for what is wrong with the certificate."""
        self._certificate = number

    def connectionMade(self) -> None:
        self._check.connected(self)
        super().connectionMade()

    def connectionLost(self, reason: Failure = Failure(Exception())) -> None:  # noqa: B008 - Twisted's signature
        self._reason = reason
        super().connectionLost(reason)

    def _enter(self, phase: str) -> None:
        super()._enter(phase)
        self._check.entered(self, phase)

    def verdict(self, error: DestinationError) -> tuple[str, str]:
        """Return the code of what ended the conversation before the publish was granted, and what the server said."""
        phase, detail = self.phase, error.detail
        said = detail.partition(": ")[2] or detail
        match error.reason:
            case "reachable" | "connect-rejected":
                return error.reason, said
            case "auth-needed" | "auth-failed" | "redirect-refused":
                return error.reason, detail
            case "publish-refused":
                return refusal(detail), said
            case "protocol":
                return PROTOCOLS.get(said, "not-rtmp"), said
            case "handshake":  # what the link calls a deadline
                return f"{phase}-silent", said
            case "tls":
                return self._tls_verdict(), said
            case "closed" | "closed-early" | "reset" if phase != "live":
                return f"{phase}-closed", said
            case _:
                return "failed", detail

    def _tls_verdict(self) -> str:
        if self._reason is not None and wrong_name(self._reason):
            return "tls-wrong-host"
        if self._certificate:
            return CERTIFICATES.get(self._certificate, "tls-certificate")
        value = None if self._reason is None else self._reason.value
        if not isinstance(value, SSL.Error):
            return "tls-closed"
        return "tls-not-spoken" if any(words in str(value) for words in _NO_TLS) else "tls-failed"


class CheckFactory(Factory):
    """Makes one connection, with the link that it is given."""

    noisy = False

    def __init__(self, link: CheckLink) -> None:
        self._link = link

    def buildProtocol(self, addr: object) -> CheckLink:
        return self._link
