# SPDX-License-Identifier: Apache-2.0
"""Guards put into a text: what changes where, and the tree that has to come out of it.

Offsets are in characters. Every change is made twice, once in the text and once in the tree that the parser gave for it; ``spliced`` parses
the new text and compares. So a token that was taken for another one cannot lead to anything but a refusal.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import orjson

from gateway.errors import Refused
from gateway.protocols.postgres.filters.expression import quoted
from gateway.protocols.postgres.sql.literals import tokens
from gateway.protocols.postgres.sql.parse import DEFAULT_LIMIT, Node, Offsets, Parsed, parse
from gateway.protocols.postgres.statement import SqlFault

DENIED = "42501"
ROW = '"lockgate_row"'
"""What the relation is called inside a guard."""
_PLACES = frozenset({"rexpr_list_start", "rexpr_list_end", "list_start", "list_end", "stmt_len"})
_AFTER_WHERE = frozenset({
    "group", "having", "window", "order", "limit", "offset", "fetch", "for", "union", "intersect", "except", "returning",
    "with"})


@dataclass(frozen=True, slots=True)
class Change:
    """``text`` in place of what stands from ``start`` to ``end``."""

    start: int
    end: int
    text: str


@dataclass(slots=True)
class Splice:
    """One text with its statements, and the changes so far."""

    text: str
    parsed: list[Parsed]
    offsets: Offsets
    changes: list[Change] = field(default_factory=list)
    _words: list[str] = field(default_factory=list)         # of each token; "" for what is neither a word nor a symbol
    _starts: list[int] = field(default_factory=list)
    _ends: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, text: str) -> Splice:
        """Raises ``SqlFault``."""
        parsed, data = parse(text)
        made = cls(text, parsed, Offsets(data))
        for token in tokens(text):
            made._words.append(text[token.start:token.end].lower() if token.kind in ("word", "symbol") else "")
            made._starts.append(token.start)
            made._ends.append(token.end)
        return made

    # tokens

    def at(self, location: int) -> int:
        """The number of the token at a location of the parser's. Raises ``Refused``."""
        start = self.offsets.character(location)
        found = bisect_left(self._starts, start)
        if found >= len(self._starts) or self._starts[found] != start:
            raise unclear()
        return found

    def word(self, number: int) -> str:
        """The token in lower case if it is a word or symbol, else ``""``."""
        return self._words[number] if 0 <= number < len(self._words) else ""

    def begin(self, number: int) -> int:
        return self._starts[number]

    def end(self, number: int) -> int:
        return self._ends[number]

    def name_end(self, first: int, body: Node) -> int:
        """The number of the last token of a relation's name."""
        return first + 2 * (("schemaname" in body) + ("catalogname" in body))

    def clauses(self, number: int) -> tuple[int | None, int]:
        """(the token WHERE of the query level that this token is in, the last token of what stands before the clauses after it)."""
        depth, where = 0, None
        for at in range(number, len(self._words)):
            word = self._words[at]
            if word in ("(", "["):
                depth += 1
            elif word in (")", "]"):
                depth -= 1
            if depth < 0 or depth == 0 and (word == ";" or word in _AFTER_WHERE):
                return where, at - 1
            if depth == 0 and word == "where" and where is None:
                where = at
        return where, len(self._words) - 1

    def stands_in_from(self, number: int) -> bool:
        """Whether no parenthesis is open between FROM and this token."""
        depth = 0
        for at in range(number, -1, -1):
            word = self._words[at]
            depth += {")": 1, "(": -1}.get(word, 0)
            if depth < 0:
                return False
            if depth == 0 and word == "from":
                return True
        return False

    # changes

    def guard(self, node: Node, guard: str) -> None:
        """A relation read, ``{"RangeVar": …}``, becomes the query ``guard``."""
        body = node["RangeVar"]
        first = self.at(body["location"])
        last = self.name_end(first, body)
        start, prefix = self.begin(first), ""
        if not body.get("inh"):
            if self.word(first - 1) == "only":
                start = self.begin(first - 1)
            elif self.word(first - 1) == "(" and self.word(first - 2) == "only" and self.word(last + 1) == ")":
                start, last = self.begin(first - 2), last + 1
        elif self.word(first - 1) == "table":
            start, prefix = self.begin(first - 1), "SELECT * FROM "
        if self.word(last + 1) == "*":
            last += 1
        alias = "" if "alias" in body else f" AS {quoted(body['relname'])}"
        self.changes.append(Change(start, self.end(last), f"{prefix}({guard}){alias}"))
        made = _sub_select(guard)
        made["alias"] = body.get("alias") or {"aliasname": body["relname"]}
        node.clear()
        node["RangeSubselect"] = made

    def qualify(self, body: Node, schema: str) -> None:
        """A relation gets the schema that its name means here, so that it can mean no other one when the target reads it."""
        start = self.begin(self.at(body["location"]))
        self.changes.append(Change(start, start, f"{quoted(schema)}."))
        body["schemaname"] = schema

    def narrow(self, body: Node, near: int, condition: str, *, fenced: bool) -> None:
        """A condition is put before the WHERE of a query level; ``near`` is a token of its FROM or of its target. ``fenced``: the caller's
        own is tried only on rows for which this one holds."""
        where, last = self.clauses(near)
        if "whereClause" not in body:
            self.changes.append(Change(self.end(last), self.end(last), f" WHERE {condition}"))
            body["whereClause"] = tree_of(condition)
            return
        if where is None or where >= last:
            raise unclear()
        before = f" {condition} AND (CASE WHEN {condition} THEN (" if fenced else f" {condition} AND ("
        after = ") ELSE FALSE END)" if fenced else ")"
        self.changes.append(Change(self.end(where), self.end(where), before))
        self.changes.append(Change(self.end(last), self.end(last), after))
        body["whereClause"] = _both(tree_of(condition), _case(tree_of(condition), body["whereClause"]) if fenced else body["whereClause"])

    def copied(self, body: Node, query: str) -> None:
        """COPY of a table becomes COPY of a query."""
        first = self.at(body["relation"]["location"])
        last = self.name_end(first, body["relation"])
        if "attlist" in body:
            while last < len(self._words) and self.word(last) != ")":
                last += 1
        self.changes.append(Change(self.begin(first), self.end(last), f"({query})"))
        del body["relation"]
        body.pop("attlist", None)
        body["query"] = {"SelectStmt": _parsed(query)}

    def spliced(self) -> str:
        """The new text. Raises ``Refused`` where it is not what was meant."""
        parts: list[str] = []
        done = 0
        for change in sorted(self.changes, key=lambda one: (one.start, one.end)):
            if change.start < done:
                raise unclear()
            parts += (self.text[done:change.start], change.text)
            done = change.end
        text = "".join((*parts, self.text[done:]))
        if len(text.encode()) > DEFAULT_LIMIT:
            raise Refused("the statement is too long to be given a row filter", DENIED)
        try:
            again = parse(text)[0]
        except SqlFault:
            raise unclear() from None
        if bare([(one.kind, one.body) for one in again]) != bare([(one.kind, one.body) for one in self.parsed]):
            raise unclear()
        return text


def unclear() -> Refused:
    return Refused("a row filter cannot be put into this form of the statement: write it more plainly", DENIED)


# trees


@lru_cache(maxsize=1024)
def _answer(text: str) -> bytes:
    return orjson.dumps(parse(text)[0][0].body)


def _parsed(text: str) -> Node:
    """The body of a SELECT that is ours; a new one each time."""
    made: Node = orjson.loads(_answer(text))
    return made


def tree_of(condition: str) -> Node:
    made: Node = _parsed(f"SELECT FROM t WHERE {condition}")["whereClause"]
    return made


def _sub_select(guard: str) -> Node:
    made: Node = _parsed(f"SELECT FROM ({guard}) AS t")["fromClause"][0]["RangeSubselect"]
    return made


def _both(one: Node, other: Node) -> Node:
    """``one AND (other)`` as the grammar joins them (makeAndExpr in gram.y): a conjunction on the left takes the right one in."""
    body = one.get("BoolExpr", {})
    args = body["args"] if body.get("boolop") == "AND_EXPR" else [one]
    return {"BoolExpr": {"boolop": "AND_EXPR", "args": [*args, other]}}


def _case(condition: Node, caller: Node) -> Node:
    when = {"CaseWhen": {"expr": condition, "result": caller}}
    return {"CaseExpr": {"args": [when], "defresult": {"A_Const": {"boolval": {}}}}}


def bare(node: Any) -> Any:
    """A tree without the places in the text."""
    if isinstance(node, dict):
        return {key: bare(value) for key, value in node.items() if not key.endswith("location") and key not in _PLACES}
    return [bare(entry) for entry in node] if isinstance(node, list | tuple) else node


def joined(conditions: Iterable[str]) -> str:
    """All of them, as one condition in parentheses."""
    return "(" + " AND ".join(conditions) + ")"
