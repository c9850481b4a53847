"""Names as encoders really send them -> one app, one name, one query.

The rule: nothing leaves this module that could be mistaken for a path on our disk. Public names follow one ASCII
grammar; stream keys may be any printable text, because platforms choose them, but never hold control characters.

Encoders split an address into app and name at different places (OBS puts every path segment of its URL into app,
FFmpeg the first or the first two), so only the joined path means anything: its first segment is the app, the rest
is the stream key or the stream name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from relay.errors import RelayError
from relay.secret import Secret

MAX_NAME = 255
"""Bytes of a public name: what a file name may hold on every file system."""
MAX_SEGMENTS = 4
"""Segments of a public name. FMS knew two (application and instance); four leaves room for tenants."""
MAX_KEY = 1024
"""Bytes of a stream key. Facebook's are about 100; signed ones with an expiry reach 500."""
MAX_PARAMETERS = 64
"""Query parameters kept. A signed address needs about ten."""
MAX_ADDRESS = 4096
"""Characters read of tcUrl, app or name; the rest is not looked at (RTMP strings reach 64 KiB)."""

_SEGMENT = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_QUERY_MARK = re.compile(r"[?#]")
_QUERY_SPLIT = re.compile(r"[?#&]")
_FMS_PREFIXES = ("mp4:", "flv:", "mp3:")
_DEFAULT_PORTS = {"rtmp": 1935, "rtmps": 443}


class BadNameError(RelayError):
    """A name breaks the rules; *code* is ``name.long``, ``name.control``, ``name.dots``, ``name.grammar``..."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a publish or play command points to.

    Attributes:
        app: first segment of the path.
        name: the segments after it, joined; empty when the peer sent none. For an encoder this is its key.
        query: parameters of tcUrl, app and name, the first of each name wins.
    """

    app: str
    name: str
    query: Mapping[str, Secret] = field(default_factory=dict)


def is_public_name(name: str) -> bool:
    """Tell whether *name* may be a public stream name or app (L-NAME)."""
    try:
        check_public_name(name)
    except BadNameError:
        return False
    return True


def check_public_name(name: str) -> None:
    """Raise `BadNameError` unless *name* is a public name: 1-4 segments of ASCII letters, digits, `_.-`."""
    if len(name) > MAX_NAME:
        raise BadNameError("name.long", f"longer than {MAX_NAME} bytes")
    segments = name.split("/")
    if len(segments) > MAX_SEGMENTS:
        raise BadNameError("name.depth", f"more than {MAX_SEGMENTS} segments")
    for segment in segments:
        # fullmatch: `$` would accept a trailing newline.
        if _SEGMENT.fullmatch(segment) is None:
            raise BadNameError("name.grammar", "only A-Z a-z 0-9 _ . - are allowed, at most 128 per segment")
        if segment.startswith("."):
            raise BadNameError("name.dots", "a segment may not start with a dot")


def check_key(key: str) -> None:
    """Raise `BadNameError` unless *key* can be a stream key: printable, at most 1 KiB, no `.` or `..` segment."""
    if len(key.encode("utf-8", "surrogatepass")) > MAX_KEY:
        raise BadNameError("name.long", f"longer than {MAX_KEY} bytes")
    # isprintable is false for controls, for U+202E and its kin, and for lone surrogates.
    if not key.isprintable():
        raise BadNameError("name.control", "holds characters that cannot be printed")
    if any(segment in {".", ".."} for segment in re.split(r"[/\\]", key)):
        raise BadNameError("name.dots", "holds a dot segment")


def clean_path(text: str) -> str:
    """Return *text* percent-decoded once, without quotes, outer and double slashes and FMS's `_definst_` instance."""
    segments = unquote(text).strip(" \"'").split("/")
    return "/".join(segment for segment in segments if segment not in {"", "_definst_"})


def _undecorate(path: str) -> str:
    """Take FMS's `mp4:` and `.flv` off the last segment: the same stream is asked for with and without them."""
    parent, slash, last = path.rpartition("/")
    for prefix in _FMS_PREFIXES:
        last = last.removeprefix(prefix)
    return parent + slash + (last.removesuffix(".flv") or last)


def split_query(text: str) -> tuple[str, str]:
    """Split *text* at the first `?` or `#` (FMLE uses `#` as well, rtmp query or not)."""
    text = text[:MAX_ADDRESS].replace("...vhost...", "?vhost=")
    mark = _QUERY_MARK.search(text)
    return (text, "") if mark is None else (text[: mark.start()], text[mark.end() :])


def parse_query(text: str, into: dict[str, Secret]) -> None:
    """Add the parameters of *text* that *into* does not hold yet.

    Values are percent-decoded once; `+` stays `+`, because the challenges of Adobe authentication are raw base64.
    """
    for part in _QUERY_SPLIT.split(text.replace("&amp;", "&").strip("\"'")):
        key, _, value = part.partition("=")
        key, value = unquote(key), unquote(value)
        if key and key not in into and key.isprintable() and value.isprintable() and len(into) < MAX_PARAMETERS:
            into[key] = Secret(value)


def app_path(app: str) -> str:
    """Return the path segments of the connect object's *app*; raise `BadNameError` when it names no app.

    The first segment must be a public name; what follows may be a key, because OBS sends its whole URL path as app.
    """
    path = clean_path(split_query(app)[0])
    if not path:
        raise BadNameError("name.empty", "no app")
    first, _, rest = path.partition("/")
    check_public_name(first)
    check_key(rest)
    return path


def connect_query(tc_url: str, app: str) -> dict[str, Secret]:
    """Return the parameters of tcUrl and app; user and password of tcUrl count as the parameters `user` and `pass`."""
    query: dict[str, Secret] = {}
    place, tail = split_query(tc_url)
    parse_query(tail, query)
    parse_query(split_query(app)[1], query)
    authority = place.partition("://")[2].partition("/")[0]
    userinfo, at, _ = authority.rpartition("@")
    if at:
        user, _, password = userinfo.partition(":")
        query.setdefault("user", Secret(unquote(user)))
        query.setdefault("pass", Secret(unquote(password)))
    return query


def publish_address(app: str, tc_url: str, name: str) -> Address:
    """Join what connect and publish said; the name is a key and is checked as one."""
    address = _join(app, tc_url, name)
    check_key(address.name)
    return address


def play_address(app: str, tc_url: str, name: str) -> Address:
    """Join what connect and play said; the name must be a public name."""
    address = _join(app, tc_url, name)
    check_public_name(address.name)
    return address


def _join(app: str, tc_url: str, name: str) -> Address:
    if len(name) > MAX_ADDRESS:
        raise BadNameError("name.long", f"longer than {MAX_ADDRESS} characters")
    path = app_path(app)
    first, _, rest = path.partition("/")
    name_path, name_query = split_query(name)
    tail = clean_path(name_path)
    if not tail and not rest:
        misplaced = _misplaced_name(app)
        tail = clean_path(misplaced)
        app, tc_url = app.removesuffix("/" + misplaced), tc_url.removesuffix("/" + misplaced)
    query = connect_query(tc_url, app)
    parse_query(name_query, query)
    return Address(app=first, name=_undecorate("/".join(part for part in (rest, tail) if part)), query=query)


def _misplaced_name(app: str) -> str:
    """Find the stream in `app?k=v/stream` (FMLE). Asked only when it stands nowhere else: a token may hold slashes."""
    _, slash, tail = split_query(app)[1].rpartition("/")
    return "" if not slash or "=" in tail or "&" in tail else tail


def tc_url(scheme: str, host: str, port: int | None, app: str) -> str:
    """Build a tcUrl. The default port is left out: some platforms compare the host with the one they expect."""
    place = f"[{host}]" if ":" in host and not host.startswith("[") else host
    if port is not None and port != _DEFAULT_PORTS.get(scheme):
        place = f"{place}:{port}"
    return f"{scheme}://{place}/{app}"
