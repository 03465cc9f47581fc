# SPDX-License-Identifier: Apache-2.0
"""Conditions that tell nothing about the rows they are tried on.

PostgreSQL may try a caller's condition on a row before, or without, a filter's: one that fails (``1 / (x - 5) > 0``) or writes what it sees
would tell of rows that are hidden. *Quiet* are comparisons of columns with constants, parameters or one another by operators that
PostgreSQL itself marks leakproof (pg_proc.proleakproof, 15 to 18), joined by AND, OR, NOT. Only beside them may a filter be a
condition like any other, so that the target's planner can use every index; anything else is kept behind a fence.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any

from gateway.protocols.postgres.sql.parse import Node

CLASSES = ({20, 21, 23}, {25, 1043}, {16}, {19}, {26}, {1042}, {1082}, {1114}, {1184}, {2950})
"""Types of which all comparisons within a class are leakproof: int8 with int2 and int4, text with varchar, bool, name, oid, char(n), date,
timestamp, timestamptz, uuid. Not numeric and enumerations, nor date with timestamp."""
_OF = {oid: number for number, oids in enumerate(CLASSES) for oid in oids}
_NAMED = {"int2": 21, "int4": 23, "int8": 20, "text": 25, "varchar": 1043, "bool": 16, "date": 1082, "timestamp": 1114,
          "timestamptz": 1184, "uuid": 2950}
_SURE = frozenset({(21, 23), (21, 20), (23, 20), (25, 1043), (1043, 25)})
"""Casts of a parameter of one type to another that fail for no value."""
_OPERATORS = frozenset({"=", "<>", "<", "<=", ">", ">="})
_INT8 = 1 << 63

Class = int | None
"""Of a value: the number of its class; ``None`` where it takes the class of the other side; below 0 where it is not quiet."""
LOUD = -1


class Quiet:
    """``types_of`` gives the types of every column that a name could mean in the statement, none where it could be another thing.
    ``parameters`` are the types that the caller gave to ``$1`` and on, 0 for none, ``None`` where they are not known; ``uses`` are the
    casts that each is given anywhere in the statement (``uses_of``); ``others`` names operators that users made too."""

    def __init__(self, types_of: Callable[[str], Sequence[int]], parameters: Sequence[int] | None, others: Container[str],
                 uses: Mapping[int, set[str]] | None = None) -> None:
        self._types_of, self._parameters, self._uses = types_of, parameters, uses or {}
        self._operators = frozenset(name for name in _OPERATORS if name not in others)

    def is_quiet(self, node: Node) -> bool:
        """Whether a condition is quiet."""
        ((kind, body),) = node.items()
        match kind:
            case "BoolExpr":
                return all(map(self.is_quiet, body["args"]))
            case "NullTest":
                return self._class(body["arg"]) != LOUD and "ColumnRef" in body["arg"]
            case "BooleanTest":
                return self._is_bool(body["arg"])
            case "A_Const":
                return "boolval" in body or bool(body.get("isnull"))
            case "ColumnRef":
                return self._is_bool(node)
            case "A_Expr":
                return self._comparison(body)
        return False

    def shared(self, names: Sequence[str]) -> bool:
        """Whether the equality of these columns, as USING means it, is quiet."""
        return "=" in self._operators and all(self._column(name) != LOUD for name in names)

    def _is_bool(self, node: Node) -> bool:
        return "ColumnRef" in node and self._class(node) == _OF[16]

    def _comparison(self, body: Node) -> bool:
        kind = body.get("kind", "AEXPR_OP")
        operator = [part.get("String", {}).get("sval") for part in body["name"]]
        left, right = body.get("lexpr"), body.get("rexpr")
        if left is None or right is None:
            return False
        if kind in ("AEXPR_BETWEEN", "AEXPR_NOT_BETWEEN"):
            return self._operators >= {"<", "<=", ">", ">="} and self._together([left, *right["List"]["items"]])
        if len(operator) != 1 or operator[0] not in self._operators:
            return False
        if kind == "AEXPR_OP":
            return self._together([left, right])
        if kind == "AEXPR_IN":
            return self._together([left, *right["List"]["items"]])
        return kind == "AEXPR_OP_ANY" and operator == ["="] and self._class(left) not in (LOUD, None) and self._is_array(right, left)

    def _is_array(self, node: Node, left: Node) -> bool:
        """``= ANY ($1)`` with an untyped parameter, or ``= ANY (ARRAY[…])``: elements of the column's own type."""
        if "ParamRef" in node:
            return self._parameter(node["ParamRef"]) is None
        elements = node.get("A_ArrayExpr", {}).get("elements", ())
        return bool(elements) and self._together([left, *elements])

    def _together(self, nodes: Sequence[Node]) -> bool:
        """Columns, constants and parameters of one class; at least one column says which."""
        classes = {self._class(node) for node in nodes}
        return LOUD not in classes and len(classes - {None}) == 1 and any("ColumnRef" in node for node in nodes)

    def _class(self, node: Node) -> Class:
        ((kind, body),) = node.items()
        match kind:
            case "ColumnRef":
                last = body["fields"][-1]
                return self._column(last["String"]["sval"]) if "String" in last and len(body["fields"]) <= 3 else LOUD
            case "A_Const":
                return _constant(body)
            case "ParamRef":
                return self._parameter(body)
            case "TypeCast":
                return self._cast(body)
        return LOUD

    def _column(self, name: str) -> Class:
        classes = {_OF.get(oid, LOUD) for oid in self._types_of(name)}
        return classes.pop() if len(classes) == 1 else LOUD

    def _declared(self, body: Node) -> int:
        """The type that the caller gave to a parameter, 0 for none."""
        number = body.get("number", 0)
        return self._parameters[number - 1] if self._parameters is not None and 0 < number <= len(self._parameters) else 0

    def _parameter(self, body: Node) -> Class:
        if self._parameters is None:
            return LOUD
        if oid := self._declared(body):
            return _OF.get(oid, LOUD)
        return None if self._uses.get(body.get("number", 0), {""}) == {""} else LOUD

    def _cast(self, body: Node) -> Class:
        """A cast of a constant runs before any row is looked at. One of a parameter gives it its type, or runs for each row that is looked
        at: then only if it cannot fail."""
        name, extra = body["typeName"], body["typeName"].keys() - {"names", "typemod", "location"}
        parts = [part["String"]["sval"] for part in name["names"]]
        if extra or len(parts) > 2 or len(parts) == 2 and parts[0] != "pg_catalog" or parts[-1] not in _NAMED:
            return LOUD
        wanted = _NAMED[parts[-1]]
        fits = "A_Const" in body["arg"] or "ParamRef" in body["arg"] and self._becomes(body["arg"]["ParamRef"], wanted, ".".join(parts))
        return _OF[wanted] if fits else LOUD

    def _becomes(self, body: Node, wanted: int, name: str) -> bool:
        """Whether a parameter cast to this type is of it, or can be made so whatever it is."""
        if self._parameters is None:
            return False
        if oid := self._declared(body):
            return oid == wanted or (oid, wanted) in _SURE
        return self._uses.get(body.get("number", 0), {name}) == {name}


def uses_of(tree: Node) -> dict[int, set[str]]:
    """By the number of each parameter: the types it is cast to, as they are called; ``""`` where it is not cast. One that the caller
    gave no type gets that of its first use."""
    found: dict[int, set[str]] = {}
    casts: dict[int, int] = {}
    for _, body in nodes_of(tree, frozenset({"TypeCast"})):
        if "ParamRef" in body["arg"]:
            number = body["arg"]["ParamRef"].get("number", 0)
            array = "[]" if "arrayBounds" in body["typeName"] else ""
            found.setdefault(number, set()).add(".".join(part["String"]["sval"] for part in body["typeName"]["names"]) + array)
            casts[number] = casts.get(number, 0) + 1
    for _, body in nodes_of(tree, frozenset({"ParamRef"})):
        number = body.get("number", 0)
        casts[number] = casts.get(number, 0) - 1
    for number, left in casts.items():
        if left < 0:
            found.setdefault(number, set()).add("")
    return found


def _constant(body: Node) -> Class:
    if "sval" in body or body.get("isnull"):
        return None
    if "boolval" in body:
        return _OF[16]
    if "ival" in body:
        return _OF[23]
    number = body.get("fval", {}).get("fval", "")
    return _OF[20] if number.lstrip("-").isdigit() and -_INT8 < int(number) < _INT8 else LOUD


def nodes_of(node: Any, kinds: frozenset[str]) -> Iterator[tuple[str, Node]]:
    """Every node of these kinds, from the outside in."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in kinds and isinstance(value, dict):
                yield key, value
            yield from nodes_of(value, kinds)
    elif isinstance(node, list):
        for entry in node:
            yield from nodes_of(entry, kinds)
