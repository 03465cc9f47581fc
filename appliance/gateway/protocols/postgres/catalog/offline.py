# SPDX-License-Identifier: Apache-2.0
"""The catalog as a JSON document (``policy/schemas/NAME.json``), and the built-in catalog that the package ships.

The document is made for review in a pull request: one object per entry, fields that hold their default left out, in the
order of oids. Its ``format`` is 1. Built-in objects are not in it; they come from ``builtin-MAJOR.json.xz``.
"""

from __future__ import annotations

import hashlib
import json
import lzma
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from functools import lru_cache
from importlib import resources
from typing import Any, TypeVar

from gateway.errors import ConfigError
from gateway.protocols.postgres.catalog.model import (
    BuiltinCatalog,
    Cast,
    Catalog,
    Column,
    Function,
    Objects,
    Operator,
    Relation,
    Type,
)

FORMAT = 1
SHIPPED = (15, 18)
"""Major versions whose built-in catalog is in the package."""

Json = dict[str, Any]
_Value = TypeVar("_Value")
_KINDS: Mapping[str, type] = {"relations": Relation, "functions": Function, "operators": Operator, "types": Type, "casts": Cast}


def to_json(catalog: Catalog) -> Json:
    """The user objects of a catalog as a JSON document, without temporary objects."""
    return {
        "format": FORMAT,
        "server_version": catalog.server_version,
        "database": catalog.database,
        **objects_to_json(catalog.user),
    }


def dump(document: Json) -> str:
    """The document as text with one line per entry, so that a diff shows what changed."""
    parts = []
    for key, value in document.items():
        lines = ",\n".join(f"  {json.dumps(item)}" for item in value) if isinstance(value, list) else ""
        parts.append(f"{json.dumps(key)}: " + (f"[\n{lines}\n]" if lines else json.dumps(value)))
    return "{\n" + ",\n".join(parts) + "\n}\n"


def from_json(document: Json) -> Catalog:
    """The catalog of a document made by ``to_json``, over the shipped built-in catalog of the nearest version.

    Its epoch is the digest of the document. Raises ConfigError for a document of another format or shape.
    """
    if document.get("format") != FORMAT:
        raise ConfigError(f"schema file: expected an object with format: {FORMAT}")
    version, database = document.get("server_version"), document.get("database")
    if type(version) is not int or not isinstance(database, str):
        raise ConfigError("schema file: expected server_version (a number) and database (a name)")
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    return Catalog(f"sha256:{digest}", version, database, shipped_builtin(version), objects_from_json(document))


def shipped_builtin(server_version: int) -> BuiltinCatalog:
    """The shipped built-in catalog of the newest major version that is not above the server's; else the oldest."""
    return _shipped(max((major for major in SHIPPED if major <= server_version // 10000), default=SHIPPED[0]))


@lru_cache(maxsize=len(SHIPPED))
def _shipped(major: int) -> BuiltinCatalog:
    data = resources.files(__package__).joinpath(f"builtin-{major}.json.xz").read_bytes()
    document = json.loads(lzma.decompress(data))
    return BuiltinCatalog(document["server_version"], objects_from_json(document))


def builtin_to_bytes(builtin: BuiltinCatalog) -> bytes:
    """The shipped file: the same bytes for the same catalog."""
    document = {"format": FORMAT, "server_version": builtin.server_version, **objects_to_json(builtin.objects)}
    return lzma.compress(json.dumps(document, separators=(",", ":")).encode(), preset=9)


def objects_to_json(objects: Objects) -> Json:
    """One list per kind, of objects with the fields that differ from their default."""
    lists = {kind: [_dump(entry) for entry in getattr(objects, kind) if not _temporary(entry)] for kind in _KINDS}
    return {"schemas": sorted(schema for schema in objects.schemas if not _temporary_schema(schema)), **lists}


def objects_from_json(document: Json) -> Objects:
    """The inverse of ``objects_to_json``. Raises ConfigError."""
    try:
        lists: dict[str, Any] = {kind: tuple(_parse(shape, entry) for entry in document.get(kind, ())) for kind, shape in _KINDS.items()}
        return Objects(frozenset(_strings(document.get("schemas", ()))), **lists)
    except (TypeError, ValueError, AttributeError, KeyError) as fault:
        raise ConfigError("schema file: an entry has another shape than expected; pull the schema again") from fault


def _temporary(entry: Any) -> bool:
    return _temporary_schema(getattr(entry, "schema", ""))


def _temporary_schema(schema: str) -> bool:
    return schema.startswith(("pg_temp_", "pg_toast_temp_"))


def _dump(entry: Any) -> Json:
    return {item.name: _plain(value) for item in fields(entry) if (value := getattr(entry, item.name)) != _default(item)}


def _default(item: Any) -> Any:
    return item.default if item.default is not MISSING else MISSING


def _plain(value: Any) -> Any:
    if isinstance(value, Column):
        return _dump(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _parse(shape: type[_Value], entry: Json) -> _Value:
    return shape(**{name: _value(name, value) for name, value in entry.items()})


def _value(name: str, value: Any) -> Any:
    if name == "columns":
        return tuple(_parse(Column, item) for item in value)
    if name == "outputs":
        return tuple((str(label), int(oid)) for label, oid in value)
    return tuple(value) if isinstance(value, list) else value


def _strings(items: Iterable[Any]) -> list[str]:
    return [str(item) for item in items]
