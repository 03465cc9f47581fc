# SPDX-License-Identifier: Apache-2.0
"""The compiled walk says what the pure one says: of every text of the corpus, and of texts made at random."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocols.postgres.sql import _walk
from gateway.protocols.postgres.sql.knowledge import knowledge_of
from gateway.protocols.postgres.sql.lineage import shape_of
from gateway.protocols.postgres.sql.walk import Names
from tests.unit.protocols.postgres.sql.twin import CATALOGS, CONTEXTS, said

ROOT = Path(__file__).parents[5]
Ask = Callable[[str, str, int], str]


@pytest.fixture(scope="module")
def pure() -> Iterator[Ask]:
    """What a process says that uses nothing compiled."""
    environment = os.environ | {"LOCKGATE_PURE": "1", "PYTHONPATH": os.pathsep.join([str(ROOT / "appliance"), str(ROOT)])}
    command = [sys.executable, "-m", "tests.unit.protocols.postgres.sql.twin"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None and other.stdout is not None
        into, out = other.stdin, other.stdout

        def ask(text: str, catalog: str, context: int) -> str:
            into.write(json.dumps([text, catalog, context]) + "\n")
            into.flush()
            answer: str = json.loads(out.readline())
            return answer

        yield ask
        into.close()


def corpus() -> list[str]:
    found: list[str] = []
    for line in (ROOT / "tests" / "corpus" / "postgres.jsonl").read_text().splitlines():
        texts = json.loads(line).get("sql") or []
        found += [texts] if isinstance(texts, str) else texts
    return found


def test_every_text_of_the_corpus(pure: Ask) -> None:
    for text in corpus():
        for catalog in CATALOGS:
            for context in range(len(CONTEXTS)):
                assert said(text, catalog, context) == pure(text, catalog, context), text


def test_what_the_short_way_takes() -> None:
    """One plain statement of an ordinary text, and no other."""
    context = CONTEXTS[0]
    knowledge = knowledge_of(CATALOGS["shop"], shape_of)
    names = Names(context.path, context.temp_schema, context.user)

    def taken(text: str, limit: int = 1000) -> object:
        found = _walk.analyzed(text, names, context, knowledge, limit)
        return found if found is None else type(found)

    for text in ("select 1", " /* a */ select id from customers where id = 7;", "insert into orders values (1)", "delete from orders",
                 "update orders set total = 1 where id = 2", "values (1)", "with a as (select 1) select * from a"):
        assert taken(text) is tuple, text
        assert taken(text, len(text)) is tuple and taken(text, len(text) - 1) is None
    for text in ("", ";", "begin", "select 1; select 2", "select 1 into x", "explain select 1", "select crypt('a', 'b')",
                 "table orders; commit", "select dblink('a', 'b')"):
        assert taken(text) is list, text
    for text in ("select 'é'", "select 1\0", "select 1 +" + "-" * 600 + " 1", "update orders set (id) = (1)", "selec", "select '\ud800'"):
        assert taken(text) is None, text


# texts made at random: names that are there or not, in every place where a name or an expression can stand

NAMES = ("id", "ssn", "name", "total", "customer_id", "card", "notes", "mood", "nothing", "ctid", "x", '"Odd"', "national_id")
TABLES = ("customers", "orders", "customer_v", "short_v", "people", "staff", "badges", "feelings", "public.customers", "nowhere", "fired",
          "filled", "guarded", "pg_class", "pg_settings", "kept", "pg_catalog.pg_stats", "(select id, ssn from customers)", "broken_v")
TYPES = ("int", "text", "numeric(3,1)", "varchar", "json", "regclass", "pg_catalog.bool", "int[]", "mood", "checked")
CALLS = ("upper", "count", "coalesce", "max", "get_ssn", "concat", "length", "pg_sleep", "nextval", "left", "greatest", "row_number",
         "set_config", "current_setting", "lower", "round", "array_agg", "pg_catalog.upper", "dblink", "crypt", "no_such")
LITERALS = ("1", "0", "-5", "+3", "3.5", "0.25", "-12.5", "1.", ".5", "1.5e3", "1.5e-3",
            "1e3", "0x1F", "'a'", "'it''s'", "E'a\\n'", "$q$b$q$", "true", "null", "$1", "$2",
            "'a'\n'b'", "B'01'",
            "'é'", "date '2026-01-01'", "u&'x'", "99999999999")
OPERATORS = ("=", "<>", "<", "+", "-", "||", "*", "~~", "like", "and", "or", "is distinct from", "->>", "@>",
             "operator(pg_catalog.=)", "===")


def form(template: str, *parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """A text with something made at random in each of its places."""
    return st.builds(template.format, *parts)


TABLE = st.sampled_from(TABLES)


def columns() -> st.SearchStrategy[str]:
    return st.one_of(st.sampled_from(NAMES), form("{}.{}", st.sampled_from(("a", "b", "customers", "orders", "z")),
                                                      st.sampled_from((*NAMES, "*"))))


def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        form("{} {} {}", inner, st.sampled_from(OPERATORS), inner),
        form("({})", inner), form("not {}", inner), form("{} is null", inner),
        form("{}::{}", inner, st.sampled_from(TYPES)),
        form("{}({})", st.sampled_from(CALLS), st.lists(inner, max_size=3).map(", ".join)),
        form("{} in ({}, {})", inner, inner, inner), form("{} between {} and {}", inner, inner, inner),
        form("case when {} then {} else {} end", inner, inner, inner),
        form("case {} when {} then {} end", inner, inner, inner),
        form("({}, {})", inner, inner), form("array[{}, {}]", inner, inner), form("-{}", inner),
        form("count(*) filter (where {}) over (order by {})", inner, inner), form("({}).id", inner),
        form("(select {} from customers a where {})", inner, inner), form("exists (select 1 from orders b where {})", inner),
        form("{} = any ({})", inner, inner), form("nullif({}, {})", inner, inner))


EXPR = st.recursive(st.one_of(columns(), columns(), st.sampled_from(LITERALS)), larger, max_leaves=8)
SOURCES = st.one_of(
    TABLE, form("{} a", TABLE), form("{} as a(id, x)", TABLE),
    form("{} a {}join {} b on {}", TABLE, st.sampled_from(("", "left ", "full ")), TABLE,
         EXPR),
    form("{} a join {} b using (id)", TABLE, TABLE),
    form("{} a natural join {} b", TABLE, TABLE),
    form("{} a, lateral (select {}) z", TABLE, EXPR),
    form("generate_series(1, {}) z", EXPR))
ENDS = st.sampled_from(("", " limit 3", " order by 1", " order by id desc limit $1", " group by 1", " group by id having true",
    " for update",
                        " order by ssn using <", " offset 2", " union select 1", " window w as (order by id)"))
SELECTS = form("select {} from {} where {}{}", st.lists(st.one_of(EXPR, st.just("*"), form("{} as n", EXPR)),
                                                                 min_size=1, max_size=4).map(", ".join), SOURCES, EXPR, ENDS)
TEXTS = st.one_of(
    SELECTS, SELECTS, form("select {}", EXPR), form("with q as ({}) select * from q a", SELECTS),
    form("insert into {} (id, name) values ({}, {}) returning {}", TABLE, EXPR, EXPR, EXPR),
    form("insert into {} {}", TABLE, SELECTS),
    form("insert into customers (id) values (1) on conflict (id) do update set name = {} where {}", EXPR, EXPR),
    form("update {} a set name = {}, {} = {} where {}", TABLE, EXPR,
         st.sampled_from(NAMES), EXPR, EXPR),
    form("update customers set (name, ssn) = (select {}, {}) where {}", EXPR, EXPR, EXPR),
    form("delete from {} a where {}", TABLE, EXPR),
    form("merge into orders a using customers b on {} when matched then update set total = {}", EXPR, EXPR),
    form("copy ({}) to stdout", SELECTS), form("explain {}", SELECTS), form("set search_path = x; {}", SELECTS),
    form("prepare q as {}; execute p({})", SELECTS, EXPR), form("{}; {}", SELECTS, SELECTS))


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.sampled_from(tuple(CATALOGS)), st.integers(0, len(CONTEXTS) - 1))
def test_texts_made_at_random(pure: Ask, text: str, catalog: str, context: int) -> None:
    assert said(text, catalog, context) == pure(text, catalog, context)


def test_where_numbers_end(pure: Ask) -> None:
    for number in ("1", "1.5", "10.25", "0.0", "-1.5", "+1.5", "- 1.5", "1.", ".5", "1.5e3", "1.5e-3", "1e5", "1_000.5", "1.5_0", "0x1F",
                   "1.5::int", "1.5-- a\n", "1.5+2.5", "1.5/*x*/", "99999999999.5"):
        for text in (f"insert into orders (id, total) values ({number}, 2)", f"select id from orders where total = {number}",
                     f"update orders set total = {number}"):
            assert said(text, "shop", 0) == pure(text, "shop", 0), text
