"""Files of this machine that a configuration names, and what each must hold.

An option says it by its type: `LocalFile` can be read, `AuthorityFile` holds CAs, `RevocationFile` what they revoked.
The rule it guards: check-config and a connection find the same files unusable, in the same words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, get_args

from cryptography import x509
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from OpenSSL import SSL

from relay.config_file import LocalPath
from relay.config_lines import Path as TablePath
from relay.errors import ConfigError

_CERTIFICATE = re.compile(rb"-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----")
_REVOKED = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)


def load_authorities(context: SSL.Context, path: Path) -> None:
    """Let *context* trust the CAs of a PEM file. Raises ConfigError without a path of the configuration."""
    wrong = ConfigError("", f"{path} is not a file of PEM certificates")
    if _CERTIFICATE.search(_read(path)) is None:  # OpenSSL is content with a revocation list
        raise wrong
    try:
        context.load_verify_locations(str(path))
    except SSL.Error as error:
        raise wrong from error


def load_revoked(path: Path) -> list[x509.CertificateRevocationList]:
    """Return the lists of a PEM file, at least one. Raises ConfigError without a path of the configuration."""
    wrong = ConfigError("", f"{path} is not a file of PEM revocation lists")
    try:
        lists = [x509.load_pem_x509_crl(found) for found in _REVOKED.findall(_read(path))]
    except ValueError as error:
        raise wrong from error
    if not lists:
        raise wrong
    return lists


def _read(path: Path, most: int = -1) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(most)
    except OSError as error:
        raise ConfigError("", f"cannot read {path}: {error.strerror or error}") from error


@dataclass(frozen=True, slots=True)
class Content:
    """What a file must hold: *check* raises ConfigError when it does not, *advice* says what to write instead."""

    check: Callable[[Path], object]
    advice: str = ""

    def complaint(self, path: Path) -> str:
        """Say why the file cannot be used, and what to write; empty when it can."""
        try:
            self.check(path)
        except ConfigError as error:
            return f"{error.message}; {self.advice}" if self.advice else error.message
        return ""


READABLE = Content(lambda path: _read(path, 0))

LocalFile = Annotated[LocalPath, READABLE]
"""A file of any content."""

AuthorityFile = Annotated[
    LocalPath,
    Content(
        lambda path: load_authorities(SSL.Context(SSL.TLS_CLIENT_METHOD), path),
        "write the path of a PEM file with the CAs' certificates (-----BEGIN CERTIFICATE-----)",
    ),
]
"""A PEM file of the CAs to trust beside the system's."""

RevocationFile = Annotated[
    LocalPath,
    Content(load_revoked, "write the path of a PEM file with the CAs' revocation lists (-----BEGIN X509 CRL-----)"),
]
"""A PEM file of what CAs have revoked."""


def find_files(value: object, path: TablePath = ()) -> Iterator[tuple[TablePath, Path, Content]]:
    """Yield every file inside models, dicts, lists and tuples, with its path in the configuration and its content."""
    if isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            item, content = getattr(value, name), _content(field)
            if isinstance(item, Path) and content is not None:
                yield (*path, name), item, content
            else:
                yield from find_files(item, (*path, name))
        yield from find_files(value.__pydantic_extra__ or {}, path)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from find_files(item, (*path, key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from find_files(item, (*path, index))


def _content(field: FieldInfo) -> Content | None:
    """Return what stands beside the type of an option, also of one that may be None."""
    alternatives = get_args(field.annotation)
    marks = [*field.metadata, *(mark for one in alternatives for mark in getattr(one, "__metadata__", ()))]
    return next((mark for mark in marks if isinstance(mark, Content)), None)
