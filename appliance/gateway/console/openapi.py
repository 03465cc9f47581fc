# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI 3.1 document, made from the route table and the dataclasses it names."""

from __future__ import annotations

import dataclasses
import inspect
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from gateway.console.documents import Problem
from gateway.console.routes import ROUTES, Route

VERSION = "1"
_BY_WHO: Mapping[str, tuple[int, ...]] = {
    "anybody": (503,), "caller": (400, 401, 403, 429, 503),
    "person": (400, 401, 403, 429, 503), "reader": (400, 401, 403, 429, 503), "ender": (400, 401, 403, 429, 503),
    "onlooker": (400, 401, 403, 429, 503), "watcher": (401, 403, 429, 503),
}
_SIMPLE: Mapping[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}


def document() -> dict[str, Any]:
    """The whole document; its version is that of the API, not the program's."""
    schemas: dict[str, Any] = {}
    paths: dict[str, Any] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    _schema(Problem, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Lockgate console", "version": VERSION, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {
                "caller": {"type": "http", "scheme": "bearer", "description": "The token of a robot or a person, as at a listener."},
                "person": {"type": "http", "scheme": "bearer", "description": "The token of a person."}},
        },
    }


def _operation(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": route.name, "summary": inspect.getdoc(route.handler) or "", "responses": _responses(route, schemas),
        "security": [] if route.who in ("anybody", "watcher") else [{"caller" if route.who == "caller" else "person": []}],
    }
    if parameters := _parameters(route):
        found["parameters"] = parameters
    if route.takes is not None:
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": _schema(route.takes, schemas)}}}
    return found


def _parameters(route: Route) -> list[dict[str, Any]]:
    named = [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}] if "{id}" in route.path else []
    return named + [
        {"name": name, "in": "query", "required": "minLength" in schema, "schema": dict(schema)} for name, schema in route.query.items()]


def _responses(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    media = route.gives if isinstance(route.gives, str) else "application/json"
    schema = {"type": "string"} if isinstance(route.gives, str) else _schema(route.gives, schemas)
    found: dict[str, Any] = {"200": {"description": "Done.", "content": {media: {"schema": schema}}}}
    for status in sorted({*_BY_WHO[route.who], *route.statuses}):
        found[str(status)] = {"description": "Not done.", "content": {"application/problem+json": {"schema": _reference(Problem)}}}
    if route.name == "ready":
        found["503"] = {"description": "Not ready.", "content": {"application/json": {"schema": schema}}}
    return found


def _schema(kind: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of an annotation; dataclasses go into ``schemas`` and are referred to."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _dataclass(kind, schemas)
    if kind in _SIMPLE:
        return {"type": _SIMPLE[kind]}
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        return {"type": "string", "enum": list(args)}
    if origin is tuple:
        return {"type": "array", "items": _schema(args[0], schemas)}
    if origin in (Union, types.UnionType):
        return _optional([arg for arg in args if arg is not type(None)], schemas)
    return {"type": "object", "additionalProperties": True}


def _optional(kinds: list[Any], schemas: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [*(_schema(kind, schemas) for kind in kinds), {"type": "null"}]}


def _dataclass(kind: type, schemas: dict[str, Any]) -> dict[str, Any]:
    if kind.__name__ not in schemas:
        schemas[kind.__name__] = {}
        hints = get_type_hints(kind)
        fields = dataclasses.fields(kind)
        optional = {f.name for f in fields if f.default is None}
        schemas[kind.__name__] = {
            "type": "object", "description": inspect.getdoc(kind) or "", "additionalProperties": False,
            "properties": {f.name: _schema(hints[f.name], schemas) for f in fields},
            "required": [f.name for f in fields if f.name not in optional],
        }
    return _reference(kind)


def _reference(kind: type) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}
