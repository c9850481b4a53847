"""Certificates of our own listeners: read from files, read again when the files are renewed.

Twisted's `tls:` endpoint does not notice a renewed certificate and its plain CertificateOptions abort on any client
that offers ALPN (ecosystem.md §9), so the creator is our own: one `stat` per handshake, the old certificate stays
when the new one cannot be read.
"""

from __future__ import annotations

import contextlib
import os
import re
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

_PASSPHRASE = re.compile(rb"^(?:-----BEGIN ENCRYPTED PRIVATE KEY-----|Proc-Type: 4,ENCRYPTED)", re.MULTILINE)


def _fingerprint(paths: tuple[Path, Path]) -> Fingerprint:
    stats = [os.stat(path) for path in paths]
    return tuple((stat.st_mtime_ns, stat.st_ino, stat.st_size) for stat in stats)


def load_context(certificate: Path, private_key: Path) -> SSL.Context:
    """Build a TLS 1.2+ server context. Raises ConfigError in the operator's words."""
    _read(certificate, "certificate")
    if _PASSPHRASE.search(_read(private_key, "private_key")):  # OpenSSL would ask for it at the terminal, and all waits
        advice = f"write it without one, readable by the relay alone: openssl pkey -in {private_key} -out FILE"
        raise ConfigError("private_key", f"{private_key} is protected by a passphrase; {advice}")
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


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(what, f"cannot read {path}: {error.strerror}") from error


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


def classify_tls_failure(failure: Failure, handshaking: bool) -> tuple[str, str]:
    """Return the reason code and text of TLS that failed; empty when TLS is not why the connection closes."""
    if failure.check(SSL.Error) is None:
        closed = handshaking and failure.check(ConnectionDone) is None
        return ("tls.closed", "closed during the TLS handshake") if closed else ("", "")
    reason = _reason(failure.value) if isinstance(failure.value, Exception) else ""
    if "http request" in reason:
        return "tls.plain_rtmp", "no TLS on the TLS port but plain HTTP"
    if "wrong version number" in reason or "packet length too long" in reason:
        return "tls.plain_rtmp", "no TLS on the TLS port but plain RTMP, probably: the address must begin with rtmps"
    if handshaking:
        return "tls.handshake", f"TLS handshake failed ({reason})"
    return "tls.error", f"TLS failed ({reason})"
