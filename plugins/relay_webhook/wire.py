"""What is said and answered: JSON documents, their signature, and what an answer means.

Pure functions. The rule it guards: only an answer that is right in every part lets anybody in, and no text of the
service reaches a log line with the key in it that it was asked about.
"""

from __future__ import annotations

import hmac
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from urllib.parse import quote

from pydantic import Field, ValidationError

from relay.api import (
    Allow,
    ConfigModel,
    Decision,
    Deny,
    Event,
    PlayRequest,
    PublishRequest,
    Secret,
    is_public_name,
    redact_urls,
)

VERSION = 1
"""Of the documents. Fields are added without a new version; a service ignores those that it does not know."""

MAX_TEXT = 200
"""Characters kept of a sentence of the service: it goes into a log line, or to an encoder that shows it in a box."""
SHORTEST_HIDDEN = 4
"""A key shorter than this is not looked for in text: it would be found in every word."""

_CREDENTIALS = ("key", "token", "pass")
"""Parameters that hold a key. With one of them the path of the address names the stream; else it is the key."""


class BadAnswerError(Exception):
    """The service answered something that is no decision."""


class Answer(ConfigModel):
    """What the service may answer. Unknown fields are refused: a misspelt one must not change what is decided."""

    allow: bool
    reason: str = ""
    """Why not, for the operator."""
    public: str = ""
    """Why not, for the encoder or player."""
    stream_name: str = ""
    feed: str = "primary"
    priority: int = Field(default=0, ge=0, le=99)


# What is sent.


def question(request: PublishRequest | PlayRequest) -> bytes:
    """Return the document that asks for a decision. It holds the key, so it is for the body of a request only."""
    document: dict[str, object] = {
        "version": VERSION,
        "ask": "publish" if isinstance(request, PublishRequest) else "play",
        "connection_id": request.connection_id,
        "peer": request.peer,
        "tls": request.tls,
        "app": request.app,
        "query": {name: value.reveal() for name, value in request.query.items()},
    }
    if isinstance(request, PublishRequest):
        document["stream_key"] = request.stream_key.reveal()
    else:
        document["stream_name"] = request.stream_name
    return json.dumps(document).encode()


def told(event: Event) -> dict[str, object]:
    """Return an event as a part of a document."""
    return {"event": type(event).__name__, **{name: _plain(value) for name, value in asdict(event).items()}}


def _plain(value: object) -> object:
    if isinstance(value, str):
        return redact_urls(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no word for it
    return value


def report(instance: str, dropped: int, events: Sequence[Mapping[str, object]]) -> bytes:
    """Return the document that tells *events*; *dropped* were lost since the start."""
    return json.dumps(
        {"version": VERSION, "instance": instance, "dropped": dropped, "events": events}, default=str
    ).encode()


def signature(secret: Secret, at: int, body: bytes) -> str:
    """Return ``t=SECONDS,v1=HEX``: HMAC-SHA256 over ``SECONDS.BODY``, so that a request cannot be used again later."""
    signed = hmac.digest(secret.reveal().encode(), f"{at}.".encode() + body, "sha256")
    return f"t={at},v1={signed.hex()}"


# What is answered.


def decision(body: bytes, request: PublishRequest | PlayRequest) -> Decision:
    """Return what the answer *body* decides. Raises BadAnswerError when that is not clear."""
    answer = _read(body, secrets_of(request))
    if not answer.allow:
        reason = clean(answer.reason, secrets_of(request)) or "no reason given"
        return Deny(reason=f"the service refused: {reason}", public=clean(answer.public, secrets_of(request)))
    if isinstance(request, PlayRequest):
        if answer.stream_name not in ("", request.stream_name):
            raise BadAnswerError("another stream_name: a player cannot be sent to another stream")
        return Allow(stream_name=request.stream_name)
    name = answer.stream_name or _named(request)
    if not name:
        raise BadAnswerError("allow without stream_name: what stands in the address is the key")
    if not is_public_name(name):
        raise BadAnswerError("a stream_name that is none: 1 to 4 segments of A-Z a-z 0-9 _ . - are allowed")
    if not is_public_name(answer.feed) or "/" in answer.feed:
        raise BadAnswerError("a feed that is no name: A-Z a-z 0-9 _ . - are allowed")
    return Allow(stream_name=name, feed=answer.feed, priority=answer.priority)


def _read(body: bytes, hidden: Sequence[Secret]) -> Answer:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise BadAnswerError("no JSON") from None
    try:
        return Answer.model_validate(document, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = clean(".".join(map(str, first["loc"])), hidden)
        raise BadAnswerError(f"JSON that is no answer: {field or 'the document'}: {first['msg']}") from None


def _named(request: PublishRequest) -> str:
    """The stream that the address names, when its key stands in the query."""
    return request.stream_key.reveal() if any(request.query.get(name) for name in _CREDENTIALS) else ""


def secrets_of(request: PublishRequest | PlayRequest) -> list[Secret]:
    """Return what a question holds that no line may show."""
    path = [request.stream_key] if isinstance(request, PublishRequest) else []
    return [*path, *request.query.values()]


def clean(text: str, secrets: Iterable[Secret]) -> str:
    """Return a sentence of the service fit for a line: short, printable, without addresses' secrets and *secrets*."""
    for value in sorted((secret.reveal() for secret in secrets), key=len, reverse=True):
        if len(value) >= SHORTEST_HIDDEN:
            text = text.replace(value, "***").replace(quote(value, safe=""), "***")
    text = "".join(char if char.isprintable() else " " for char in text[: MAX_TEXT * 8])
    return redact_urls(text)[:MAX_TEXT].strip()
