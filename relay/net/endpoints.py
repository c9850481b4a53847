"""RTMP addresses of destinations: reading them, connecting to them, printing them without secrets.

A target is *url* and *key*, never one string: YouTube's backup wants its query before the key, Facebook's keys hold
``?`` and ``&``. DNS is asked at every attempt and all addresses are tried (RFC 8305, by Twisted's HostnameEndpoint).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from OpenSSL import SSL
from twisted.internet._sslverify import IOpenSSLTrustRoot  # the only way to add a CA beside the system's
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.ssl import TLSVersion, optionsForClientTLS, platformTrust
from zope.interface import implementer

from relay.errors import ConfigError
from relay.secret import Secret

DEFAULT_PORTS = {"rtmp": 1935, "rtmps": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class RtmpUrl:
    """Where to connect and which app to ask for. *app* includes the query, which may be secret, so it is wrapped."""

    scheme: str
    host: str
    port: int
    app: Secret
    display: str
    """scheme://host[:port]/app without the query: safe to print."""

    @property
    def tls(self) -> bool:
        """Whether to speak TLS."""
        return self.scheme == "rtmps"

    @property
    def authority(self) -> str:
        """``host[:port]`` with the port left out when it is the scheme's own: Facebook refuses a tcUrl with :443."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def tc_url(self) -> Secret:
        """The tcUrl for `connect`."""
        return Secret(f"{self.scheme}://{self.authority}/{self.app.reveal()}")


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
        raise ConfigError(path, f"must start with rtmp:// or rtmps:// (got {parts.scheme or 'no'} scheme)")
    if not parts.hostname:
        raise ConfigError(path, "names no host; write rtmps://HOST[:PORT]/APP")
    if parts.username is not None:
        raise ConfigError(path, "holds a user name or password; put secrets in `key`")
    if parts.fragment:
        raise ConfigError(path, "holds a '#'; put what follows it in `key`")
    app = parts.path.strip("/")
    if not app:
        raise ConfigError(path, "names no app; write rtmps://HOST[:PORT]/APP, for example /live")
    query = f"?{parts.query}" if parts.query else ""
    url = RtmpUrl(
        scheme=parts.scheme,
        host=parts.hostname,
        port=DEFAULT_PORTS[parts.scheme] if port is None else port,
        app=Secret(app + query),
        display="",
    )
    return RtmpUrl(
        scheme=url.scheme,
        host=url.host,
        port=url.port,
        app=url.app,
        display=f"{url.scheme}://{url.authority}/{app}",
    )


@implementer(IOpenSSLTrustRoot)
class SystemAndFile:
    """Trusts the system's CAs and one file of the operator's."""

    def __init__(self, ca_file: Path) -> None:
        self._ca_file = ca_file

    def _addCACertsToContext(self, context: SSL.Context) -> None:
        context.set_default_verify_paths()
        context.load_verify_locations(str(self._ca_file))


def endpoint_for(reactor: Any, url: RtmpUrl, *, ca_file: Path | None, timeout_s: float) -> IStreamClientEndpoint:
    """Return an endpoint that resolves, connects and, for rtmps, verifies certificate chain and host name.

    Raises ConfigError when *ca_file* cannot be used.
    """
    plain = HostnameEndpoint(reactor, url.host, url.port, timeout=timeout_s)
    if not url.tls:
        return plain
    trust = platformTrust() if ca_file is None else SystemAndFile(ca_file)
    try:
        options = optionsForClientTLS(
            url.host,
            trustRoot=trust,
            extraCertificateOptions={"raiseMinimumTo": TLSVersion.TLSv1_2},
        )
    except SSL.Error as error:
        raise ConfigError("ca_file", f"{ca_file} is not a file of PEM certificates") from error
    endpoint: IStreamClientEndpoint = wrapClientTLS(options, plain)
    return endpoint
