"""A certificate authority made for a test, and TLS connections that trust it."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from OpenSSL import SSL
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from relay.net.accept import SecureFactory
from relay.net.tls import ReloadingCertificate
from tests.helpers.reactor import NetTestCase, reactor, until
from tests.helpers.streams import End

DAY = timedelta(days=1)


class Authority:
    """Signs certificates and writes them as PEM files into one directory. One *above* it signs its own."""

    def __init__(self, directory: Path, name: str = "test CA", above: Authority | None = None) -> None:
        self.directory = directory
        self._above = above
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        signer = above or self
        builder = _builder(self._name, signer._name, self._key.public_key(), now - DAY, now + 10 * DAY)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.certificate = builder.sign(signer._key, hashes.SHA256())
        self.file = directory / f"{name.replace(' ', '-')}.pem"
        self.file.write_bytes(_pem(self.certificate))

    def issue(
        self, stem: str = "server", host: str = "localhost", *, days: float = 5, self_signed: bool = False
    ) -> tuple[Path, Path]:
        """Write a certificate and its key; return both paths. Negative *days*: it expired so long ago."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        end = datetime.now(UTC) + days * DAY
        builder = _builder(name, name if self_signed else self._name, key.public_key(), end - 30 * DAY, end)
        builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(host)]), critical=False)
        signed = builder.sign(key if self_signed else self._key, hashes.SHA256())
        certificate, private_key = self.directory / f"{stem}.pem", self.directory / f"{stem}.key"
        certificate.write_bytes(_pem(signed) + (b"" if self._above is None else _pem(self.certificate)))
        private_key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return certificate, private_key

    def revoke(self, *certificates: x509.Certificate, days: float = 5) -> bytes:
        """Return a revocation list of these certificates. Negative *days*: the list expired so long ago."""
        end = datetime.now(UTC) + days * DAY
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._name)
        builder = builder.last_update(end - 30 * DAY).next_update(end)
        for one in certificates:
            entry = x509.RevokedCertificateBuilder().serial_number(one.serial_number).revocation_date(end - 10 * DAY)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=key,
        serial_number=x509.random_serial_number(),
        not_valid_before=start,
        not_valid_after=end,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def tls_factory(certificate: ReloadingCertificate, factory: Factory) -> Any:
    """Wrap *factory* for a TLS listener."""
    return SecureFactory(certificate, False, factory)


class ClientCreator:
    """Makes client connections that trust nobody and everybody: who is tested is the server."""

    def __init__(self, *, alpn: list[bytes] | None = None, maximum: int = 0) -> None:
        self._context = SSL.Context(SSL.TLS_METHOD)
        if maximum:
            self._context.set_cipher_list(b"ALL:@SECLEVEL=0")
            self._context.set_min_proto_version(SSL.TLS1_VERSION)
            self._context.set_max_proto_version(maximum)
        if alpn is not None:
            self._context.set_alpn_protos(alpn)

    def clientConnectionForTLS(self, _protocol: object) -> SSL.Connection:
        """Part of IOpenSSLClientConnectionCreator."""
        return SSL.Connection(self._context, None)


@implementer(IHandshakeListener)
class TlsEnd(End):
    """One end of a TLS connection."""

    def __init__(self) -> None:
        super().__init__()
        self.secure = False
        self.reason: Any = None

    def handshakeCompleted(self) -> None:
        self.secure = True

    def connectionLost(self, reason: object = None) -> None:
        super().connectionLost(reason)
        self.reason = reason

    @property
    def serial(self) -> int:
        """Serial number of the peer's certificate."""
        return int(self.transport.getPeerCertificate().get_serial_number())


async def tls_client(port: int, creator: ClientCreator | None = None, end: End | None = None) -> Any:
    """Connect to a TLS port; return the end, whose handshake goes on by itself."""
    from twisted.internet._sslverify import IOpenSSLClientConnectionCreator
    from zope.interface import directlyProvides

    creator = creator or ClientCreator()
    directlyProvides(creator, IOpenSSLClientConnectionCreator)
    end = end or TlsEnd()
    factory = Factory.forProtocol(lambda: end)  # type: ignore[arg-type]
    factory.noisy = False
    wrapped = TLSMemoryBIOFactory(creator, True, factory)
    wrapped.noisy = False
    await TCP4ClientEndpoint(reactor, "127.0.0.1", port).connect(wrapped)
    return end


async def tls_pair(test: NetTestCase, authority: Authority) -> tuple[End, End]:
    """The accepted end and the connecting end of a TLS connection over loopback."""
    accepted: list[End] = []

    def build(_: object) -> End:
        accepted.append(TlsEnd())
        return accepted[-1]

    factory = Factory()
    factory.noisy = False
    factory.buildProtocol = build  # type: ignore[method-assign,assignment]
    port = test.listen(tls_factory(ReloadingCertificate(*authority.issue()), factory))
    client = await tls_client(port)
    await until(lambda: client.secure and accepted and accepted[0].secure, "TLS on both ends")  # type: ignore[attr-defined]
    return accepted[0], client
