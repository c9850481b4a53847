"""Noticing that a stream comes back to itself: a target of ours, of ours through another relay, or of a friend's.

Nothing in RTMP says where a stream has been, so our pushes say it in the name that every client gives itself, behind
``via``: one tag for each stream of a relay that the programme has passed. The rule it guards: no stream feeds itself.
Without this, a programme whose encoder has left would keep itself on air for ever.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from relay.rtmp.client import FLASH_VER

TAG_DIGITS = 12
MOST_TAGS = 8
"""Relays in a row; the name we give ourselves stays below the 256 characters that servers keep of it."""

_VIA = re.compile(rf"; via ((?:[0-9a-f]{{{TAG_DIGITS}}} ?)+)\)$")


class Hops:
    """Makes and finds the tags of one relay. Its *secret* keeps them from being guessed and from telling names."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def name_for(self, stream: str, encoders: Iterable[str]) -> str:
        """Return what a push of *stream* calls itself, when its encoders call themselves so."""
        tags = dict.fromkeys(tag for encoder in encoders for tag in _tags(encoder))
        passed = [*tags][-MOST_TAGS + 1 :]
        return f"{FLASH_VER.removesuffix(')')}; via {' '.join([*passed, self._tag(stream)])})"

    def has_been(self, stream: str, encoder: str) -> bool:
        """Whether what *encoder* sends has passed *stream* before."""
        return self._tag(stream) in _tags(encoder)

    def _tag(self, stream: str) -> str:
        return hashlib.blake2b(stream.encode(), key=self._secret, digest_size=TAG_DIGITS // 2).hexdigest()


def _tags(encoder: str) -> list[str]:
    found = _VIA.search(encoder)
    return [] if found is None else found[1].split()
