# SPDX-License-Identifier: Apache-2.0
"""A name that could come to mean a relation with other masks or rules has to be given with its schema."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.errors import Refused
from gateway.masking.model import MaskSet
from gateway.masking.rules import REDACT
from gateway.model import Operation
from gateway.protocols.postgres.catalog.model import BuiltinCatalog, Catalog, Column, Objects, Relation
from gateway.protocols.postgres.namesakes import doubled, others_temporary, refuse_unlike_names, refuse_unsure_names, unsure

COLUMNS = (Column("id", 1, 23), Column("note", 2, 25))
PATH = ("pg_catalog", "alt", "public")
ONE = MaskSet({"public.orders.note": REDACT})


def relation(oid: int, schema: str, **more: Any) -> Relation:
    return replace(Relation(oid, schema, "orders", "r", COLUMNS), **more)


def catalog(*relations: Relation) -> Catalog:
    return Catalog("1", 150000, "orders", BuiltinCatalog(150000, Objects()), Objects(relations=relations))


TWO = catalog(relation(20001, "alt"), relation(20002, "public"))


@pytest.mark.parametrize(("found", "masks", "path", "names"), [
    (TWO, ONE, PATH, {"orders"}),
    (TWO, MaskSet({"*.orders.note": REDACT}), PATH, set()),
    (TWO, ONE, ("pg_catalog", "alt"), set()),
    (TWO, ONE, ("pg_catalog", "public"), set()),
    (catalog(relation(20002, "public")), ONE, PATH, set()),
    (catalog(relation(20001, "alt", kind="v"), relation(20002, "public")), MaskSet({"*.orders.note": REDACT}), PATH, {"orders"}),
    (catalog(relation(20001, "alt", parents=(7,)), relation(20002, "public")), MaskSet({"*.orders.note": REDACT}), PATH, {"orders"}),
    (catalog(relation(20001, "alt", kind="i"), relation(20002, "public")), ONE, PATH, set())])
def test_which_names_are_unsure(found: Catalog, masks: MaskSet, path: tuple[str, ...], names: set[str]) -> None:
    assert unsure(masks, found, path) == names
    assert unsure(masks, found, path) == names, "as it was kept"


@pytest.mark.parametrize("text", [
    "select upper(note) from orders", "select 1; select upper(note) from orders", "select (select upper(note) from orders limit 1)",
    "update orders set note = note", "insert into orders select * from orders", "copy orders to stdout", "explain select note from orders",
    "with o as (select upper(note) u from orders) select u from o", "prepare p as select upper(note) from orders", "drop table orders",
    "select upper(note) from ORDERS", "select 1 where exists (with orders as (select 1) select from orders)"])
def test_without_their_schema_they_are_refused(text: str) -> None:
    with pytest.raises(Refused, match="name it with its schema") as refused:
        refuse_unsure_names([text], ONE, TWO, PATH)
    assert refused.value.code == "42501"


@pytest.mark.parametrize("text", [
    "select upper(note) from alt.orders", "select note from public.orders", "select orders.note from alt.orders", "select 1", "",
    'select 1 as orders, (select "orders".id from alt.orders)'])
def test_with_it_they_pass(text: str) -> None:
    refuse_unsure_names([text], ONE, TWO, PATH)


def test_what_was_prepared_counts_too_and_what_cannot_be_read_is_refused() -> None:
    with pytest.raises(Refused, match="name it with its schema"):
        refuse_unsure_names(["execute p", "select upper(note) from orders"], ONE, TWO, PATH)
    with pytest.raises(Refused, match="set search_path"):
        refuse_unsure_names(["select " + "1, " * 30000 + "1 from alt.orders"], ONE, TWO, PATH)


DELETE = Operation("postgres", "delete", ("alt.orders",), {"relations": ("alt.orders",)})


def by_schema(one: Operation, other: Operation) -> bool:
    """As rules that speak of ``alt.*``."""
    return ("alt.orders",) in one.attributes.values() and ("alt.orders",) in other.attributes.values()


def test_what_has_namesakes() -> None:
    found = {"alt.orders": ("orders", ("public.orders",)), "public.orders": ("orders", ("alt.orders",))}
    assert doubled(TWO, PATH) == doubled(TWO, PATH) == found
    assert doubled(TWO, ("pg_catalog", "alt")) == {}
    assert doubled(catalog(relation(20001, "alt", kind="S"), relation(20002, "public", kind="i")), PATH) == found


@pytest.mark.parametrize("text", ["delete from orders", "drop table orders", "explain delete from orders",
                                  "with gone as (delete from orders returning 1) select 1", "select 1; delete from orders"])
def test_under_rules_that_tell_them_apart_they_are_refused(text: str) -> None:
    with pytest.raises(Refused, match="their rules differ: name it with its schema") as refused:
        refuse_unlike_names([text], [DELETE], by_schema, TWO, PATH)
    assert refused.value.code == "42501"


def test_under_the_same_rules_or_with_a_schema_they_pass() -> None:
    refuse_unlike_names(["delete from orders"], [DELETE], lambda one, other: True, TWO, PATH)
    refuse_unlike_names(["delete from alt.orders"], [DELETE], by_schema, TWO, PATH)
    refuse_unlike_names(["delete from orders"], [DELETE], by_schema, TWO, ("pg_catalog", "alt"))
    refuse_unlike_names(["begin"], [Operation("postgres", "begin")], by_schema, TWO, PATH)
    with pytest.raises(Refused, match="set search_path"):
        refuse_unlike_names(["delete from alt.orders where id in (" + "1, " * 30000 + "1)"], [DELETE], by_schema, TWO, PATH)


@pytest.mark.parametrize("operation", [
    Operation("postgres", "drop-table", ("pg_temp_4.t",), {"relations": ("pg_temp_4.t",)}),
    Operation("postgres", "select", ("public.t", "pg_toast_temp_4.t"), {"relations": ("public.t", "pg_toast_temp_4.t")}),
    Operation("postgres", "drop-schema", ("pg_temp_4",))])
def test_temporary_relations_are_their_session_s_alone(operation: Operation) -> None:
    for own in (None, "pg_temp_5", "pg_temp_44"):
        assert "of another session" in others_temporary([DELETE, operation], own)
    assert others_temporary([DELETE, operation], "pg_temp_4") == ""
