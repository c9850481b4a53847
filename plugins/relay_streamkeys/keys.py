"""Keys as digests, compared in constant time.

A key is random, so one SHA-256 is enough to store it; slow hashes are for passwords that people think of.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from typing import Generic, TypeVar

from relay.api import Secret

V = TypeVar("V")

_HASHED = re.compile(r"sha256:([0-9A-Fa-f]{64})")
_QUERY_NAMES = ("key", "token", "pass")
"""Where encoders and players put a key: ``?key=``, ``?token=``, ``?user=...&pass=...``."""


def digest_of(secret: Secret) -> tuple[bytes, int | None]:
    """Return a configured key's digest and its length; a key given as ``sha256:HEX`` has no known length."""
    value = secret.reveal()
    if value.lower().startswith("sha256:"):
        found = _HASHED.fullmatch(value.lower())
        if found is None:
            raise ValueError("a hashed key is sha256: and 64 hexadecimal digits; `rtmp-relay hash-key` writes it")
        return bytes.fromhex(found[1]), None
    return secret.digest(), len(value)


def offered_keys(query: Mapping[str, Secret]) -> list[Secret]:
    """Return the keys that a request carries in its query."""
    return [query[name] for name in _QUERY_NAMES if query.get(name)]


class KeyRing(Generic[V]):
    """Digests and what they open. Looking up takes the same time whether and where a key is found."""

    def __init__(self) -> None:
        self._entries: list[tuple[bytes, V]] = []
        self._first: dict[bytes, V] = {}

    def __bool__(self) -> bool:
        return bool(self._entries)

    def add(self, digest: bytes, value: V) -> V | None:
        """Add a key; return what it opened before, if it was there already."""
        self._entries.append((digest, value))
        before = self._first.setdefault(digest, value)
        return None if before is value else before

    def find_all(self, key: Secret) -> list[V]:
        """Return everything that *key* opens, after comparing it with every entry."""
        digest = key.digest()
        return [value for known, value in self._entries if hmac.compare_digest(known, digest)]
