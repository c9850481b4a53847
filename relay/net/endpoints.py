"""RTMP addresses of destinations: reading them, connecting to them, printing them without secrets.

A target is *url* and *key*, never one string: YouTube's backup wants its query before the key, Facebook's keys hold
``?`` and ``&``. DNS is asked at every attempt and all addresses are tried (RFC 8305, by Twisted's HostnameEndpoint).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from twisted.internet._idna import _idnaBytes
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from relay.errors import ConfigError, DestinationError
from relay.net.addresses import AddressPolicy, CheckedReactor
from relay.net.trust import SYSTEM, Trust, connections_to
from relay.rtmp.names import MAX_ADDRESS
from relay.secret import SHORTEST_ANYWHERE, Secret, redact_url

DEFAULT_PORTS = {"rtmp": 1935, "rtmps": 443}

ADDRESS_REFUSED = "address-refused"
ADDRESS_REFUSED_WORDS = (
    "the address is not a public one; write it into the configuration file, or its network into allow_networks"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RtmpUrl:
    """Where to connect and which app to ask for. *app* includes the query, which may be secret, so it is wrapped."""

    scheme: str
    host: str
    port: int
    app: Secret
    display: str
    """scheme://host[:port]/app, without what follows and may be a key that was pasted there: safe to print."""

    @property
    def tls(self) -> bool:
        """Whether to speak TLS."""
        return self.scheme == "rtmps"

    @property
    def authority(self) -> str:
        """``host[:port]`` with the port left out when it is the scheme's own: Facebook refuses a tcUrl with :443."""
        return _authority(self.scheme, self.host, self.port)

    @property
    def secrets(self) -> list[Secret]:
        """What the query holds: some platforms put a signature there."""
        query = self.app.reveal().partition("?")[2]
        values = [value for _, value in parse_qsl(query)]
        return [Secret(text) for text in (query, *values) if len(text) >= SHORTEST_ANYWHERE]

    @property
    def tc_url(self) -> Secret:
        """The tcUrl for `connect`."""
        return Secret(f"{self.scheme}://{self.authority}/{self.app.reveal()}")

    def with_query(self, query: str) -> RtmpUrl:
        """Return the same address with more in its query."""
        app = self.app.reveal()
        return replace(self, app=Secret(f"{app}{'&' if '?' in app else '?'}{query}"))


def parse_url(text: str, path: str = "url") -> RtmpUrl:
    """Read ``rtmp[s]://HOST[:PORT]/APP``. Raises ConfigError at *path* with what to write instead."""
    if len(text) > MAX_ADDRESS:
        raise ConfigError(path, f"an address has at most {MAX_ADDRESS} characters")
    if any(ord(char) <= 0x20 or ord(char) == 0x7F or char == "\\" for char in text):
        raise ConfigError(path, "an address holds no spaces, control characters or backslashes")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ConfigError(path, "not an address; write rtmps://HOST[:PORT]/APP") from error
    if parts.scheme not in DEFAULT_PORTS:
        raise ConfigError(path, "must start with rtmp:// or rtmps://")
    if not parts.hostname:
        raise ConfigError(path, "names no host; write rtmps://HOST[:PORT]/APP")
    if parts.username is not None:
        raise ConfigError(path, "holds a user name or password; put secrets in `key`")
    if parts.fragment:
        raise ConfigError(path, "holds a '#'; put what follows it in `key`")
    if port == 0:
        raise ConfigError(path, "port 0 cannot be connected to")
    if not _is_host(parts.hostname):
        raise ConfigError(path, "the host name is none: letters, digits and hyphens between dots, or an IP address")
    app = parts.path.strip("/")
    if not app:
        raise ConfigError(path, "names no app; write rtmps://HOST[:PORT]/APP, for example /live")
    query = f"?{parts.query}" if parts.query else ""
    number = DEFAULT_PORTS[parts.scheme] if port is None else port
    shown = redact_url(f"{parts.scheme}://{_authority(parts.scheme, parts.hostname, number)}{parts.path.rstrip('/')}")
    return RtmpUrl(scheme=parts.scheme, host=parts.hostname, port=number, app=Secret(app + query), display=shown)


def _is_host(host: str) -> bool:
    if isIPAddress(host) or isIPv6Address(host):
        return True
    try:
        return bool(_idnaBytes(host))  # the rule that HostnameEndpoint goes by
    except UnicodeError:
        return False


def _authority(scheme: str, host: str, port: int) -> str:
    host = f"[{host}]" if ":" in host else host
    return host if port == DEFAULT_PORTS[scheme] else f"{host}:{port}"


def endpoint_for(
    reactor: Any,
    url: RtmpUrl,
    *,
    timeout_s: float,
    trust: Trust = SYSTEM,
    policy: AddressPolicy | None = None,
    on_bad_certificate: Callable[[int], None] = lambda _: None,
) -> IStreamClientEndpoint:
    """Return an endpoint that resolves, connects and, for rtmps, verifies the certificate as *trust* says.

    With a *policy* every address of the host is checked before one of them is connected to.
    *on_bad_certificate* is told OpenSSL's number for what is wrong with a certificate: the Failure that follows says
    only that it was not accepted.

    Raises ConfigError when a file of *trust* cannot be used.
    """
    plain = _plain_endpoint(reactor, url, timeout_s, policy)
    if not url.tls:
        return plain
    options = connections_to(url.host, trust, on_bad_certificate)
    endpoint: IStreamClientEndpoint = wrapClientTLS(options, plain)
    return endpoint


def _plain_endpoint(
    reactor: Any, url: RtmpUrl, timeout_s: float, policy: AddressPolicy | None
) -> IStreamClientEndpoint:
    if policy is None:
        timely = CheckedReactor(reactor, None, lambda: None)
        return HostnameEndpoint(timely, url.host, url.port, timeout=timeout_s)
    return CheckedEndpoint(reactor, url, timeout_s, policy)


@implementer(IStreamClientEndpoint)
class CheckedEndpoint:
    """Connects to an address that the policy permits, and says so when there is none."""

    def __init__(self, reactor: Any, url: RtmpUrl, timeout_s: float, policy: AddressPolicy) -> None:
        self._refused = False
        checked = CheckedReactor(reactor, policy, self._refuse)
        self._plain = HostnameEndpoint(checked, url.host, url.port, timeout=timeout_s)

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """Resolve, check, connect."""
        self._refused = False
        return self._plain.connect(protocolFactory).addErrback(self._explain)

    def _refuse(self) -> None:
        self._refused = True

    def _explain(self, failure: Failure) -> Failure:
        if not self._refused:
            return failure
        return Failure(DestinationError(ADDRESS_REFUSED, ADDRESS_REFUSED_WORDS))
