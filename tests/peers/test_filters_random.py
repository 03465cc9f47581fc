# SPDX-License-Identifier: Apache-2.0
"""Statements made at random from a grammar, through a gateway with row filters and under the target's own row security: the same rows, the
same error, or a refusal."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from gateway.testing.postgres import PostgresServer
from tests.peers.filters import MARK, Pair, both
from tests.peers.wire import codes, rows

TABLES = {
    "orders": ("id", "customer_id"), "customers": ("id",), "lines": ("order_id", "amount"), "events": ("id",), "events_a": ("id",),
    "cats": ("id",), "docs": ("id",), "alt.orders": ("id", "customer_id"), "only animals": ("id",),
}
HIDDEN = {"orders": ("customer_id", 3), "events": ("id", 4), "events_a": ("id", 4), "cats": ("id", 4), "docs": ("id", 1)}
"""A column, and a value of it that only hidden rows have: who divides by the difference is told of one."""
SEEDS = range(4)
EACH = 50


class Maker:
    """Statements over integers alone, so that every combination has types that fit. Some conditions fail on rows that are hidden, and on no
    others."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._names = 0
        self._tables: dict[str, str] = {}

    def one(self, *choices: str) -> str:
        return self._random.choice(choices)

    def maybe(self, text: str, chance: float = 0.5) -> str:
        return text if self._random.random() < chance else ""

    def number(self) -> str:
        return str(self._random.choice((-1, 0, 1, 2, 3, 6, 7, 16, 36, 50)))

    def statement(self) -> str:
        columns = self.query(2)
        return self.maybe(f"with w as {self.one('', 'materialized ', 'not materialized ')}({self.query(1)}) ", 0.2) + columns

    def query(self, depth: int) -> str:
        if depth and self._random.random() < 0.15:
            return f"({self.query(depth - 1)}) {self.one('union', 'union all', 'except', 'intersect')} ({self.query(depth - 1)})"
        names, text = self.source(depth)
        column = self.column(names)
        if self._random.random() < 0.2:
            having = self.maybe(f" having {self.one('count(*) > 0', f'{column} > 2')}", 0.4)
            return f"select {column} as n from {text}{self.where(names, depth)} group by {column}{having}"
        selected = self.one(column, f"{column} + {self.number()}", f"coalesce({column}, {self.number()})", "1")
        return f"select {self.maybe('distinct ', 0.2)}{selected} as n from {text}{self.where(names, depth)}"

    def source(self, depth: int) -> tuple[list[tuple[str, tuple[str, ...]]], str]:
        names, text = self.entry(depth)
        listed = joined = False
        for _ in range(self._random.choice((0, 0, 1, 1, 2))):
            other, more = self.entry(depth)
            kind = "," if listed else self.one(",", " join", " left join", " right join", " full join", " cross join")
            if kind == ",":
                text, listed = f"{text}, {more}", True
            elif kind == " cross join":
                text, joined = f"({text}) cross join {more}" if joined else f"{text} cross join {more}", True
            else:
                on = f"{self.column(names)} = {self.column(other)}" if kind == " full join" else self.condition([*names, *other], 0)
                text, joined = f"{text}{kind} {more} on {on}", True
            names = [*names, *other]
        return names, text

    def entry(self, depth: int) -> tuple[list[tuple[str, tuple[str, ...]]], str]:
        self._names += 1
        name = f"t{self._names}"
        if depth and self._random.random() < 0.2:
            return [(name, ("n",))], f"({self.query(depth - 1)}) as {name}"
        table = self.one(*TABLES)
        self._tables[name] = table
        return [(name, TABLES[table])], f"{table} {name}"

    def column(self, names: list[tuple[str, tuple[str, ...]]]) -> str:
        name, columns = self._random.choice(names)
        return f"{name}.{self._random.choice(columns)}"

    def risky(self, names: list[tuple[str, tuple[str, ...]]]) -> str:
        found = [(name, *HIDDEN[table]) for name, _ in names if (table := self._tables.get(name, "")) in HIDDEN]
        if not found:
            return f"{self.column(names)} + 1 > 0"
        name, column, value = self._random.choice(found)
        return f"1 / ({name}.{column} - {value}) {self.one('<', '>', '<>')} {self.number()}"

    def where(self, names: list[tuple[str, tuple[str, ...]]], depth: int) -> str:
        return self.maybe(f" where {self.condition(names, depth)}", 0.75)

    def condition(self, names: list[tuple[str, tuple[str, ...]]], depth: int) -> str:
        column, other, number, risky = self.column(names), self.column(names), self.number(), self.risky(names)
        choices = [
            f"{column} {self.one('=', '<', '>', '<>', '<=')} {number}", f"{column} = {other}", f"{column} in ({number}, 6, 7)",
            f"{column} between {number} and 60", f"{column} is not null", risky, risky, f"{column} + {other} > {number}",
            f"{risky} or {other} = {number}", f"case when {column} = 7 then true else {risky} end",
        ]
        if depth:
            inner, text = self.source(0)
            choices += [
                f"{column} in ({self.query(depth - 1)})", f"exists (select from {text} where {self.column(inner)} = {column})",
                f"{column} = (select min({self.column(inner)}) from {text})",
                f"not exists (select 1 from {text} where {self.risky(inner)} and {self.column(inner)} = {column})",
            ]
        found = self._random.choice(choices)
        if self._random.random() < 0.3:
            found = f"{found} {self.one('and', 'or')} {self.condition(names, 0)}"
        return self.maybe("not ", 0.1) + f"({found})" if self._random.random() < 0.3 else found


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, newest_postgres: PostgresServer) -> Iterator[Pair]:
    with both(tmp_path_factory.mktemp("filters"), newest_postgres) as made:
        for wire in (made.gated, made.oracle):
            wire.query("set statement_timeout = '1s'")
        yield made


@pytest.mark.parametrize("seed", SEEDS)
def test_any_statement(seed: int, pair: Pair) -> None:
    maker = Maker(seed)
    refused = compared = 0
    for _ in range(EACH):
        text = maker.statement()
        got, expected = pair.gated.query(text), pair.oracle.query(text)
        assert not any(MARK in payload for _, payload in got), text
        if codes(got) == ["42501"]:
            refused += 1
        elif "57014" not in codes(got) + codes(expected):
            assert codes(got) == codes(expected) == [], text
            assert sorted(rows(got), key=repr) == sorted(rows(expected), key=repr), text
            compared += 1
    assert compared > EACH / 2
    assert refused < EACH / 10
