# SPDX-License-Identifier: Apache-2.0
"""The parser's tree read from its memory is what its JSON says, of every text; and what was not shown to be so is not read."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocols.postgres.sql import _walk, parse, rawtree
from gateway.protocols.postgres.sql.parse import answer_of
from gateway.protocols.postgres.statement import SqlFault
from tests.unit.protocols.postgres.sql.test_parse import WORDS
from tests.unit.protocols.postgres.sql.test_twin import TEXTS, corpus
from tools import treelayout

ROOT = Path(__file__).parents[5]


def read(text: str) -> object:
    """What is read from memory, after it was compared with what the JSON says."""
    data = text.encode(errors="ignore").replace(b"\0", b"")
    assert rawtree.same(data), text
    return _walk.raw_tree(data)


def test_trees_are_read_from_memory_here() -> None:
    assert parse.WHY_JSON == "" and _walk.is_direct()


def test_the_layout_is_what_a_compiler_says_of_the_headers() -> None:
    assert treelayout.layout(treelayout.headers()) == treelayout.TARGET.read_text()


NEVER = """GroupingFunc.refs GroupingFunc.agglevelsup SubLink.subLinkType=ROWCOMPARE_SUBLINK SubLink.subLinkType=MULTIEXPR_SUBLINK
SubLink.subLinkType=CTE_SUBLINK SubLink.subLinkId CaseExpr.casetype CaseExpr.casecollid RowExpr.row_typeid
RowExpr.row_format=COERCE_EXPLICIT_CAST RowExpr.row_format=COERCE_SQL_SYNTAX RowExpr.colnames CoalesceExpr.coalescetype
CoalesceExpr.coalescecollid MinMaxExpr.minmaxtype MinMaxExpr.minmaxcollid MinMaxExpr.inputcollid SQLValueFunction.type
NullTest.argisrow SetToDefault.typeId SetToDefault.typeMod SetToDefault.collation CurrentOfExpr.cvarno CurrentOfExpr.cursor_param
JoinExpr.jointype=JOIN_SEMI JoinExpr.jointype=JOIN_ANTI JoinExpr.jointype=JOIN_RIGHT_SEMI JoinExpr.jointype=JOIN_RIGHT_ANTI
JoinExpr.jointype=JOIN_UNIQUE_OUTER JoinExpr.jointype=JOIN_UNIQUE_INNER JoinExpr.rtindex TypeName.typeOid TypeName.setof
TypeName.pct_type FuncCall.funcformat=COERCE_EXPLICIT_CAST FuncCall.funcformat=COERCE_IMPLICIT_CAST RangeFunction.coldeflist
IndexElem.indexcolname IndexElem.opclassopts IndexElem.ordering=SORTBY_USING DefElem.defnamespace DefElem.defaction=DEFELEM_SET
DefElem.defaction=DEFELEM_ADD DefElem.defaction=DEFELEM_DROP LockingClause.strength=LCS_NONE GroupingSet.kind=GROUPING_SET_SIMPLE
OnConflictClause.action=ONCONFLICT_NONE CommonTableExpr.search_clause CommonTableExpr.cycle_clause CommonTableExpr.cterecursive
CommonTableExpr.cterefcount CommonTableExpr.ctecolnames CommonTableExpr.ctecoltypes CommonTableExpr.ctecoltypmods
CommonTableExpr.ctecolcollations SelectStmt.intoClause"""


def test_what_the_start_does_not_compare_is_named_and_goes_by_json() -> None:
    assert set(_walk.unproven()) == set(NEVER.split())
    for text in ("select 1 into x", "select * from f() as (a int)", "with recursive a as (select 1) search depth first by b set c select 1",
                 "create table t (a int)", "copy t to stdout", "update t set (a, b) = (select 1, 2)", "select xmlelement(name a)",
                 "insert into t values (1) on conflict (a k (b = 1)) do nothing"):
        assert not isinstance(answer_of(text.encode()), tuple)
        assert _walk.raw_tree(text.encode()) is None, text


def test_every_text_of_the_start_again() -> None:
    for text in rawtree.TEXTS:
        assert isinstance(read(text), list), text


def test_every_text_of_the_corpus() -> None:
    for text in corpus():
        read(text)


def test_every_text_in_the_tests() -> None:
    """Most of them are no statements: those are refused in both ways."""
    found = set()
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 20_000:
                found.add(node.value)
    taken = [text for text in sorted(found) if isinstance(read(text), list)]
    assert len(taken) > 500


@settings(max_examples=600, deadline=None)
@given(TEXTS)
def test_texts_made_at_random(text: str) -> None:
    read(text)


@settings(max_examples=600, deadline=None)
@given(st.lists(WORDS, max_size=14))
def test_words_in_any_order(words: list[str]) -> None:
    read(" ".join(words))


@settings(max_examples=400, deadline=None)
@given(st.text(max_size=40), st.sampled_from(["{}", "select '{}'", 'select "{}" from "{}"', "select E'{}'", "select U&'{}'",
                                              "select 1 as {}", "select $${}$$; select {}", "-- {}\nselect 1",
                                              "select 1 {} 2", "set x = '{}'"]))
def test_any_characters(text: str, around: str) -> None:
    read(around.replace("{}", text))


@pytest.mark.parametrize("text", [
    "", ";", ";;", "select 1;", " select 1 ; ; select 2", "select E'\\x01\\x7f\\xc3\\xa9</>\"\\\\'", "select E'\\xff'", "select E'\\xc3'",
    "select U&'\\0041\\+00FFFF'", "select U&'\\D83D\\DE00'", "select 'a\nb'", 'select "' + "x" * 70 + '"', 'select "' + "é" * 40 + '"',
    'select "x' + "é" * 40 + '"', 'select "a\\b", "c""d", "\x01"', "select 2147483647, 2147483648, -2147483648, -2147483649, 0, -0, 1e400",
    "select b'', x'', ''", "select interval '1' year to month, interval(3) '1'", "select f(variadic a)", "table only t",
    "select $1::int, $2147483647", "selec", "select '", "select 1 from", "select * from a,,b"])
def test_edges(text: str) -> None:
    read(text)


@pytest.mark.parametrize("depth", [10, 190, 197, 198, 199, 200, 201, 400, 2000])
def test_what_nests_deeply_is_read_from_json_or_refused_as_before(depth: int) -> None:
    for opening, closing in (("f(", ")"), ("- ", ""), ("(select ", ")"), ("array[", "]"), ("case when a then ", " end"), ("not ", "")):
        text = "select " + opening * depth + "a" + closing * depth
        if len(text) < parse.DEFAULT_LIMIT:
            try:
                answer_of(text.encode())
            except SqlFault:
                assert not isinstance(_walk.raw_tree(text.encode()), list)
                continue
            assert _walk.raw_tree(text.encode()) is None or depth < 200
            assert depth > 400 or rawtree.same(text.encode())
    assert _walk.raw_tree(b"select " + b"- " * 150 + b"a") is not None


def test_long_lists() -> None:
    for text in ("select " + ", ".join(["a"] * 10_000), "insert into t values " + ", ".join(["(1, 'a', null)"] * 3000),
                 "select 1" + " union select 1" * 150, "select a" + " and a" * 5000, "; ".join(["select 1"] * 3000)):
        assert isinstance(read(text), list)


def test_threads_read_each_their_own() -> None:
    texts = [f"select {number}, a{number} from t{number} where 'x' = '{number}'" for number in range(200)]
    expected = [repr(_walk.raw_tree(text.encode())) for text in texts]
    wrong = []

    def run() -> None:
        for _ in range(20):
            for text, one in zip(texts, expected, strict=True):
                if repr(_walk.raw_tree(text.encode())) != one or _walk.raw_tree(b"select select") is not False:
                    wrong.append(text)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def start(change: str) -> list[str]:
    """What a process says of its parser whose tables were changed before it looked."""
    program = (f"from gateway.protocols.postgres.sql import layout, rawtree\n{change}\n"
               "from gateway.protocols.postgres.sql import parse, _walk\n"
               "print(parse.WHY_JSON)\nprint(_walk.is_direct())\nprint(parse.parse('select 1 limit 3')[0][0].body['limitOption'])\n")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "appliance"), str(ROOT)])}
    done = subprocess.run([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.splitlines()


def field(kind: str, name: str, form: str, at: int, of: str = "") -> str:
    """One field in another place."""
    return (f"tag, fields = layout.NODES['{kind}']\n"
            f"layout.NODES['{kind}'] = tag, tuple(('{name}', '{form}', {at}, '{of}') if one[0] == '{name}' else one for one in fields)")


@pytest.mark.parametrize("change", [
    field("ColumnRef", "location", "int", 20), field("A_Expr", "kind", "enum", 40, "A_Expr_Kind"), field("RangeVar", "inh", "bool", 33),
    field("RangeVar", "inh", "int", 32), field("SelectStmt", "all", "bool", 8), field("TypeName", "typemod", "uint", 48),
    field("String", "sval", "int", 8),
    "layout.NODES['ColumnRef'], layout.NODES['A_Star'] = layout.NODES['A_Star'], layout.NODES['ColumnRef']",
    "layout.ENUMS['LimitOption'] = {0: 'LIMIT_OPTION_DEFAULT', 1: 'LIMIT_OPTION_WITH_TIES', 2: 'LIMIT_OPTION_COUNT'}",
    "layout.PLACES['at.A_Const.location'] = 24", "layout.PLACES['at.RawStmt.stmt_len'] = 16", "del layout.NODES['SortBy']",
])
def test_a_layout_that_is_another_is_found_out(change: str) -> None:
    assert start(change) == ["the two ways of reading differ", "False", "LIMIT_OPTION_COUNT"]


def test_another_library_is_read_from_json() -> None:
    assert start("rawtree.KNOWN = frozenset()") == ["not a library that the layout is of", "False", "LIMIT_OPTION_COUNT"]
    assert start("") == ["", "True", "LIMIT_OPTION_COUNT"]


def test_what_was_not_compared_is_not_read() -> None:
    """Without the texts that hold them a join and a limit are read from JSON, and everything else from memory."""
    change = "rawtree.TEXTS = ('select 1, a', 'select a from t')"
    program = (f"from gateway.protocols.postgres.sql import rawtree\n{change}\nfrom gateway.protocols.postgres.sql import parse, _walk\n"
               "print([_walk.raw_tree(text) is not None for text in (b'select b from u', b'select 1 limit 1', "
               "b'select * from a join b on c', b'select 1 union select 2', b'begin')])")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "appliance"), str(ROOT)])}
    done = subprocess.run([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.strip() == "[True, False, False, False, False]"
