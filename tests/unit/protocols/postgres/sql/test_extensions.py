# SPDX-License-Identifier: Apache-2.0
"""Compiled, immutable functions of extensions carry their arguments and nothing else; all other code that is not built in is unknown."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.protocols.postgres.catalog import Cast, Catalog, Column, Function, Operator, Relation, Type
from tests.unit.protocols.postgres.sql.shop import CATALOG, CONTEXT, TEXT, one, origins

BAG = 17101
LIKENESS = Function(30101, "public", "likeness", "f", (TEXT, TEXT), result=700, volatile="i", language="c", extension="pg_trgm")
_INTO = Function(30103, "public", "bag_in", "f", (2275,), result=BAG, volatile="i", language="c", extension="hstore")
_OUT = Function(30105, "public", "bag_out", "f", (BAG,), result=2275, volatile="s", language="internal", extension="hstore")
_ANALYZE = Function(30107, "public", "bag_analyze", "f", (2281,), result=16, volatile="v", language="c", extension="hstore")
_GET = Function(30109, "public", "fetchval", "f", (BAG, TEXT), result=TEXT, volatile="i", language="c", extension="hstore")
_MADE = Function(30111, "public", "bag", "f", (TEXT, TEXT), result=BAG, volatile="i", language="c", extension="hstore")


def catalog(likeness: Function = LIKENESS, into: Function = _INTO) -> Catalog:
    user = CATALOG.user
    return replace(CATALOG, user=replace(
        user, functions=(*user.functions, likeness, into, _OUT, _ANALYZE, _GET, _MADE),
        operators=(*user.operators, Operator(31101, "public", "~>", BAG, TEXT, TEXT, 30109)),
        types=(*user.types, Type(BAG, "public", "bag", "b", "U", functions=(into.oid, 30105, 30107))),
        casts=(*user.casts, Cast(BAG, TEXT, 30105, "e", 32101))))


@pytest.mark.parametrize(("text", "wanted"), [
    ("select likeness('a', 'b')", set()), ("select likeness(name, 'b') from customers", {"customers.name"}),
    ("select likeness(ssn, name) from customers", {"customers.ssn", "customers.name"}), ("select 'a'::bag ~> 'b'", set()),
    ("select ssn::bag ~> 'b' from customers", {"customers.ssn"}), ("select bag('a', ssn) from customers", {"customers.ssn"}),
    ("select bag('a', name) ~> 'a' from customers", {"customers.name"}), ("select x from bag('a', 'b') x", set()),
    ("select likeness(get_ssn(1), 'a')", {"?"}), ("select 'a'::bag", set()),
])
def test_what_only_computes_carries_its_arguments(text: str, wanted: set[str]) -> None:
    assert origins(text, catalog=catalog()) == wanted
    if "get_ssn" not in text:
        assert not one(text, catalog=catalog()).sinks


@pytest.mark.parametrize("change", [
    {"volatile": "s"}, {"volatile": "v"}, {"language": "plpgsql"}, {"language": "sql"}, {"extension": ""}, {"kind": "a"},
    {"language": "plpython3u"}, {"arg_types": (2205, TEXT)}, {"extension": "pgrouting"},
    {"extension": "of_our_own"}, {"returns_set": True}, {"result": 2283},
])
def test_t30_everything_else_could_carry_anything(change: dict[str, object]) -> None:
    other = catalog(replace(LIKENESS, **change))  # type: ignore[arg-type]
    arguments = "'orders'::regclass, 'b'" if "arg_types" in change else "'a', 'b'"
    assert origins(f"select likeness({arguments})", catalog=other) == {"?"}
    assert change.get("kind") or "arg_types" in change or one("select likeness(ssn, 'b') from customers", catalog=other).sinks


@pytest.mark.parametrize("change", [{"volatile": "v"}, {"language": "plpgsql"}, {"extension": ""}])
def test_t30_types_of_other_code_too(change: dict[str, object]) -> None:
    assert origins("select 'a'::bag", catalog=catalog(into=replace(_INTO, **change))) == {"?"}  # type: ignore[arg-type]


def test_it_still_needs_a_rule() -> None:
    for text, name in (("select likeness('a', 'b')", "public.likeness"), ("select 'a'::bag", "public.bag"),
                       ("select bag('a', 'b') ~> 'a'", "public.fetchval")):
        called = [op for op in one(text, CONTEXT, catalog()).operations if op.verb == "call" and not op.attributes.get("free")]
        assert name in {op.objects[0] for op in called}
        assert not one(text, CONTEXT, catalog()).early


@pytest.mark.parametrize("text", [
    "select jsonb_populate_record(null::kind, jsonb_build_object('a', ssn)) from customers",
    "select jsonb_populate_record(from_json => jsonb_build_object('a', ssn), base => null::kind) from customers",
    "select * from customers, json_populate_recordset(null::kind, json_build_array(json_build_object('a', ssn)))",
])
def test_t30_a_row_that_is_filled_runs_what_its_domains_check(text: str) -> None:
    user = CATALOG.user
    kind = Relation(20901, "public", "kind", "c", (Column("a", 1, 17005),))
    other = replace(CATALOG, user=replace(user, relations=(*user.relations, kind),
                                          types=(*user.types, Type(20902, "public", "kind", "c", "C", relation_oid=20901))))
    made = one(text, catalog=other)
    assert "public.looks_good" in {sink.what for sink in made.sinks}
    assert "public.looks_good" in {op.objects[0] for op in made.operations if op.verb == "call"}
    assert not one("select jsonb_populate_record(null::orders, notes) from customers").sinks
