# SPDX-License-Identifier: Apache-2.0
"""The name of a result column that has no AS (FigureColname in parse_target.c)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.protocols.postgres.sql.parse import Node

_FIXED = {
    "CoalesceExpr": "coalesce", "GroupingFunc": "grouping", "RowExpr": "row", "A_ArrayExpr": "array", "MergeSupportFunc": "merge_action",
    "XmlSerialize": "xmlserialize", "JsonParseExpr": "json", "JsonScalarExpr": "json_scalar", "JsonSerializeExpr": "json_serialize",
    "JsonObjectConstructor": "json_object", "JsonArrayConstructor": "json_array", "JsonArrayQueryConstructor": "json_array",
    "JsonObjectAgg": "json_objectagg", "JsonArrayAgg": "json_arrayagg",
}  # fmt: skip
_XML = {
    "IS_XMLCONCAT": "xmlconcat", "IS_XMLELEMENT": "xmlelement", "IS_XMLFOREST": "xmlforest", "IS_XMLPARSE": "xmlparse",
    "IS_XMLPI": "xmlpi", "IS_XMLROOT": "xmlroot",
}  # fmt: skip
_JSON = {"JSON_EXISTS_OP": "json_exists", "JSON_QUERY_OP": "json_query", "JSON_VALUE_OP": "json_value"}


def column_name(node: Node) -> str:
    """The name the target would give; ``?column?`` where it gives none."""
    return _figure(node)[0] or "?column?"


def _figure(node: Node) -> tuple[str, int]:
    """(name, strength): a name of strength 2 wins over one of strength 1 around it."""
    ((kind, body),) = node.items() if len(node) == 1 else (("", {}),)
    if kind in _FIXED:
        return _FIXED[kind], 2
    found = _NAMERS.get(kind)
    return found(body) if found else ("", 0)


def _column_ref(body: Any) -> tuple[str, int]:
    names = [entry["String"]["sval"] for entry in body["fields"] if "String" in entry]
    return (names[-1], 2) if names else ("", 0)


def _indirection(body: Any) -> tuple[str, int]:
    names = [entry["String"]["sval"] for entry in body["indirection"] if "String" in entry]
    return (names[-1], 2) if names else _figure(body["arg"])


def _cast(body: Any) -> tuple[str, int]:
    name, strength = _figure(body["arg"])
    return (name, strength) if strength > 1 else (body["typeName"]["names"][-1]["String"]["sval"], 1)


def _case(body: Any) -> tuple[str, int]:
    name, strength = _figure(body.get("defresult", {"": {}}))
    return (name, strength) if strength > 1 else ("case", 1)


def _sublink(body: Any) -> tuple[str, int]:
    kind = body.get("subLinkType")
    if kind == "EXISTS_SUBLINK":
        return "exists", 2
    if kind == "ARRAY_SUBLINK":
        return "array", 2
    return (first_target(body["subselect"]["SelectStmt"]), 2) if kind == "EXPR_SUBLINK" else ("", 0)


def first_target(select: Any) -> str:
    """The name of the first result column of a SelectStmt body."""
    while "larg" in select:
        select = select["larg"]
    if "valuesLists" in select:
        return "column1"
    target = select["targetList"][0]["ResTarget"] if select.get("targetList") else {}
    return str(target["name"]) if "name" in target else column_name(target.get("val", {"": {}}))


_NAMERS: dict[str, Callable[[Any], tuple[str, int]]] = {
    "ColumnRef": _column_ref,
    "A_Indirection": _indirection,
    "FuncCall": lambda body: (body["funcname"][-1]["String"]["sval"], 2),
    "A_Expr": lambda body: ("nullif", 2) if body.get("kind") == "AEXPR_NULLIF" else ("", 0),
    "TypeCast": _cast,
    "CollateClause": lambda body: _figure(body["arg"]),
    "CaseExpr": _case,
    "SubLink": _sublink,
    "MinMaxExpr": lambda body: ("greatest" if body.get("op") == "IS_GREATEST" else "least", 2),
    "SQLValueFunction": lambda body: (body.get("op", "").removeprefix("SVFOP_").removesuffix("_N").lower(), 2),
    "XmlExpr": lambda body: (_XML.get(body.get("op", ""), ""), 2 if body.get("op") in _XML else 0),
    "JsonFuncExpr": lambda body: (_JSON.get(body.get("op", ""), ""), 2),
}
