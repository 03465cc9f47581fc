# SPDX-License-Identifier: Apache-2.0
"""Answers of a target are never trusted to have the right shape."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import TargetFault
from gateway.protocols.postgres.catalog.load import Fetch, Row, array_items, load_builtin, load_catalog, parse_context
from gateway.protocols.postgres.catalog.offline import shipped_builtin
from gateway.protocols.postgres.catalog.queries import EPOCH_SQL, FUNCTIONS, RELATIONS, SERVER, USER


def answering(answers: dict[str, list[Row]]) -> Fetch:
    async def fetch(sql: str) -> list[Row]:
        return answers.get(sql, [])

    return fetch


@pytest.mark.parametrize(
    ("literal", "items"),
    [
        ("{}", []),
        ("{a}", ["a"]),
        ("{a,b}", ["a", "b"]),
        ('{"a,b","c\\"d","e\\\\f",""}', ["a,b", 'c"d', "e\\f", ""]),
        ('{""}', [""]),
        ('{pg_temp_3,pg_catalog,"My Schema"}', ["pg_temp_3", "pg_catalog", "My Schema"]),
    ],
)
def test_array_literals(literal: str, items: list[str]) -> None:
    assert array_items(literal) == items


@given(st.lists(st.text()))
def test_quoted_items_come_back(items: list[str]) -> None:
    quoted = ",".join('"' + item.replace("\\", "\\\\").replace('"', '\\"') + '"' for item in items)
    assert array_items("{" + quoted + "}") == items


@pytest.mark.parametrize("literal", ["", "a", "{", "}", "[a]"])
def test_malformed_arrays_are_the_targets_fault(literal: str) -> None:
    with pytest.raises(TargetFault):
        array_items(literal)


def test_context_row() -> None:
    row = ("{pg_temp_3,pg_catalog,public}", "app", "login", "pg_temp_3", "app", '"$user", public', "on", "UTF8", "on", "origin")
    state = parse_context(row)
    assert (state.path, state.temp_schema) == (("pg_temp_3", "pg_catalog", "public"), "pg_temp_3")
    assert (state.user, state.session_user) == ("app", "login")
    assert (state.role, state.search_path, state.client_encoding) == ("app", '"$user", public', "UTF8")
    assert parse_context(("{}", "app", "app", "", "none", "", "on", "UTF8", "on", "origin")).temp_schema is None
    with pytest.raises(TargetFault):
        parse_context(("{}", "app"))


GOOD: dict[str, list[Row]] = {SERVER: [("150018", None)], EPOCH_SQL: [("e",)]}
FUNCTION = ("16384", "p", "f", "f", "23", "0", "0", "23", "f", "v", "f")


@pytest.mark.parametrize(
    "answers",
    [
        {},
        {SERVER: [("150018",)]},
        {SERVER: [(None, None)]},
        {SERVER: [("fifteen", None)]},
        {SERVER: [("180000", None)], EPOCH_SQL: [("e",)]},
        {SERVER: GOOD[SERVER]},
        {**GOOD, EPOCH_SQL: [(None,)]},
        {**GOOD, RELATIONS.format(range=USER): [("16384", "public")]},
        {**GOOD, RELATIONS.format(range=USER): [("x", "public", "t", "r", "p", None, "f", "f", "f")]},
        {**GOOD, RELATIONS.format(range=USER): [("16384", "public", "t", "r", "p", None, "f", "maybe", "f")]},
        {**GOOD, FUNCTIONS.format(range=USER): [(*FUNCTION, "not json", "i", "23", "sql")]},
        {**GOOD, FUNCTIONS.format(range=USER): [(*FUNCTION, '["a"]', "io", "23 25", "sql")]},
    ],
)
async def test_answers_of_another_shape_are_the_targets_fault(answers: dict[str, list[Row]]) -> None:
    with pytest.raises(TargetFault):
        await load_catalog(answering(answers), shipped_builtin(150018), "orders")


async def test_an_empty_database_loads() -> None:
    catalog = await load_catalog(answering(dict(GOOD)), shipped_builtin(150018), "orders")
    assert (catalog.epoch, catalog.database, catalog.user.relations) == ("e", "orders", ())
    assert (await load_builtin(answering(dict(GOOD)))).server_version == 150018


async def test_a_catalog_that_keeps_changing_keeps_the_older_epoch() -> None:
    epochs = iter(str(number) for number in range(10))

    async def fetch(sql: str) -> list[Row]:
        return [(next(epochs),)] if sql == EPOCH_SQL else list(GOOD.get(sql, []))

    catalog = await load_catalog(fetch, shipped_builtin(150018), "orders")
    assert catalog.epoch == "2"
    assert next(epochs) == "4"


async def test_a_large_catalog_leaves_turns_for_other_sessions() -> None:
    count = 20_000
    tables: list[Row] = [(str(20000 + n), "public", f"t{n}", "r", "p", None, "f", "f", "f", "f") for n in range(count)]
    answers: dict[str, list[Row]] = {SERVER: [("150008", None)], EPOCH_SQL: [("1",)], RELATIONS.format(range=USER): tables}
    loading = asyncio.create_task(load_catalog(answering(answers), shipped_builtin(15), "db"))
    turns = 0
    while not loading.done():
        turns += 1
        await asyncio.sleep(0)
    assert len((await loading).user.relations) == count and turns > 2 * count // 256
