"""`/api/v1/openapi.json`: OpenAPI 3.1, made from the route table and the views' types; nothing is written twice."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import models_json_schema

from relay import __version__
from relay.http.router import Reply, Route

_REF = "#/components/schemas/{model}"
_PROBLEM = {
    "type": "object",
    "description": "RFC 9457. `code` is stable; `detail` is for people.",
    "required": ["type", "title", "status", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string"},
    },
}


def openapi_document(routes: Iterable[Route], *, token_needed: bool) -> dict[str, Any]:
    """Return the document for *routes*."""
    schemas: dict[str, Any] = {"Problem": _PROBLEM}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.template, {})[route.method.lower()] = _operation(route, schemas, token_needed)
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "rtmp-relay", "version": __version__},
        "paths": paths,
        "components": {"schemas": schemas},
    }
    if token_needed:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return document


def openapi_reply(routes: Iterable[Route], *, token_needed: bool) -> Reply:
    """Return the document as an answer, made once."""
    return Reply(body=json.dumps(openapi_document(routes, token_needed=token_needed)).encode())


def _operation(route: Route, schemas: dict[str, Any], token_needed: bool) -> dict[str, Any]:
    content: dict[str, Any] = {route.content_type: {}}
    if route.returns is not None:
        content = {route.content_type: {"schema": _schema(route.returns, schemas)}}
    problem = {"application/problem+json": {"schema": {"$ref": _REF.format(model="Problem")}}}
    responses: dict[str, Any] = {"200": {"description": route.summary, "content": content}}
    errors = dict(route.errors)
    if token_needed and not route.public:
        errors[401] = "The token is missing or wrong"
    for status, description in sorted(errors.items()):
        responses[str(status)] = {"description": description, "content": problem}
    operation: dict[str, Any] = {"summary": route.summary, "operationId": _operation_id(route), "responses": responses}
    names = [part[1:-1] for part in route.template.split("/") if part.startswith("{")]
    if names:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
        ]
    if route.body is not None:
        _, definitions = models_json_schema([(route.body, "validation")], ref_template=_REF)
        schemas.update(definitions["$defs"])
        reference = {"$ref": _REF.format(model=route.body.__name__)}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": reference}}}
    if token_needed and not route.public:
        operation["security"] = [{"token": []}]
    return operation


def _schema(view: type, schemas: dict[str, Any]) -> dict[str, Any]:
    """Put the schema of *view* and everything it refers to into *schemas* and return a reference to it."""
    schema = TypeAdapter(view).json_schema(ref_template=_REF, mode="serialization")
    schemas.update(schema.pop("$defs", {}))
    schemas[view.__name__] = schema
    return {"$ref": _REF.format(model=view.__name__)}


def _operation_id(route: Route) -> str:
    words = [part.strip("{}").replace(".", "_") for part in route.template.split("/") if part]
    return "_".join([route.method.lower(), *words])
