# SPDX-License-Identifier: Apache-2.0
"""The conditions of row filters: a small part of SQL that means the same whatever the session has set.

Columns of the relation, constants, ``= <> < <= > >=``, IN, BETWEEN, LIKE, ILIKE, IS [NOT] NULL, IS [NOT] TRUE or FALSE, AND, OR, NOT. No
function, cast, sub-query or parameter. The condition is written anew from its tree: names quoted and qualified, operators as
``OPERATOR(pg_catalog.=)``, so that no search_path leads it to others. A constant takes the type of its column; dates and times are ISO
8601, because DateStyle and TimeZone are the caller's to set.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from gateway.protocols.postgres.sql.parse import Node, parse
from gateway.protocols.postgres.statement import SqlFault

WANTED = "expected a condition made of columns, constants, = <> < <= > >=, IN, BETWEEN, LIKE, IS NULL, IS TRUE, AND, OR and NOT"
ENUM = 3500
"""anyenum: stands for every type that is an enumeration."""
BOOL, DATE, TIMESTAMP, TIMESTAMPTZ = 16, 1082, 1114, 1184
_WORDS = frozenset({19, 25, 1042, 1043})
_NUMBERS = frozenset({20, 21, 23, 26, 700, 701, 1700})
_UUID = 2950
_SPELLED: Mapping[int, re.Pattern[str]] = {
    **dict.fromkeys((20, 21, 23), re.compile(r"-?[0-9]{1,19}")), 26: re.compile(r"[0-9]{1,10}"),
    **dict.fromkeys((700, 701, 1700), re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")), BOOL: re.compile("true|false"),
    _UUID: re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")}
"""How a quoted constant of these types may be spelled: what the target could not read would fail each statement."""
TYPES = _WORDS | _NUMBERS | {BOOL, DATE, TIMESTAMP, TIMESTAMPTZ, _UUID, ENUM}
"""name, text, char(n), varchar; int8, int2, int4, oid, float4, float8, numeric; bool, date, timestamp, timestamptz, uuid, enumerations."""

_DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = r"[ T][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?"
_ISO: Mapping[int, tuple[re.Pattern[str], str]] = {
    DATE: (re.compile(_DAY), "YYYY-MM-DD"),
    TIMESTAMP: (re.compile(f"{_DAY}(?:{_TIME})?"), "YYYY-MM-DD HH:MM:SS"),
    TIMESTAMPTZ: (re.compile(f"{_DAY}{_TIME}[+-][0-9]{{2}}(?::?[0-9]{{2}})?"), "YYYY-MM-DD HH:MM:SS+00"),
}

_HERE = "\0"
"""Stands for the name that the relation has, in ``Condition.template``."""
_OPERATORS = frozenset({"=", "<>", "<", "<=", ">", ">="})
_LIKE = {"AEXPR_LIKE": frozenset({"~~", "!~~"}), "AEXPR_ILIKE": frozenset({"~~*", "!~~*"})}
_TESTS = {"IS_TRUE": "TRUE", "IS_NOT_TRUE": "NOT TRUE", "IS_FALSE": "FALSE", "IS_NOT_FALSE": "NOT FALSE", "IS_UNKNOWN": "UNKNOWN",
          "IS_NOT_UNKNOWN": "NOT UNKNOWN"}


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition. ``constants``: (column, kind of the constant, its text); ``pairs`` are columns compared with one another,
    ``matched`` those compared with a pattern, ``tested`` those used as truth values."""

    template: str
    columns: frozenset[str]
    constants: tuple[tuple[str, str, str], ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    matched: frozenset[str] = frozenset()
    tested: frozenset[str] = frozenset()

    def sql(self, name: str) -> str:
        """The condition over the relation that is called ``name`` (quoted, as SQL spells it)."""
        return self.template.replace(_HERE, name)

    def fault(self, types: Mapping[str, int]) -> str | None:
        """Why it says nothing certain about a relation with columns of these types (``ENUM`` for an enumeration), or ``None``."""
        for name in sorted(self.columns):
            if name not in types:
                return f"there is no column {name}"
            if types[name] not in TYPES:
                return f"a condition cannot look at {name}: its type is none of those that conditions know"
        for name in sorted(self.tested):
            if types[name] != BOOL:
                return f"{name} is no truth value"
        for name in sorted(self.matched):
            if types[name] not in _WORDS:
                return f"{name} is no text that LIKE could match"
        for one, other in self.pairs:
            if not _alike(types[one], types[other]):
                return f"{one} and {other} are of different types"
        return next((why for name, kind, text in self.constants if (why := _unlike(name, types[name], kind, text))), None)


def _alike(one: int, other: int) -> bool:
    return one == other and one != ENUM or {one, other} <= _NUMBERS - {26} or {one, other} <= {25, 1043}


def _unlike(name: str, type_oid: int, kind: str, text: str) -> str | None:
    if type_oid in _ISO:
        pattern, form = _ISO[type_oid]
        return None if kind == "string" and pattern.fullmatch(text) else f"{name} is compared with {form} alone"
    if kind == "string" and type_oid in _SPELLED and not _SPELLED[type_oid].fullmatch(text):
        return f"{name} cannot be compared with {text!r}: its type has no such value"
    fits = {"number": type_oid in _NUMBERS, "truth": type_oid == BOOL}.get(kind, True)
    return None if fits else f"{name} cannot be compared with a {kind}"


@dataclass(slots=True)
class _Found:
    columns: set[str] = field(default_factory=set)
    constants: list[tuple[str, str, str]] = field(default_factory=list)
    pairs: list[tuple[str, str]] = field(default_factory=list)
    matched: set[str] = field(default_factory=set)
    tested: set[str] = field(default_factory=set)


@lru_cache(maxsize=1024)
def condition(text: str) -> Condition:
    """The condition of a policy's text. Raises ``ValueError`` saying what was expected."""
    try:
        parsed, _ = parse(f"SELECT FROM t WHERE {text}")
    except SqlFault as fault:
        raise ValueError(f"{WANTED}: {fault}") from None
    if "\0" in text or len(parsed) != 1 or parsed[0].body.keys() != {"fromClause", "whereClause", "limitOption", "op"}:
        raise ValueError(WANTED)
    found = _Found()
    try:
        template = _truth(parsed[0].body["whereClause"], found)
    except (KeyError, TypeError, IndexError, RecursionError):
        raise ValueError(WANTED) from None
    return Condition(template, frozenset(found.columns), tuple(found.constants), tuple(found.pairs), frozenset(found.matched),
                     frozenset(found.tested))


def _truth(node: Node, found: _Found) -> str:
    """A node that is true or not, as SQL."""
    ((kind, body),) = node.items()
    if kind == "BoolExpr":
        return _connected(body, found)
    if kind == "A_Expr":
        return _comparison(body, found)
    if kind == "NullTest":
        return f"({_column(body['arg'], found)[1]} IS {'NOT ' if body.get('nulltesttype') == 'IS_NOT_NULL' else ''}NULL)"
    if kind == "BooleanTest":
        return f"({_tested(body['arg'], found)} IS {_TESTS[body.get('booltesttype', 'IS_TRUE')]})"
    if kind == "A_Const" and "boolval" in body:
        return "TRUE" if body["boolval"].get("boolval") else "FALSE"
    return _tested(node, found)


def _tested(node: Node, found: _Found) -> str:
    name, sql = _column(node, found)
    found.tested.add(name)
    return sql


def _connected(body: Node, found: _Found) -> str:
    parts = [_truth(part, found) for part in body["args"]]
    if body.get("boolop", "AND_EXPR") == "NOT_EXPR":
        return f"(NOT {parts[0]})"
    return "(" + {"AND_EXPR": " AND ", "OR_EXPR": " OR "}[body.get("boolop", "AND_EXPR")].join(parts) + ")"


def _comparison(body: Node, found: _Found) -> str:
    kind = body.get("kind", "AEXPR_OP")
    operator = body["name"][0]["String"]["sval"] if len(body["name"]) == 1 else ""
    if kind == "AEXPR_OP" and operator in _OPERATORS:
        return _compared(body["lexpr"], operator, body["rexpr"], found)
    if kind == "AEXPR_IN" and operator in ("=", "<>"):
        each = [_compared(body["lexpr"], operator, item, found) for item in body["rexpr"]["List"]["items"]]
        return f"({(' OR ' if operator == '=' else ' AND ').join(each)})"
    if kind in ("AEXPR_BETWEEN", "AEXPR_NOT_BETWEEN"):
        low, high = body["rexpr"]["List"]["items"]
        inside = f"({_compared(body['lexpr'], '>=', low, found)} AND {_compared(body['lexpr'], '<=', high, found)})"
        return inside if kind == "AEXPR_BETWEEN" else f"(NOT {inside})"
    if operator in _LIKE.get(kind, ()):
        return _like(body, operator, found)
    raise ValueError(WANTED)


def _compared(left: Node, operator: str, right: Node, found: _Found) -> str:
    sides = [_operand(node, found) for node in (left, right)]
    names = [name for name, _, _ in sides if name is not None]
    if not names:
        raise ValueError(f"{WANTED}: one side of {operator} has to be a column")
    if len(names) == 2:
        found.pairs.append((names[0], names[1]))
    else:
        found.constants.extend((names[0], *constant) for _, _, constant in sides if constant is not None)
    return f"({sides[0][1]} OPERATOR(pg_catalog.{operator}) {sides[1][1]})"


def _operand(node: Node, found: _Found) -> tuple[str | None, str, tuple[str, str] | None]:
    """(column, SQL, constant): one of column and constant is ``None``."""
    if "A_Const" in node:
        sql, constant = _constant(node["A_Const"])
        return None, sql, constant
    return (*_column(node, found), None)


def _column(node: Node, found: _Found) -> tuple[str, str]:
    fields: Sequence[Node] = node["ColumnRef"]["fields"] if "ColumnRef" in node else ()
    if len(fields) != 1 or "String" not in fields[0]:
        raise ValueError(f"{WANTED}; columns by their name alone")
    name = str(fields[0]["String"]["sval"])
    found.columns.add(name)
    return name, f"{_HERE}.{quoted(name)}"


def _constant(body: Node) -> tuple[str, tuple[str, str]]:
    if "sval" in body:
        value = str(body["sval"].get("sval", ""))
        if "\0" in value:
            raise ValueError(WANTED)
        return "'" + value.replace("'", "''") + "'" if "\\" not in value else _escaped(value), ("string", value)
    if "ival" in body:
        number = str(int(body["ival"].get("ival", 0)))
    elif "fval" in body:
        number = str(body["fval"]["fval"])
    elif "boolval" in body:
        word = "TRUE" if body["boolval"].get("boolval") else "FALSE"
        return word, ("truth", word)
    else:
        raise ValueError(f"{WANTED}; nothing compares with NULL")
    if not re.fullmatch(r"-?[0-9][0-9.]*(?:[eE][+-]?[0-9]+)?", number):
        raise ValueError(WANTED)
    return f"({number})" if number.startswith("-") else number, ("number", number)


def _escaped(value: str) -> str:
    """A text with a backslash: the same whatever standard_conforming_strings is."""
    return "E'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _like(body: Node, operator: str, found: _Found) -> str:
    name, column = _column(body["lexpr"], found)
    pattern = body["rexpr"]["A_Const"]["sval"].get("sval", "")
    if re.search(r"(?<!\\)(?:\\\\)*\\$", pattern):
        raise ValueError("expected a pattern of LIKE that does not end in a single backslash")
    found.matched.add(name)
    return f"({column} OPERATOR(pg_catalog.{operator}) {_constant(body['rexpr']['A_Const'])[0]})"


def quoted(name: str) -> str:
    """A name as SQL spells it, whatever it is."""
    return '"' + name.replace('"', '""') + '"'
