# SPDX-License-Identifier: Apache-2.0
"""The parser's binding: limits, faults that quote no value, and that arbitrary text ends in statements or ``SqlFault``."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocols.postgres.sql.analyze import analyze
from gateway.protocols.postgres.sql.parse import parse, safe_message
from gateway.protocols.postgres.statement import SqlFault
from tests.unit.protocols.postgres.sql.shop import CATALOG, CONTEXT, NEWER, statements


def code_of(text: str, limit: int = 65536) -> str:
    with pytest.raises(SqlFault) as caught:
        analyze(text, CONTEXT, CATALOG, limit)
    return caught.value.code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("select " + "(" * 30000 + "1" + ")" * 30000, "54001"),
        ("select 1" + " union all select 1" * 3000, "54001"),
        ("select " + "||".join(["'a'"] * 12000), "54001"),
        ("select " + "case when true then " * 400 + "1" + " end" * 400, "54001"),
        ("select '" + "a" * 70000 + "'", "54001"),
        ("select 1\0", "22021"),
        ("select '\ud800'", "22021"),
        ("/*" * 30000, "54001"),
        ("select 1 " + "+" * 60000 + " 1", "54001"),
        ("select " + ",".join(["1"] * 2000), "54011"),
        ("select " + "upper(" * 600 + "'x'" + ")" * 600, "54001"),
        ("select * from " + "(select * from " * 500 + "orders" + ") q" * 500, "54001"),
    ],
)
def test_limits(text: str, code: str) -> None:
    assert code_of(text) == code


def test_the_limit_counts_bytes() -> None:
    assert code_of("select 'éééé'", limit=16) == "54001"
    assert parse("select 'éé'", limit=16)[0]


def test_nested_recursion_is_bounded() -> None:
    opening = "".join(f"with recursive r{i}(a) as (select id from orders union all (" for i in range(14))
    closing = "".join(f" union all select a from r{i}))select a from r{i}" for i in reversed(range(14)))
    statements(opening + "select 1" + closing)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("selec 1", 'syntax error at or near "selec"'),
        ("select 'a' 'b'", "syntax error at or near a value"),
        ("select 1 from from", 'syntax error at or near "from"'),
        ("select 'unfinished secret", "unterminated quoted string at or near a value"),
        ("select 5 5551234567", "syntax error at or near a value"),
        ("select (", "syntax error at end of input"),
        ('select "secret thing" "x', "unterminated quoted identifier at or near a value"),
    ],
)
def test_the_parsers_message_quotes_no_value(text: str, shown: str) -> None:
    with pytest.raises(SqlFault) as caught:
        statements(text)
    assert caught.value.code == "42601"
    assert str(caught.value) == shown


def test_positions_count_characters() -> None:
    with pytest.raises(SqlFault) as caught:
        statements("select 'é', selec selec selec")
    assert caught.value.position == 25


def test_a_strange_message_is_not_passed_on() -> None:
    assert safe_message("it says 'secret'") == "syntax error"
    assert safe_message('x at or near "a b"') == "x at or near a value"


_WORDS = """
select from where insert into values update set delete with recursive as ( ) , . ; * + - = || :: [ ] null true 'x' 1 1.5 $1 $$x$$
customers orders ssn id name c pg_class upper get_ssn count over partition by order group having limit union all except case when
then end join left using on natural lateral exists in any array row create table view drop alter copy to from stdin stdout explain
analyze prepare execute p declare cursor for fetch close begin commit rollback savepoint reset show call do work returning
conflict nothing merge matched grant revoke role text int mood wrap json xmltable xmlelement unnest generate_series set_config
'role' only truncate listen discard for key value default temp not and or is distinct between like current of cube rollup grouping
sets window filter within collate interval date at time zone extract substring trim position overlay coalesce nullif greatest cast
"x" U&"x" refresh materialized index on rule policy trigger function procedure language sql returns setof values ; ; -- /* */
"""
WORDS = st.sampled_from(_WORDS.split())


@settings(max_examples=400, deadline=None)
@given(st.lists(WORDS, max_size=14), st.sampled_from([CATALOG, NEWER]))
def test_words_in_any_order_end_in_statements_or_a_fault(words: list[str], catalog: object) -> None:
    try:
        analyze(" ".join(words), CONTEXT, catalog)  # type: ignore[arg-type]
    except SqlFault as fault:
        assert len(fault.code) == 5
        assert fault.__cause__ is None or isinstance(fault.__cause__, KeyError | ValueError | TypeError | IndexError | AttributeError)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80))
def test_any_text_ends_in_statements_or_a_fault(text: str) -> None:
    try:
        analyze(text, CONTEXT, CATALOG)
    except SqlFault as fault:
        assert fault.code


FRAGMENTS = st.sampled_from(
    [
        "id",
        "ssn",
        "c.ssn",
        "c",
        "c.*",
        "1",
        "'x'",
        "$1",
        "null",
        "upper(ssn)",
        "get_ssn(id)",
        "(select ssn from customers limit 1)",
        "count(*)",
        "exists(select 1 from orders)",
        "array[ssn]",
        "row(id, ssn)",
        "ssn::bytea",
        "id::wrap",
        "case when id = 1 then ssn end",
        "@@@ id",
        "ssn like 'x'",
        "id in (1, 2)",
        "coalesce(ssn, 'x')",
        "current_user",
        "xmlelement(name a, ssn)",
        "(c).ssn",
        "notes->>'a'",
        "id + 1",
        "ssn || 'x'",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(FRAGMENTS, min_size=1, max_size=4), FRAGMENTS, st.booleans())
def test_generated_queries_are_understood(targets: list[str], condition: str, nested: bool) -> None:
    text = f"select {', '.join(targets)} from customers c where ({condition}) is not null"
    inner = f"select q.* from ({text}) q" if nested else text
    (found,) = statements(inner)
    carried = {origin for column in found.columns or () for origin in column.flow.origins}
    reads_ssn = any("ssn" in target or target in ("c", "c.*") for target in targets)
    assert (("public", "customers", "ssn") in carried) is (
        reads_ssn and not all(t == "get_ssn(id)" for t in targets if "ssn" in t or t in ("c", "c.*"))
    )


def assigned(width: int, values: str) -> str:
    columns = ",".join(["total"] * width)
    return f"update orders set ({columns}) = ({values})"


def test_a_list_of_assigned_columns_is_not_unfolded_beyond_the_parsers_memory() -> None:
    with pytest.raises(SqlFault) as fault:
        parse(assigned(4000, ",".join(["total"] * 4000)))
    assert fault.value.code == "54001"


def test_nested_lists_of_assigned_columns_multiply() -> None:
    text = "1"
    for _ in range(40):
        text = f"((with u as (update t set (a, b) /**/ = {text} returning 1) select 1))"
    with pytest.raises(SqlFault) as fault:
        parse(f"update t set c = 2, (a, b) = {text}")
    assert fault.value.code == "54001"


@pytest.mark.parametrize("text", [
    assigned(60, "select " + ",".join(["1"] * 60)),
    "select 1 where " + " or ".join(["(a, b) = (1, 2)"] * 3000),
    "insert into t values " + ",".join(["(1,2)"] * 5000) + " on conflict (id) do update set (a, b) = (excluded.a, excluded.b)",
    "update t set " + ",".join(f"(a{i}, b{i}) = (1, 2)" for i in range(500)),
])
def test_ordinary_lists_of_columns_are_parsed(text: str) -> None:
    assert len(parse(text)[0]) == 1
