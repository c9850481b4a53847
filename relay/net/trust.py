"""Whom we believe to be a destination: CAs, what they have revoked, or one certificate by its fingerprint.

The rule it guards (reliability.md cases 134 and 135): a certificate is always checked, and what is wrong with it is
known by OpenSSL's number; there is no way to turn that off.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from OpenSSL import SSL
from OpenSSL.crypto import X509, X509StoreFlags
from twisted.internet._idna import _idnaBytes
from twisted.internet._sslverify import (
    ClientTLSOptions,  # optionsForClientTLS does not let us note why a certificate is not accepted
    IOpenSSLTrustRoot,  # the only way to add a CA beside the system's
)
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import CertificateOptions, TLSVersion, platformTrust
from zope.interface import implementer

from relay.errors import ConfigError
from relay.localfiles import load_authorities, load_revoked
from relay.net.failures import WRONG_FINGERPRINT


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What a certificate must be. Without anything: signed by a CA of the system's, for the host connected to."""

    ca_file: Path | None = None
    """CAs beside the system's."""
    crl_file: Path | None = None
    """Revocation lists: one of every CA on the way to the root, or nothing is believed."""
    fingerprint: bytes | None = None
    """SHA-256 of the only certificate that is good, whoever signed it."""


SYSTEM = Trust()


def connections_to(host: str, trust: Trust, note: Callable[[int], None]) -> IOpenSSLClientConnectionCreator:
    """Return what makes TLS connections to *host*. *note* is told OpenSSL's number for what is wrong.

    Raises ConfigError when a file of *trust* cannot be used.
    """
    if trust.fingerprint is not None:
        return _Pinned(host, trust.fingerprint, note)
    context = client_context(trust)
    creator: IOpenSSLClientConnectionCreator = ClientTLSOptions(
        lambda _protocol: _NotingConnection(context, note), host
    )
    return creator


def client_tls(
    host: str, *, ca_file: Path | None, on_bad_certificate: Callable[[int], None] = lambda _: None
) -> IOpenSSLClientConnectionCreator:
    """Return what makes TLS connections to *host*, trusting the system's CAs and those in *ca_file*.

    *on_bad_certificate* is told OpenSSL's number. Raises ConfigError when *ca_file* cannot be used.
    """
    return connections_to(host, Trust(ca_file=ca_file), on_bad_certificate)


_CONTEXTS: WeakValueDictionary[tuple[object, ...], SSL.Context] = WeakValueDictionary()
"""Contexts in use. The CAs in one take a megabyte, so destinations that trust the same share it; the last connection
of a context takes it along, and with it what was read from files that may have changed since."""


def client_context(trust: Trust) -> SSL.Context:
    """Return a context that asks the CAs of *trust*. Raises ConfigError in the operator's words."""
    key = (*_stamp("ca_file", trust.ca_file), *_stamp("crl_file", trust.crl_file))
    context = _CONTEXTS.get(key)
    if context is None:
        root = platformTrust() if trust.ca_file is None else SystemAndFile(trust.ca_file)
        with _named("ca_file"):
            context = CertificateOptions(trustRoot=root, raiseMinimumTo=TLSVersion.TLSv1_2).getContext()
        if trust.crl_file is not None:
            _look_for_revoked(context, trust.crl_file)
        _CONTEXTS[key] = context
    return context


@contextmanager
def _named(option: str) -> Iterator[None]:
    """Say of which option an error about a file is."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(option, error.message) from error


def _stamp(option: str, path: Path | None) -> tuple[object, ...]:
    """Return what changes when a file does."""
    if path is None:
        return (None,)
    try:
        status = path.stat()
    except OSError as error:
        raise ConfigError(option, f"cannot read {path}: {error.strerror}") from error
    return path, status.st_mtime_ns, status.st_size, status.st_ino


def _look_for_revoked(context: SSL.Context, path: Path) -> None:
    """Have every certificate of a chain but the root's looked for in the lists of *path*."""
    store = context.get_cert_store()
    assert store is not None  # noqa: S101 - None for a context without SSL_CTX only
    with _named("crl_file"):
        lists = load_revoked(path)
    for one in lists:
        store.add_crl(one)
    store.set_flags(X509StoreFlags.CRL_CHECK | X509StoreFlags.CRL_CHECK_ALL)


@implementer(IOpenSSLTrustRoot)
class SystemAndFile:
    """Trusts the system's CAs and one file of the operator's."""

    def __init__(self, ca_file: Path) -> None:
        self._ca_file = ca_file

    def _addCACertsToContext(self, context: SSL.Context) -> None:
        context.set_default_verify_paths()
        load_authorities(context, self._ca_file)


@implementer(IOpenSSLClientConnectionCreator)
class _Pinned:
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
