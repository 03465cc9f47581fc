# SPDX-License-Identifier: Apache-2.0
"""Schema files: what is written comes back, what is malformed is refused, and the shipped files are small and repeatable."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import pytest

from gateway.errors import ConfigError
from gateway.protocols.postgres.catalog.model import Cast, Catalog, Column, Function, Objects, Operator, Relation, Type
from gateway.protocols.postgres.catalog.offline import SHIPPED, builtin_to_bytes, dump, from_json, shipped_builtin, to_json

OBJECTS = Objects(
    frozenset({"alt"}),
    (
        Relation(16386, "alt", "t", "p", (Column("a", 1, 23, None, "1", True), Column("b", 2, 25, "upper(c)")), None, (16380, 16381), True),
        Relation(16387, "alt", "v", "v", (Column("a", 1, 23),), "select 1", triggers=True, row_security=True, persistence="u"),
    ),
    (Function(16390, "alt", "f", "f", (23, 25), 1, 25, 2249, True, "s", True, ("x", "y"), (("key", 25), ("value", 114)), "plpgsql"),),
    (Operator(16391, "alt", "@@@", 0, 23, 23, 16390),),
    (Type(16392, "alt", "d", "d", "S", 1, 2, 3, 25, (16390,), 4, True, (5,)),),
    (Cast(23, 16392, 16390, "i", 16393, "b"),),
)


def demo() -> dict[str, Any]:
    text = resources.files("gateway.config").joinpath("demo/orders-db.schema.json").read_text()
    document: dict[str, Any] = json.loads(text)
    return document


def test_everything_written_comes_back() -> None:
    catalog = Catalog("any", 150018, "orders", shipped_builtin(150018), OBJECTS)
    text = dump(to_json(catalog))
    back = from_json(json.loads(text))
    assert back.user == OBJECTS
    assert (back.server_version, back.database, back.builtin) == (150018, "orders", catalog.builtin)
    assert dump(to_json(back)) == text


def test_temporary_objects_stay_out() -> None:
    objects = Objects(frozenset({"pg_temp_3", "pg_toast_temp_3"}), (Relation(16386, "pg_temp_3", "t", "r", persistence="t"),))
    document = to_json(Catalog("any", 150018, "orders", shipped_builtin(150018), objects))
    assert (document["schemas"], document["relations"]) == ([], [])


def test_epoch_is_the_documents_digest() -> None:
    document = demo()
    changed = {**document, "database": "other"}
    assert from_json(document).epoch == from_json(demo()).epoch != from_json(changed).epoch


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"format": 2, "server_version": 150000, "database": "x"},
        {"format": 1, "server_version": "150000", "database": "x"},
        {"format": 1, "server_version": True, "database": "x"},
        {"format": 1, "server_version": 150000},
        {"format": 1, "server_version": 150000, "database": "x", "relations": [{"oid": 1}]},
        {"format": 1, "server_version": 150000, "database": "x", "relations": [[]]},
        {"format": 1, "server_version": 150000, "database": "x", "functions": [{"surprise": 1}]},
        {"format": 1, "server_version": 150000, "database": "x", "relations": 5},
    ],
)
def test_malformed_documents_are_refused(document: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="schema file"):
        from_json(document)


@pytest.mark.parametrize(("version", "shipped"), [(140000, 15), (150002, 15), (160004, 15), (170000, 15), (180001, 18), (190000, 18)])
def test_the_nearest_shipped_version_serves(version: int, shipped: int) -> None:
    assert shipped_builtin(version).server_version // 10000 == shipped


@pytest.mark.parametrize("major", SHIPPED)
def test_shipped_files_are_small_and_made_the_same_way_again(major: int) -> None:
    data = resources.files("gateway.protocols.postgres.catalog").joinpath(f"builtin-{major}.json.xz").read_bytes()
    assert len(data) < 100_000
    assert builtin_to_bytes(shipped_builtin(major * 10000)) == data


def test_shipped_catalog_knows_arguments_by_name_and_outputs() -> None:
    catalog = from_json(demo())
    (interval,) = catalog.functions("make_interval", path=("public",))
    assert interval.arg_names[:2] == ("years", "months")
    assert interval.defaults == len(interval.arg_types) == 7
    (each,) = catalog.functions("json_each")
    assert each.outputs == (("key", 25), ("value", 114))


def test_demo_schema_is_that_of_the_corpus() -> None:
    catalog = from_json(demo())
    assert [column.name for column in catalog.relation("customers", path=("public",)).columns] == [  # type: ignore[union-attr]
        "id", "name", "email", "ssn", "card", "notes",
    ]  # fmt: skip
    assert "FROM public.customers" in (catalog.relation("customer_v", "public").definition or "")  # type: ignore[union-attr]
    assert [found.arg_types for found in catalog.functions("get_ssn", path=("public",))] == [(23,)]
    assert catalog.relation("orders", path=("public",)).column("total").type_oid == 1700  # type: ignore[union-attr]
