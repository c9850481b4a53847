"""Certificates for fake platforms: good ones, and each kind of wrong one. Use `Authority` from `relay.testing`."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NAMES = ("localhost", "127.0.0.1", "::1")
ELSEWHERE = ("elsewhere.example",)

_DAY = datetime.timedelta(days=1)


class Authority:
    """A certificate authority below a directory.

    Attributes:
        ca_file: what a client must trust.
    """

    def __init__(self, directory: Path, name: str = "test CA") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = _builder(self._name, self._name, self._key.public_key(), days=30).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.ca_file = directory / "ca.pem"
        self.ca_file.write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def issue(self, kind: str = "") -> tuple[Path, Path]:
        """Return the files of a certificate and its key. *kind* is a certificate fault, or empty for a good one."""
        if kind == "untrusted":
            return Authority(self._directory / "unknown", "unknown CA").issue()
        key = ec.generate_private_key(ec.SECP256R1())
        names = ELSEWHERE if kind == "wrong-host" else NAMES
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        own = kind == "self-signed"
        built = _builder(
            subject, subject if own else self._name, key.public_key(), days=-1 if kind == "expired" else 30
        )
        built = built.add_extension(x509.SubjectAlternativeName(_alternatives(names)), critical=False)
        signed = built.sign(key if own else self._key, hashes.SHA256())
        certificate, private = self._directory / f"{kind or 'good'}.pem", self._directory / f"{kind or 'good'}.key"
        certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        private.touch(mode=0o600)
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return certificate, private


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, *, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 60 * _DAY)
        .not_valid_after(now + days * _DAY)
    )


def _alternatives(names: Sequence[str]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return found
