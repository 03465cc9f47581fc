# SPDX-License-Identifier: Apache-2.0
"""Look-ups find what the target would find: search path, pg_catalog, pg_temp, overloads, inheritance."""

from __future__ import annotations

import dataclasses

import pytest

from gateway.protocols.postgres.catalog.model import BuiltinCatalog, Cast, Catalog, Column, Function, Objects, Operator, Relation, Type

INT4, TEXT = 23, 25
BUILTIN = BuiltinCatalog(
    150000,
    Objects(
        schemas=frozenset({"pg_catalog", "information_schema", "public"}),
        relations=(Relation(1259, "pg_catalog", "pg_class", "r"),),
        functions=(Function(871, "pg_catalog", "upper", "f", (TEXT,), result=TEXT, volatile="i"),),
        operators=(Operator(551, "pg_catalog", "+", INT4, INT4, INT4, 177), Operator(558, "pg_catalog", "-", 0, INT4, INT4, 212)),
        types=(Type(INT4, "pg_catalog", "int4", "b", "N"), Type(TEXT, "pg_catalog", "text", "b", "S", preferred=True)),
        casts=(Cast(INT4, 20, 481, "i", 10001),),
    ),
)


def relation(oid: int, name: str, schema: str = "public", *parents: int) -> Relation:
    return Relation(oid, schema, name, "r", (Column("id", 1, INT4),), parents=parents)


def catalog(**objects: object) -> Catalog:
    return Catalog("e1", 150000, "orders", BUILTIN, Objects(**objects))  # type: ignore[arg-type]


def test_path_order_decides() -> None:
    names = catalog(relations=(relation(20001, "orders"), relation(20002, "orders", "alt")))
    assert names.relation("orders", path=("public", "alt")) == names.relation_by_oid(20001)
    assert names.relation("orders", path=("alt", "public")) == names.relation_by_oid(20002)
    assert names.relation("orders", "alt", path=("public",)) == names.relation_by_oid(20002)
    assert names.relation("orders", path=()) is None
    assert names.relation("ORDERS", path=("public",)) is None


def test_pg_catalog_is_first_unless_the_path_names_it() -> None:
    names = catalog(relations=(relation(20001, "pg_class"),))
    assert names.relation("pg_class", path=("public",)).oid == 1259  # type: ignore[union-attr]
    assert names.relation("pg_class", path=("public", "pg_catalog")).oid == 20001  # type: ignore[union-attr]
    assert names.relation("pg_class", path=()).oid == 1259  # type: ignore[union-attr]


def test_temp_schema_shadows_relations_and_types() -> None:
    temp = "pg_temp_3"
    names = catalog(
        relations=(relation(20001, "orders"), relation(20002, "orders", temp), relation(20003, "pg_class", temp)),
        types=(Type(20010, temp, "text", "d", "S"),),
    )
    assert names.relation("orders", path=(temp, "pg_catalog", "public")).oid == 20002  # type: ignore[union-attr]
    assert names.relation("pg_class", path=("public",), temp_schema=temp).oid == 20003  # type: ignore[union-attr]
    assert names.relation("orders", path=("public", temp)).oid == 20001  # type: ignore[union-attr]
    assert names.relation("orders", path=("public", "pg_temp"), temp_schema=temp).oid == 20001  # type: ignore[union-attr]
    assert names.type("text", path=("public",), temp_schema=temp).oid == 20010  # type: ignore[union-attr]
    assert names.type("text", path=("public",), temp_schema=temp, temporary=False).oid == TEXT  # type: ignore[union-attr]


def test_written_pg_temp_is_the_sessions_own() -> None:
    names = catalog(relations=(relation(20002, "orders", "pg_temp_3"),))
    assert names.relation("orders", "pg_temp", temp_schema="pg_temp_3").oid == 20002  # type: ignore[union-attr]
    assert names.relation("orders", "pg_temp", temp_schema="pg_temp_4") is None
    assert names.relation("orders", "pg_temp") is None
    assert names.relation("orders", "pg_temp_3").oid == 20002  # type: ignore[union-attr]


@pytest.mark.parametrize("temp_schema", ["pg_temp_3", None])
def test_functions_and_operators_of_the_temp_schema_must_be_written(temp_schema: str | None) -> None:
    names = catalog(
        functions=(Function(20001, "pg_temp_3", "upper", "f", (TEXT,)),),
        operators=(Operator(20002, "pg_temp_3", "+", INT4, INT4, INT4, 20001),),
    )
    path = ("pg_temp_3", "pg_catalog", "public")
    assert [found.oid for found in names.functions("upper", path=path, temp_schema=temp_schema)] == [871]
    assert [found.oid for found in names.operators("+", path=path, temp_schema=temp_schema)] == [551]
    assert [found.oid for found in names.functions("upper", "pg_temp_3")] == [20001]
    assert [found.oid for found in names.functions("upper", "pg_temp", temp_schema="pg_temp_3")] == [20001]


def test_candidates_come_in_path_order_and_equal_arguments_hide() -> None:
    mine, other, also = (
        Function(20001, "public", "upper", "f", (TEXT,)),
        Function(20002, "public", "upper", "f", (INT4,)),
        Function(20003, "alt", "upper", "f", (INT4,)),
    )
    names = catalog(functions=(mine, other, also))
    assert [found.oid for found in names.functions("upper", path=("public", "alt"))] == [871, 20002]
    assert [found.oid for found in names.functions("upper", path=("public", "pg_catalog"))] == [20001, 20002]
    assert [found.oid for found in names.functions("upper", path=("alt", "public"))] == [871, 20003]
    assert names.functions("upper", "nowhere") == ()


def test_prefix_and_infix_operators_are_told_apart() -> None:
    names = catalog(operators=(Operator(20001, "public", "-", INT4, INT4, INT4, 1),))
    assert [found.oid for found in names.operators("-", path=("public",))] == [558, 20001]


def test_inheritance_is_followed_to_the_end_both_ways() -> None:
    family = (
        relation(20001, "top"),
        relation(20002, "left", "public", 20001),
        relation(20003, "right", "public", 20001),
        relation(20004, "bottom", "public", 20002, 20003),
    )
    names = catalog(relations=family)
    assert [found.name for found in names.children(20001)] == ["left", "right", "bottom"]
    assert [found.name for found in names.ancestors(20004)] == ["left", "right", "top"]
    assert names.children(20004) == () == names.ancestors(20001)


def test_casts_of_users_are_found_from_either_side() -> None:
    mine = Cast(INT4, 20001, 20002, "e", 20003)
    names = catalog(casts=(mine,))
    assert names.casts_to(20001) == (mine,) == names.casts_from(INT4)
    assert names.casts_to(20) == ()
    assert names.cast(INT4, 20) == BUILTIN.objects.casts[0]
    assert names.cast(INT4, 20001) == mine
    assert names.cast(20001, INT4) is None


def test_what_is_built_in() -> None:
    assert [Catalog.is_builtin(oid) for oid in (0, 1, 16383, 16384)] == [False, True, True, False]


def test_schemas_are_of_both_parts() -> None:
    assert catalog(schemas=frozenset({"alt"})).schemas == {"pg_catalog", "information_schema", "public", "alt"}


def test_snapshot_does_not_change_and_other_user_objects_make_another() -> None:
    names = catalog(relations=(relation(20001, "orders"),))
    changed = names.replace_user_objects(Objects(relations=(relation(20005, "orders"),)), "e2", "pg_temp_1")
    assert (changed.epoch, changed.loaded_temp_schema, changed.builtin) == ("e2", "pg_temp_1", names.builtin)
    assert (names.relation("orders", "public").oid, changed.relation("orders", "public").oid) == (20001, 20005)  # type: ignore[union-attr]
    with pytest.raises(dataclasses.FrozenInstanceError):
        names.epoch = "other"  # type: ignore[misc]


def test_column_by_name() -> None:
    assert relation(20001, "orders").column("id") == Column("id", 1, INT4)
    assert relation(20001, "orders").column("ID") is None
