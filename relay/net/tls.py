"""Certificates of our own listeners: read from files, read again when the files are renewed.

Twisted's `tls:` endpoint does not notice a renewed certificate and its plain CertificateOptions abort on any client
that offers ALPN (ecosystem.md §9), so the creator is our own: one `stat` per handshake, the old certificate stays
when the new one cannot be read.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from relay.errors import ConfigError

Fingerprint = tuple[tuple[int, int, int], ...]


def _fingerprint(paths: tuple[Path, Path]) -> Fingerprint:
    stats = [os.stat(path) for path in paths]
    return tuple((stat.st_mtime_ns, stat.st_ino, stat.st_size) for stat in stats)


def load_context(certificate: Path, private_key: Path) -> SSL.Context:
    """Build a TLS 1.2+ server context. Raises ConfigError in the operator's words."""
    for path, what in ((certificate, "certificate"), (private_key, "private_key")):
        try:
            path.read_bytes()
        except OSError as error:
            raise ConfigError(what, f"cannot read {path}: {error.strerror}") from error
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    try:
        context.use_certificate_chain_file(str(certificate))
        context.use_privatekey_file(str(private_key))
        context.check_privatekey()
    except SSL.Error as error:
        raise ConfigError("certificate", f"{certificate} and {private_key} do not load: {_reason(error)}") from error
    # A client that offers ALPN gets no protocol instead of an alert; RTMPS has no ALPN name.
    context.set_alpn_select_callback(lambda _connection, _offered: SSL.NO_OVERLAPPING_PROTOCOLS)
    return context


def _reason(error: Exception) -> str:
    """The readable part of an OpenSSL error."""
    if isinstance(error, SSL.Error) and error.args and error.args[0]:
        return "; ".join(str(part[-1]) for part in error.args[0])
    return str(error) or "not a PEM certificate chain with its key"


@implementer(IOpenSSLServerConnectionCreator)
class ReloadingCertificate:
    """Creates server connections from a certificate and key file, and follows their renewal."""

    log = Logger(namespace="relay.tls")

    def __init__(self, certificate: Path, private_key: Path, on_failure: Callable[[str], None] | None = None) -> None:
        self._paths = (certificate, private_key)
        self._on_failure = on_failure
        self._seen: Fingerprint = ()
        with contextlib.suppress(OSError):  # `load_context` says it in words
            self._seen = _fingerprint(self._paths)
        self._context = load_context(certificate, private_key)

    def serverConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        self._refresh()
        return SSL.Connection(self._context, None)

    def _refresh(self) -> None:
        try:
            seen = _fingerprint(self._paths)
        except OSError:
            return  # in the middle of a renewal: keep what works
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._context = load_context(*self._paths)
        except ConfigError as error:
            self.log.error("certificate not reloaded, the old one stays: {error}", error=str(error))
            if self._on_failure is not None:
                self._on_failure(str(error))
        else:
            self.log.info("certificate reloaded from {path}", path=str(self._paths[0]))


def classify_tls_failure(failure: Failure, handshaking: bool) -> str:
    """Return the reason code of a TLS handshake that failed, or an empty string when TLS is not why we close."""
    if failure.check(SSL.Error) is None:
        return "tls.closed" if handshaking and failure.check(ConnectionDone) is None else ""
    reason = _reason(failure.value) if isinstance(failure.value, Exception) else ""
    if "wrong version number" in reason or "http request" in reason or "packet length too long" in reason:
        return "tls.plain_rtmp"  # somebody speaks RTMP or HTTP to the TLS port
    return "tls.handshake" if handshaking else "tls.error"
