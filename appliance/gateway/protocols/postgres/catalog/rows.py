# SPDX-License-Identifier: Apache-2.0
"""Rows of the catalog queries, in text format, as values. A row of another shape raises TypeError or ValueError."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace

from gateway.protocols.postgres.catalog.model import FIRST_USER_OID, Cast, Column, Function, Operator, Relation, Type

Row = tuple[str | None, ...]
Key = tuple[int, int]
"""A relation and the number of a column, or 0 for the relation's own definition."""

_TOAST_COLUMNS = (Column("chunk_id", 1, 26), Column("chunk_seq", 2, 23), Column("chunk_data", 3, 17))


def schema(name: str) -> str:
    """A row of ``queries.SCHEMAS``."""
    return name


def relation(
    oid: str, schema: str, name: str, kind: str, persistence: str, parents: str | None, rules: str, triggers: str, rewriting: str,
    row_security: str,
) -> Relation:
    """A row of ``queries.RELATIONS``; columns and definition come from elsewhere."""
    columns = _TOAST_COLUMNS if kind == "t" else ()
    flags = (_flag(rules), _flag(triggers), _flag(row_security))
    return Relation(int(oid), schema, name, kind, columns, None, _oids(parents), *flags, persistence, _flag(rewriting))


def column(relation: str, name: str, number: str, type_oid: str, not_null: str, generated: str, default: str) -> tuple[int, Column]:
    """A row of ``queries.COLUMNS``. An expression is empty until ``with_texts`` fills it in."""
    has_default = _flag(default) and not generated
    texts = ("" if generated else None, "" if has_default else None)
    return int(relation), Column(name, int(number), int(type_oid), *texts, _flag(not_null))


def version(relation: str, number: str, version: str) -> tuple[Key, str]:
    """A row of ``queries.VERSIONS``."""
    return (int(relation), int(number)), version


def text(relation: str, number: str, definition: str | None) -> tuple[Key, str]:
    """A row of ``queries.DEFINITIONS``; NULL is for what was dropped meanwhile."""
    return (int(relation), int(number)), definition or ""


def with_columns(found: Relation, columns: Mapping[int, list[Column]], texts: Mapping[Key, str]) -> Relation:
    """A relation with its columns, their expressions and its definition."""
    own = tuple(_with_text(entry, texts.get((found.oid, entry.number), "")) for entry in columns.get(found.oid, ()))
    defined = found.kind in ("v", "m") and found.oid >= FIRST_USER_OID
    definition = texts.get((found.oid, 0), "") if defined else None
    return replace(found, columns=own or found.columns, definition=definition)


def _with_text(entry: Column, expression: str) -> Column:
    if entry.generated is not None:
        return replace(entry, generated=expression)
    return replace(entry, default=expression) if entry.default is not None else entry


def function(
    oid: str,
    schema: str,
    name: str,
    kind: str,
    arg_types: str,
    defaults: str,
    variadic: str,
    result: str,
    returns_set: str,
    volatile: str,
    strict: str,
    arg_names: str | None,
    modes: str | None,
    all_types: str | None,
    language: str,
    extension: str | None = None,
) -> Function:
    """A row of ``queries.FUNCTIONS``."""
    inputs, outputs = _arguments(arg_names, modes, all_types or arg_types)
    return Function(
        int(oid),
        schema,
        name,
        kind,
        _oids(arg_types),
        int(defaults),
        int(variadic),
        int(result),
        _flag(returns_set),
        volatile,
        _flag(strict),
        inputs,
        outputs,
        language,
        extension or "",
    )


def _arguments(names: str | None, modes: str | None, types: str | None) -> tuple[tuple[str, ...], tuple[tuple[str, int], ...]]:
    """The names of the input arguments, and the OUT and TABLE columns; modes are i in, o out, b both, v variadic, t table."""
    all_names: list[str] = json.loads(names) if names else []
    if not modes:
        return tuple(all_names), ()
    all_names = all_names or [""] * len(modes)
    inputs = [name for name, mode in zip(all_names, modes, strict=True) if mode in "ibv"]
    outputs = [(name, oid) for name, mode, oid in zip(all_names, modes, _oids(types), strict=True) if mode in "obt"]
    return tuple(inputs) if any(inputs) else (), tuple(outputs)


def operator(oid: str, schema: str, name: str, left: str, right: str, result: str, function: str) -> Operator:
    """A row of ``queries.OPERATORS``."""
    return Operator(int(oid), schema, name, int(left), int(right), int(result), int(function))


def type_(
    oid: str,
    schema: str,
    name: str,
    kind: str,
    category: str,
    element: str,
    array: str,
    relation: str,
    base: str,
    preferred: str,
    subtype: str,
) -> Type:
    """A row of ``queries.TYPES``."""
    return Type(
        int(oid),
        schema,
        name,
        kind,
        category,
        int(element),
        int(array),
        int(relation),
        int(base),
        subtype=int(subtype),
        preferred=_flag(preferred),
    )


def with_functions(types: Iterable[Type], called: Iterable[tuple[int, int]]) -> Iterable[Type]:
    """Types with the functions of ``queries.TYPE_FUNCTIONS``: a domain's checks, or what a base type is made of."""
    by_type: dict[int, list[int]] = {}
    for oid, function in called:
        by_type.setdefault(oid, []).append(function)
    for entry in types:
        functions = tuple(by_type.get(entry.oid, ()))
        if functions:
            yield replace(entry, checks=functions) if entry.kind == "d" else replace(entry, functions=functions)
        else:
            yield entry


def type_function(oid: str, function: str) -> tuple[int, int]:
    """A row of ``queries.TYPE_FUNCTIONS``."""
    return int(oid), int(function)


def cast(oid: str, source: str, target: str, function: str, context: str, method: str) -> Cast:
    """A row of ``queries.CASTS``."""
    return Cast(int(source), int(target), int(function), context, int(oid), method)


def _oids(text: str | None) -> tuple[int, ...]:
    return tuple(int(item) for item in text.split()) if text else ()


def _flag(text: str) -> bool:
    if text not in ("t", "f"):
        raise ValueError("not a boolean")
    return text == "t"
