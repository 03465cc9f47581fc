# SPDX-License-Identifier: Apache-2.0
"""``where: missing``: whether a condition holds for every row without looking at the row (contract section 2).

Only what can be seen in the text counts: constants, ``x = x``, boolean algebra over them, and expressions that read no column of the
target. ``id > -2147483648`` reads one and is a condition; ``max_rows`` bounds those.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from gateway.protocols.postgres.sql.parse import Node


class Holds(Enum):
    """What is known of a condition without the target's rows."""

    ALWAYS = 1
    NEVER = 2
    WITHOUT_TARGET = 3
    DEPENDS = 4


ALWAYS, NEVER, WITHOUT_TARGET, DEPENDS = Holds.ALWAYS, Holds.NEVER, Holds.WITHOUT_TARGET, Holds.DEPENDS

_REFLEXIVE = frozenset({"=", "<=", ">=", "~=", "~~", "~~*", "@>", "<@"})
_IRREFLEXIVE = frozenset({"<>", "!=", "<", ">"})


def missing(node: Node | None, target_refs: set[int]) -> bool:
    """True when the condition is absent or does not depend on the target's rows. ``target_refs`` are the ids of the column references
    (their bodies) that read the target."""
    return node is None or not _plain(node, target_refs) and holds(node, target_refs) in (ALWAYS, WITHOUT_TARGET)


def _plain(node: Node, target_refs: set[int]) -> bool:
    """``column of the target OPERATOR constant``: depends on the row."""
    body = node.get("A_Expr")
    if body is None or body.get("kind", "AEXPR_OP") != "AEXPR_OP" or "lexpr" not in body:
        return False
    left, right = body["lexpr"].get("ColumnRef"), body["rexpr"]
    return left is not None and id(left) in target_refs and ("ParamRef" in right or "boolval" not in right.get("A_Const", _BOOLEAN))


_BOOLEAN: Node = {"boolval": {}}


def holds(node: Node, target_refs: set[int]) -> Holds:
    """What is known of a condition."""
    ((kind, body),) = node.items()
    if kind == "CurrentOfExpr":
        return DEPENDS
    known = _KNOWN[kind](body, target_refs) if kind in _KNOWN else None
    if known is not None:
        return known
    return DEPENDS if reads(node, target_refs) else WITHOUT_TARGET


def reads(node: Any, target_refs: set[int]) -> bool:
    """Whether any column reference inside reads the target."""
    waiting = [node]
    while waiting:
        at = waiting.pop()
        if isinstance(at, dict):
            if id(at) in target_refs:
                return True
            waiting.extend(at.values())
        elif isinstance(at, list):
            waiting.extend(at)
    return False


def _constant(body: Node, target_refs: set[int]) -> Holds | None:
    if body.get("isnull"):
        return NEVER
    if "boolval" in body:
        return ALWAYS if body["boolval"].get("boolval") else NEVER
    text = body.get("sval", {}).get("sval", "").strip().lower()
    if text:
        return ALWAYS if text in ("t", "true", "y", "yes", "on", "1") else NEVER
    return None


def _boolean(body: Node, target_refs: set[int]) -> Holds | None:
    found = [holds(arg, target_refs) for arg in body["args"]]
    kind = body.get("boolop")
    if kind == "NOT_EXPR":
        return {ALWAYS: NEVER, NEVER: ALWAYS}.get(found[0], found[0])
    strong, weak = (NEVER, ALWAYS) if kind == "AND_EXPR" else (ALWAYS, NEVER)
    if strong in found or (kind == "OR_EXPR" and _either(body["args"], target_refs)):
        return strong
    for answer in (DEPENDS, WITHOUT_TARGET) if kind == "AND_EXPR" else (WITHOUT_TARGET, DEPENDS):
        if answer in found:
            return answer
    return weak


def _either(args: list[Node], refs: set[int]) -> bool:
    """``x IS NULL OR x IS NOT NULL``, ``x OR NOT x``: in time that grows with the text, not with the pairs."""
    tests = [arg["NullTest"] for arg in args if "NullTest" in arg]
    kinds = {kind: {key(test["arg"], refs) for test in tests if test["nulltesttype"] == kind} for kind in ("IS_NULL", "IS_NOT_NULL")}
    negated = {key(arg["BoolExpr"]["args"][0], refs) for arg in args if arg.get("BoolExpr", {}).get("boolop") == "NOT_EXPR"}
    return bool(kinds["IS_NULL"] & kinds["IS_NOT_NULL"]) or (bool(negated) and any(key(arg, refs) in negated for arg in args))


def _operator(body: Node, target_refs: set[int]) -> Holds | None:
    kind, name = body.get("kind", "AEXPR_OP"), body["name"][-1]["String"]["sval"]
    if body.get("lexpr") is None or body.get("rexpr") is None:
        return None
    left, right = _bare(body["lexpr"]), _bare(body["rexpr"])

    def alike(other: Node) -> bool:
        return same(left, _bare(other), target_refs)

    if kind in ("AEXPR_OP", "AEXPR_LIKE", "AEXPR_ILIKE") and alike(right):
        return ALWAYS if name in _REFLEXIVE else NEVER if name in _IRREFLEXIVE else None
    if kind == "AEXPR_OP" and name in ("=", "<>"):
        return _compared(left, right, name == "=", target_refs)
    if kind in ("AEXPR_DISTINCT", "AEXPR_NOT_DISTINCT") and alike(right):
        return NEVER if kind == "AEXPR_DISTINCT" else ALWAYS
    if kind == "AEXPR_IN" and any(map(alike, right["List"]["items"])):
        return ALWAYS if name == "=" else NEVER
    if kind in ("AEXPR_BETWEEN", "AEXPR_BETWEEN_SYM") and all(map(alike, right["List"]["items"])):
        return ALWAYS
    elements = right.get("A_ArrayExpr", {}).get("elements", ())
    if elements and name in _REFLEXIVE and (any if kind == "AEXPR_OP_ANY" else all)(map(alike, elements)):
        return ALWAYS if kind in ("AEXPR_OP_ANY", "AEXPR_OP_ALL") else None
    return None


def _compared(left: Node, right: Node, equal: bool, target_refs: set[int]) -> Holds | None:
    """Constants against each other, and a condition against ``true`` or ``false``."""
    one, other = left.get("A_Const"), right.get("A_Const")
    if one is not None and other is not None:
        if one.get("isnull") or other.get("isnull"):
            return NEVER
        values = [{key: value for key, value in const.items() if key != "location"} for const in (one, other)]
        if values[0].keys() == values[1].keys():
            return ALWAYS if (values[0] == values[1]) == equal else NEVER
        return WITHOUT_TARGET
    for const, condition in ((one, right), (other, left)):
        if const is not None and "boolval" in const:
            found = holds(condition, target_refs)
            same_way = bool(const["boolval"].get("boolval")) == equal
            return found if same_way else {ALWAYS: NEVER, NEVER: ALWAYS}.get(found, found)
    return None


def _tested(body: Node, target_refs: set[int]) -> Holds | None:
    """``condition IS TRUE`` and its kin."""
    found = holds(body["arg"], target_refs)
    kind = body.get("booltesttype", "IS_TRUE")
    wanted = {"IS_TRUE": (ALWAYS,), "IS_NOT_FALSE": (ALWAYS,), "IS_FALSE": (NEVER,), "IS_NOT_TRUE": (NEVER,)}.get(kind)
    if found in (DEPENDS, WITHOUT_TARGET) or wanted is None:
        return found if found in (DEPENDS, WITHOUT_TARGET) else None
    return ALWAYS if found in wanted else NEVER


def _null_test(body: Node, target_refs: set[int]) -> Holds | None:
    argument = _bare(body["arg"])
    constant = argument.get("A_Const")
    exists = argument.get("SubLink", {}).get("subLinkType", "EXISTS_SUBLINK") == "EXISTS_SUBLINK" and "SubLink" in argument
    if constant is None and not exists and not argument.keys() & {"NullTest", "BooleanTest"}:
        return None
    null = constant is not None and bool(constant.get("isnull"))
    return ALWAYS if null == (body.get("nulltesttype", "IS_NULL") == "IS_NULL") else NEVER


def _case(body: Node, target_refs: set[int]) -> Holds | None:
    """CASE of conditions: the results that can be reached, if they agree."""
    if "arg" in body:
        return None
    reached: set[Holds] = set()
    for when in body["args"]:
        condition = holds(when["CaseWhen"]["expr"], target_refs)
        if condition is not NEVER:
            reached.add(holds(when["CaseWhen"]["result"], target_refs))
        if condition is ALWAYS:
            return reached.pop() if len(reached) == 1 else None
    reached.add(holds(body["defresult"], target_refs) if "defresult" in body else NEVER)
    return reached.pop() if len(reached) == 1 else None


def _sub_query(body: Node, target_refs: set[int]) -> Holds | None:
    """EXISTS asks for rows alone: what its target list reads does not matter. Without FROM it is its own WHERE."""
    select = body["subselect"].get("SelectStmt", {})
    if body.get("subLinkType", "EXISTS_SUBLINK") != "EXISTS_SUBLINK":
        return _itself(body, select, target_refs)
    if not select.keys() <= _SIMPLE:
        return None
    condition = holds(select["whereClause"], target_refs) if "whereClause" in select else ALWAYS
    if "fromClause" not in select:
        return condition
    return None if condition is DEPENDS or reads(select["fromClause"], target_refs) else WITHOUT_TARGET


_SIMPLE = frozenset({"targetList", "fromClause", "whereClause", "limitOption", "op"})


def _itself(body: Node, select: Node, target_refs: set[int]) -> Holds | None:
    """``x IN (SELECT x)``."""
    if body.get("subLinkType") != "ANY_SUBLINK" or "operName" in body:
        return None
    return ALWAYS if same(_bare(body["testexpr"]), _bare({"SubLink": {**body, "subLinkType": "EXPR_SUBLINK"}}), target_refs) else None


def _cast(body: Node, target_refs: set[int]) -> Holds | None:
    return holds(body["arg"], target_refs)


def _first(body: Node, target_refs: set[int]) -> Holds | None:
    """COALESCE of conditions: every one has to be known."""
    found = {holds(arg, target_refs) for arg in body["args"]}
    if ALWAYS in found and found <= {ALWAYS, DEPENDS}:
        return found.pop() if len(found) == 1 else DEPENDS
    return found.pop() if len(found) == 1 else None


_KNOWN = {
    "A_Const": _constant,
    "BoolExpr": _boolean,
    "A_Expr": _operator,
    "BooleanTest": _tested,
    "NullTest": _null_test,
    "TypeCast": _cast,
    "CoalesceExpr": _first,
    "CaseExpr": _case,
    "SubLink": _sub_query,
}


def without_casts(node: Node) -> Node:
    while "TypeCast" in node:
        node = node["TypeCast"]["arg"]
    return node


def _bare(node: Node) -> Node:
    """An expression without casts, and without a ``(SELECT x)`` around it."""
    node = without_casts(node)
    body = node.get("SubLink", {})
    select = body.get("subselect", {}).get("SelectStmt", {})
    if body.get("subLinkType") != "EXPR_SUBLINK" or not select.keys() <= _SIMPLE - {"fromClause", "whereClause"}:
        return node
    return _bare(select["targetList"][0]["ResTarget"]["val"]) if len(select.get("targetList", ())) == 1 else node


def key(node: Any, target_refs: frozenset[int] | set[int]) -> Any:
    """What two expressions have in common that read the same, wherever they stand in the text and however they name a column of
    the target."""
    if isinstance(node, dict):
        if id(node) in target_refs and "String" in node["fields"][-1]:
            return ("target", node["fields"][-1]["String"]["sval"])
        return tuple((name, key(node[name], target_refs)) for name in sorted(node) if not name.endswith("location"))
    return tuple(key(entry, target_refs) for entry in node) if isinstance(node, list) else node


def same(one: Node, other: Node, target_refs: frozenset[int] | set[int] = frozenset()) -> bool:
    """Whether two expressions read the same."""
    return one.keys() == other.keys() and key(one, target_refs) == key(other, target_refs)
