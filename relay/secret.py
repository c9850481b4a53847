"""Secrets that cannot be printed by accident, and the redaction of what people paste where keys belong.

Rule: `reveal()` is called in audited places only; everything else sees ``***``.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import NoReturn


class Secret:
    """A stream key, token or password. Formatting, comparing by ``==`` to a string and pickling never reveal it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret itself. Every call is a place to audit."""
        return self._value

    def digest(self) -> bytes:
        """SHA-256 of the secret's UTF-8 bytes."""
        return hashlib.sha256(self._value.encode("utf-8", "surrogatepass")).digest()

    def matches(self, other: Secret) -> bool:
        """Compare in constant time."""
        return hmac.compare_digest(self.digest(), other.digest())

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.matches(other)

    def __hash__(self) -> int:
        return hash(self.digest())

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled")
