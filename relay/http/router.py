"""Method and path -> a function. The table of routes is also what the OpenAPI document is made from.

A route's function takes a `Call` and returns a view (encoded by its declared type) or a `Reply`; it may be a
coroutine. It raises `Problem` for anything the caller did wrong.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from relay.config_file import did_you_mean
from relay.http.problems import Problem, not_found


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request, decoded. *headers* has lower-case names."""

    method: str
    path: str
    peer: str
    params: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer that is not simply a view."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[bytes, bytes] = field(default_factory=dict)


Respond = Callable[[Call], Any | Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One line of the table.

    *template* is a path such as ``/api/v1/streams/{stream}``; a parameter is one segment, decoded once, and may hold
    an encoded slash. *returns* is the type of the view, None when the function returns a `Reply`.
    """

    method: str
    template: str
    summary: str
    respond: Respond
    returns: type | None = None
    body: type[BaseModel] | None = None
    public: bool = False
    content_type: str = "application/json"
    errors: Mapping[int, str] = field(default_factory=dict)

    def match(self, segments: Sequence[str]) -> dict[str, str] | None:
        """Return the parameters when *segments* fit the template, else None."""
        pattern = self.template.strip("/").split("/")
        if len(pattern) != len(segments):
            return None
        params: dict[str, str] = {}
        for expected, segment in zip(pattern, segments, strict=True):
            if expected.startswith("{"):
                params[expected[1:-1]] = segment
            elif expected != segment:
                return None
        return params


class Router:
    """The table. The first route that fits wins; HEAD is served by GET."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._adapters: dict[str, TypeAdapter[Any]] = {
            f"{route.method} {route.template}": TypeAdapter(route.returns) for route in self.routes if route.returns
        }

    def find(self, method: str, segments: Sequence[str]) -> tuple[Route, dict[str, str]]:
        """Return the route and its parameters.

        Raises:
            Problem: 404, or 405 with the methods that are allowed.
        """
        allowed: set[str] = set()
        for route in self.routes:
            params = route.match(segments)
            if params is None:
                continue
            if route.method == ("GET" if method == "HEAD" else method):
                return route, params
            allowed |= {route.method, "HEAD"} if route.method == "GET" else {route.method}
        if not allowed:
            raise not_found()
        raise method_not_allowed(allowed)

    def encode(self, route: Route, result: Any) -> Reply:
        """Turn what a route's function returned into an answer."""
        if isinstance(result, Reply):
            return result
        return Reply(
            body=self._adapters[f"{route.method} {route.template}"].dump_json(result), content_type=route.content_type
        )


def method_not_allowed(allowed: Iterable[str]) -> Problem:
    """Return the 405."""
    return Problem(405, "method.refused", headers={b"Allow": ", ".join(sorted(allowed)).encode()})


Model = TypeVar("Model", bound=BaseModel)


def read_body(call: Call, model: type[Model]) -> Model:
    """Read a JSON body strictly: one object, every name once, no NaN, only known fields.

    Raises:
        Problem: 415 for another content type (a plain HTML form can send text/plain), 400 with the path otherwise.
    """
    if call.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Problem(415, "body.type", "Send application/json.")
    try:
        values = json.loads(call.body, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        raise Problem(400, "body.json", "The body is not valid JSON.") from None
    try:
        return model.model_validate(values, strict=True, extra="forbid")
    except ValidationError as error:
        first = error.errors(include_input=False, include_context=False, include_url=False)[0]
        path = ".".join(str(part)[:64] for part in first["loc"])
        said = _in_words(model, first)
        raise Problem(400, "body.invalid", f"{path}: {said}" if path else said) from None


def _in_words(model: type[BaseModel], detail: ErrorDetails) -> str:
    """Say what is wrong as `check-config` says it: an unknown name with the one that was meant."""
    if detail["type"] == "extra_forbidden":
        known = model.model_fields if len(detail["loc"]) == 1 else ()
        return "unknown name" + did_you_mean(str(detail["loc"][-1])[:64], known)
    return detail["msg"].removeprefix("Value error, ")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a name occurs twice")
    return values


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)
