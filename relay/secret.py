"""Secrets that cannot be printed by accident, and the redaction of what people paste where keys belong.

Rule: `reveal()` is called in audited places only; everything else sees ``***``.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import Counter, deque
from collections.abc import Iterable
from typing import NoReturn
from urllib.parse import quote
from weakref import finalize


class Secret:
    """A stream key, token or password. Formatting, comparing by ``==`` to a string and pickling never reveal it."""

    __slots__ = ("__weakref__", "_value")

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


HIDDEN = "***"
SHORTEST_REDACTED = 4
"""A secret shorter than this is not searched for in text: every line would match. The configuration warns about it."""
SHORTEST_ANYWHERE = 8
"""From this length a secret is replaced wherever it occurs, below it only when it stands alone."""
KEPT_GONE = 1_000
"""Secrets that are still hidden when the last `Secret` of theirs is gone, the newest: what a platform answered, or an
event on its way to a webhook, may quote a key minutes after its target was deleted. Some 300 kB, or 30 MB if all are
as long as a caller may write them."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,15}):[/\\]{1,2}")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,15}:[/\\]{2,3}[^\s\"'<>]+")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}(?:%[A-Za-z0-9]{1,16})?\]|[A-Za-z0-9._-]{1,253})(:[0-9]{0,5})?")
_TAIL = re.compile("[?#]")  # FMLE writes # where others write ?
_APP = re.compile(r"[A-Za-z0-9_.-]{1,32}")
_TOKEN = re.compile(r"(?=[^/]*[0-9])(?=[^/]*[A-Za-z])[A-Za-z0-9_.~%=-]{20,}")
_PARAMETER_NAME = re.compile(r"[A-Za-z_]{1,16}")
_WEB = frozenset({"http", "https", "ws", "wss"})


def redact_url(url: str) -> str:
    """Return *url* fit for a log: scheme, host, port and app stay; user info, keys and query values become ``***``.

    An RTMP address holds its key in the last path segment, and people paste keys into the server field too, so
    everything below the first segment is hidden. What is not recognised as an address is hidden whole.
    """
    scheme = _SCHEME.match(url)
    if scheme is None:
        return HIDDEN
    name = scheme[1].lower()
    rest = url[scheme.end() :].replace("\\", "/")
    found = _TAIL.search(rest)
    rest, tail = (rest, "") if found is None else (rest[: found.start()], rest[found.start() :])
    authority, slash, path = rest.partition("/")
    _user, at, host = authority.rpartition("@")
    if "@" in path or not _HOST.fullmatch(host) or ("." not in host and _TOKEN.fullmatch(host)):
        return f"{name}://{HIDDEN}"  # user info with a slash in it, no host, or a key in its place
    visible = f"{name}://{HIDDEN + '@' if at else ''}{host}{slash}"
    visible += _redact_web_path(path) if name in _WEB else _redact_media_path(path)
    return visible + (tail[0] + _redact_query(tail[1:]) if tail else "")


def _redact_media_path(path: str) -> str:
    app, slash, below = path.partition("/")
    shown = app if not app or (_APP.fullmatch(app) and not _TOKEN.fullmatch(app)) else HIDDEN
    return shown + slash + (HIDDEN if below.strip("/") else "")


def _redact_web_path(path: str) -> str:
    return "/".join(HIDDEN if _TOKEN.fullmatch(part) else part for part in path.split("/"))


def _redact_query(query: str) -> str:
    shown = []
    for part in re.split("[&;?#]", query):
        name, equals, _ = part.partition("=")
        shown.append(f"{name}={HIDDEN}" if equals and _PARAMETER_NAME.fullmatch(name) else HIDDEN)
    return "&".join(shown)


def redact_urls(text: str) -> str:
    """Return *text* with every address in it redacted."""
    if "://" not in text and ":\\\\" not in text:
        return text
    return _URL.sub(lambda found: redact_url(found[0]), text)


class Redactor:
    """Replaces known secrets in text. Last layer of defence: the log writes nothing that did not pass through it.

    Candidates are found by their first four characters, so the cost depends on the text and not on how many secrets
    there are (about 15 µs for a log line). What callers bring is forgotten in the end, or their keys would fill memory.
    """

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        self._by_prefix: dict[str, tuple[str, ...]] = {}
        self._lives: Counter[str] = Counter()
        """How many secrets look like this."""
        self._gone: deque[frozenset[str]] = deque()
        for secret in secrets:
            self.add(secret)

    def add(self, secret: Secret) -> None:
        """Hide *secret* for ever, as it is and as it looks inside a URL."""
        self._learn(_forms(secret))

    def hold(self, secret: Secret) -> None:
        """Hide *secret* for as long as anybody has it, and then until `KEPT_GONE` others have gone."""
        forms = _forms(secret)
        self._learn(forms)
        finalize(secret, self._gone.append, forms).atexit = False
        while len(self._gone) > KEPT_GONE:
            self._forget(self._gone.popleft())

    def _learn(self, forms: Iterable[str]) -> None:
        for form in forms:
            self._lives[form] += 1
            prefix = form[:SHORTEST_REDACTED]
            known = {*self._by_prefix.get(prefix, ()), form}
            self._by_prefix[prefix] = tuple(sorted(known, key=len, reverse=True))

    def _forget(self, forms: Iterable[str]) -> None:
        for form in forms:
            self._lives[form] -= 1
            if self._lives[form] > 0:
                continue
            del self._lives[form]
            prefix = form[:SHORTEST_REDACTED]
            rest = tuple(one for one in self._by_prefix[prefix] if one != form)
            if rest:
                self._by_prefix[prefix] = rest
            else:
                del self._by_prefix[prefix]

    def redact(self, text: str) -> str:
        """Return *text* with every known secret replaced by ``***``."""
        by_prefix = self._by_prefix
        if not by_prefix:
            return text
        pieces: list[str] = []
        kept = at = 0
        end = len(text) - SHORTEST_REDACTED
        while at <= end:
            candidates = by_prefix.get(text[at : at + SHORTEST_REDACTED])
            size = 0 if candidates is None else _match(text, at, candidates)
            if size:
                pieces += (text[kept:at], HIDDEN)
                at += size
                kept = at
            else:
                at += 1
        pieces.append(text[kept:])
        return "".join(pieces)


def _forms(secret: Secret) -> frozenset[str]:
    value = secret.reveal()
    forms = (value, quote(value, safe=""), quote(value))
    return frozenset(form for form in forms if len(form) >= SHORTEST_REDACTED)


def _match(text: str, at: int, candidates: tuple[str, ...]) -> int:
    if not text.startswith(candidates, at):  # all at once: a thousand keys may begin alike
        return 0
    for candidate in candidates:
        if text.startswith(candidate, at):
            size = len(candidate)
            if size >= SHORTEST_ANYWHERE or _stands_alone(text, at, at + size):
                return size
    return 0


def _stands_alone(text: str, start: int, end: int) -> bool:
    before, after = text[start - 1 : start] if start else "", text[end : end + 1]
    return not (before.isalnum() or before == "_" or after.isalnum() or after == "_")


KNOWN_SECRETS = Redactor()
"""Every secret that the configuration of this process resolved, and those that the API brought; the log observers
redact with it."""
