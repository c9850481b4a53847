"""RTMP addresses of destinations: reading them, connecting to them, printing them without secrets.

A target is *url* and *key*, never one string: YouTube's backup wants its query before the key, Facebook's keys hold
``?`` and ``&``. DNS is asked at every attempt and all addresses are tried (RFC 8305, by Twisted's HostnameEndpoint).
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from weakref import WeakValueDictionary

from OpenSSL import SSL
from OpenSSL.crypto import X509
from twisted.internet._idna import _idnaBytes
from twisted.internet._sslverify import (
    ClientTLSOptions,  # optionsForClientTLS does not let us note why a certificate is not accepted
    IOpenSSLTrustRoot,  # the only way to add a CA beside the system's
)
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IStreamClientEndpoint
from twisted.internet.ssl import CertificateOptions, TLSVersion, platformTrust
from twisted.python.failure import Failure
from zope.interface import implementer

from relay.errors import ConfigError, DestinationError
from relay.net.addresses import AddressPolicy, CheckedReactor
from relay.net.failures import WRONG_FINGERPRINT
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


@implementer(IOpenSSLTrustRoot)
class SystemAndFile:
    """Trusts the system's CAs and one file of the operator's."""

    def __init__(self, ca_file: Path) -> None:
        self._ca_file = ca_file

    def _addCACertsToContext(self, context: SSL.Context) -> None:
        context.set_default_verify_paths()
        context.load_verify_locations(str(self._ca_file))


def endpoint_for(
    reactor: Any,
    url: RtmpUrl,
    *,
    ca_file: Path | None,
    timeout_s: float,
    policy: AddressPolicy | None = None,
    fingerprint: bytes | None = None,
    on_bad_certificate: Callable[[int], None] = lambda _: None,
) -> IStreamClientEndpoint:
    """Return an endpoint that resolves, connects and, for rtmps, verifies certificate chain and host name.

    With *fingerprint*, the SHA-256 of the certificate, this very certificate is asked for instead.
    With a *policy* every address of the host is checked before one of them is connected to.
    *on_bad_certificate* is told OpenSSL's number for what is wrong with a certificate: the Failure that follows says
    only that it was not accepted.

    Raises ConfigError when *ca_file* cannot be used.
    """
    plain = _plain_endpoint(reactor, url, timeout_s, policy)
    if not url.tls:
        return plain
    options: IOpenSSLClientConnectionCreator
    if fingerprint is None:
        options = client_tls(url.host, ca_file=ca_file, on_bad_certificate=on_bad_certificate)
    else:
        options = _PinnedCertificate(url.host, fingerprint, on_bad_certificate)
    endpoint: IStreamClientEndpoint = wrapClientTLS(options, plain)
    return endpoint


def client_tls(
    host: str, *, ca_file: Path | None, on_bad_certificate: Callable[[int], None] = lambda _: None
) -> IOpenSSLClientConnectionCreator:
    """Return what makes TLS connections to *host*, trusting the system's CAs and those in *ca_file*.

    *on_bad_certificate* is told OpenSSL's number. Raises ConfigError when *ca_file* cannot be used.
    """
    context = _context_for(ca_file)
    creator: IOpenSSLClientConnectionCreator = ClientTLSOptions(
        lambda _protocol: _NotingConnection(context, on_bad_certificate), host
    )
    return creator


_CONTEXTS: WeakValueDictionary[tuple[object, ...], SSL.Context] = WeakValueDictionary()
"""Contexts in use. The CAs in one take a megabyte, so destinations that trust the same share it; the last connection
of a context takes it along, and with it what was read from files that may have changed since."""


def _context_for(ca_file: Path | None) -> SSL.Context:
    trust = platformTrust() if ca_file is None else SystemAndFile(ca_file)
    try:
        status = None if ca_file is None else ca_file.stat()
        key = (ca_file, status and (status.st_mtime_ns, status.st_size, status.st_ino))
        context = _CONTEXTS.get(key)
        if context is None:
            context = CertificateOptions(trustRoot=trust, raiseMinimumTo=TLSVersion.TLSv1_2).getContext()
            _CONTEXTS[key] = context
    except (OSError, SSL.Error) as error:
        raise ConfigError("ca_file", f"{ca_file} is not a file of PEM certificates") from error
    return context


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


@implementer(IOpenSSLClientConnectionCreator)
class _PinnedCertificate:
    """Makes connections that take one certificate, whoever signed it, whatever name and time it is for."""

    def __init__(self, host: str, fingerprint: bytes, note: Callable[[int], None]) -> None:
        self._host = host
        self._fingerprint = fingerprint
        self._note = note
        self._context = CertificateOptions(verify=False, raiseMinimumTo=TLSVersion.TLSv1_2).getContext()
        self._context.set_verify(SSL.VERIFY_PEER, self._is_good)

    def _is_good(self, connection: SSL.Connection, certificate: X509, error: int, depth: int, ok: int) -> bool:
        if depth > 0:
            return True  # only the server's own certificate counts
        digest = bytes.fromhex(certificate.digest("sha256").decode().replace(":", ""))
        if hmac.compare_digest(digest, self._fingerprint):
            return True
        self._note(WRONG_FINGERPRINT)
        return False

    def clientConnectionForTLS(self, _protocol: object) -> SSL.Connection:
        """Part of IOpenSSLClientConnectionCreator."""
        connection = SSL.Connection(self._context, None)
        if not isIPAddress(self._host) and not isIPv6Address(self._host):
            connection.set_tlsext_host_name(_idnaBytes(self._host))
        return connection


class _NotingConnection(SSL.Connection):
    """Notes why a certificate is not accepted. The verdict is Twisted's."""

    def __init__(self, context: SSL.Context, note: Callable[[int], None]) -> None:
        super().__init__(context, None)
        self._note = note

    def set_verify(self, mode: int, callback: Any = None) -> None:
        def noting(connection: SSL.Connection, certificate: X509, error: int, depth: int, ok: int) -> bool:
            if not ok:
                self._note(error)
            return bool(ok if callback is None else callback(connection, certificate, error, depth, ok))

        super().set_verify(mode, noting)
