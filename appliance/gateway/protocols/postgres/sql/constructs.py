# SPDX-License-Identifier: Apache-2.0
"""XML and SQL/JSON constructs: each carries everything that is in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gateway.protocols.postgres.sql.casts import cast, type_named
from gateway.protocols.postgres.sql.expressions import HANDLERS, each, expression, handles
from gateway.protocols.postgres.sql.functions import window
from gateway.protocols.postgres.sql.parse import Node
from gateway.protocols.postgres.sql.scope import Scope
from gateway.protocols.postgres.sql.values import BOOL, TEXT, Value, combine
from gateway.protocols.postgres.sql.walk import Walk
from gateway.protocols.postgres.statement import SqlFault

XML, JSON, JSONB = 142, 114, 3802

SINCE: Mapping[str, int] = {
    "JsonObjectConstructor": 16, "JsonArrayConstructor": 16, "JsonArrayQueryConstructor": 16, "JsonObjectAgg": 16,
    "JsonArrayAgg": 16, "JsonIsPredicate": 16, "JsonParseExpr": 17, "JsonScalarExpr": 17, "JsonSerializeExpr": 17,
    "JsonFuncExpr": 17, "JsonTable": 17,
}  # fmt: skip
"""The major version that made a construct of what older servers read as a function of that name."""


@handles("XmlExpr")
def _xml(walk: Walk, body: Node, scope: Scope) -> Value:
    named = [entry["ResTarget"]["val"] for entry in body.get("named_args", ())]
    values = each(walk, [*named, *body.get("args", ())], scope)
    walk.compare(values)
    return combine(values, BOOL if body.get("op") == "IS_DOCUMENT" else XML)


@handles("XmlSerialize")
def _xml_serialize(walk: Walk, body: Node, scope: Scope) -> Value:
    return cast(walk, expression(walk, body["expr"], scope), type_named(walk, body["typeName"]))


def need_version(walk: Walk, kind: str) -> None:
    """Raise ``SqlFault`` 0A000 where the target would read the construct as something else."""
    if walk.version < SINCE[kind] * 10000:
        raise SqlFault("0A000", f"this server has no {kind}; its functions of that name can be called when quoted")


def parts(walk: Walk, body: Node, scope: Scope) -> list[Value]:
    """The values of every expression inside a SQL/JSON construct."""
    return [value for child in _children(body) for value in _part(walk, child, scope)]


def _children(body: Node) -> Iterator[Node]:
    for key, child in body.items():
        if key in ("typeName", "over"):
            continue
        if isinstance(child, dict):
            yield child
        elif isinstance(child, list):
            yield from (entry for entry in child if isinstance(entry, dict))


def _part(walk: Walk, node: Node, scope: Scope) -> list[Value]:
    if len(node) == 1 and next(iter(node)) in HANDLERS:
        return [expression(walk, node, scope)]
    if "SelectStmt" in node:
        return [HANDLERS["SubLink"](walk, {"subLinkType": "EXPR_SUBLINK", "subselect": node}, scope)]
    if "SortBy" in node:
        expression(walk, node["SortBy"]["node"], scope)
        return []
    return parts(walk, node, scope)


def returning(body: Node) -> Node | None:
    """The TypeName of a RETURNING clause, wherever the construct keeps it."""
    for key in ("output", "constructor"):
        found = body.get(key)
        if isinstance(found, dict):
            return found.get("typeName") or returning(found)
    return None


def _json(kind: str, default: int) -> None:
    def handler(walk: Walk, body: Node, scope: Scope) -> Value:
        need_version(walk, kind)
        values = parts(walk, body, scope)
        walk.compare(values)
        for inner in (body, body.get("constructor", {})):
            if "over" in inner:
                window(walk, inner["over"], scope)
        named = returning(body)
        made = combine(values, default)
        return cast(walk, made, type_named(walk, named)) if named else made

    HANDLERS[kind] = handler


for _kind, _type in {
    "JsonObjectConstructor": JSON, "JsonArrayConstructor": JSON, "JsonArrayQueryConstructor": JSON, "JsonObjectAgg": JSON,
    "JsonArrayAgg": JSON, "JsonIsPredicate": BOOL, "JsonParseExpr": JSON, "JsonScalarExpr": JSON, "JsonSerializeExpr": TEXT,
    "JsonFuncExpr": 0,
}.items():  # fmt: skip
    _json(_kind, _type)
