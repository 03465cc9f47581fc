# SPDX-License-Identifier: Apache-2.0
"""The ``sql:`` matcher, key by key."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.model import Operation
from gateway.protocols import by_matcher
from gateway.protocols.postgres.operations import PROTOCOL, compile_matcher, expand


def operation(verb: str, *objects: str, **attributes: Any) -> Operation:
    return Operation("postgres", verb, objects, attributes)


def matches(spec: dict[str, Any], wanted: Operation, effect: str = "allow") -> bool:
    return compile_matcher(spec, effect)(wanted)


SELECT = operation("select", relations=("public.orders",))
BARE_SELECT = operation("select")
CALL = operation("call", functions=("public.get_ssn",), free=False)
UPPER = operation("call", functions=("pg_catalog.upper",), free=True)
COPY = operation("copy-to", container=True, relations=("public.orders",))


def test_the_protocol_is_found_by_its_key() -> None:
    found = by_matcher("sql")
    assert found is PROTOCOL


def test_generic_verbs_cover_every_kind_of_object() -> None:
    assert matches({"verbs": ["create"]}, operation("create-table"))
    assert matches({"verbs": ["drop"]}, operation("drop-database"))
    assert matches({"verbs": ["alter"]}, operation("alter-system"))
    assert not matches({"verbs": ["drop-table"]}, operation("drop-database"))
    assert not matches({"verbs": ["create"]}, operation("drop-table"))


def test_relations() -> None:
    assert matches({"relations": ["public.orders"]}, SELECT)
    assert matches({"relations": ["public.*"]}, SELECT)
    assert matches({"relations": ["public.ord*"]}, SELECT)
    assert not matches({"relations": ["public.Orders"]}, SELECT)
    assert not matches({"relations": ["other.*"]}, SELECT)
    assert not matches({"relations": ["*.*"]}, operation("begin"))


def test_a_star_does_not_cross_the_dot() -> None:
    assert expand("public.*", ["public.a", "public.a.b", "publicXa"]) == ["public.a"]
    assert not matches({"functions": ["*.f"]}, operation("call", functions=("a.b.f",)))


def test_a_select_without_relation_or_a_container_satisfies_relations_in_an_allow_only() -> None:
    spec = {"relations": ["public.customers"]}
    assert matches(spec, BARE_SELECT)
    assert not matches(spec, BARE_SELECT, "deny")
    assert matches(spec, COPY)
    assert not matches(spec, COPY, "approve")
    assert matches({"relations": ["public.orders"]}, COPY, "deny")
    assert not matches(spec, operation("insert"), "allow")


def test_functions() -> None:
    assert matches({"functions": ["public.get_ssn"]}, CALL)
    assert matches({"functions": ["get_*"]}, CALL)
    assert matches({"functions": ["*.get_ssn"]}, CALL)
    assert not matches({"functions": ["other.get_ssn"]}, CALL)
    assert not matches({"functions": ["get_ssn"]}, SELECT)
    assert not matches({"functions": ["*"]}, operation("begin"))


def test_builtins_that_need_no_rule_match_only_rules_about_functions() -> None:
    assert matches({"functions": ["upper"]}, UPPER, "deny")
    assert matches({"functions": ["pg_catalog.*"]}, UPPER, "approve")
    assert not matches({"verbs": ["call"]}, UPPER, "deny")
    assert not matches({}, UPPER, "deny")
    assert matches({"verbs": ["call"]}, CALL, "deny")
    execute = operation("execute", "p", free=True)
    assert matches({"verbs": ["execute"]}, execute, "deny")
    assert not matches({}, execute, "deny")


def test_where() -> None:
    assert matches({"verbs": ["delete"], "where": "missing"}, operation("delete", where="missing"), "approve")
    assert not matches({"verbs": ["delete"], "where": "missing"}, operation("delete"), "approve")
    assert not matches({"where": "missing"}, SELECT, "deny")


SET = {"verbs": ["set", "reset"]}


@pytest.mark.parametrize(
    "name",
    [
        "application_name",
        "search_path",
        "statement_timeout",
        "transaction_isolation",
        "default_transaction_read_only",
        "timezone",
        "datestyle",
        "jit",
        "constraints",
    ],
)
def test_harmless_settings_need_no_naming(name: str) -> None:
    assert matches(SET, operation("set", parameters=(name,)))
    assert matches(SET, operation("reset", parameters=(name,)))
    assert matches({}, operation("set", parameters=(name,)))


@pytest.mark.parametrize(
    "name", ["work_mem", "session_preload_libraries", "row_security", "client_encoding", "session_replication_role", "app.x"]
)
def test_other_settings_do(name: str) -> None:
    wanted = operation("set", parameters=(name,))
    assert not matches(SET, wanted)
    assert not matches({}, wanted)
    assert matches({"verbs": ["set"], "parameters": [name]}, wanted)
    assert matches({"verbs": ["set"], "parameters": [name.upper()]}, wanted)
    assert matches(SET, wanted, "deny")


@pytest.mark.parametrize("name", ["row_security", "client_encoding", "session_replication_role", "standard_conforming_strings"])
def test_a_pattern_does_not_name_the_dangerous_ones(name: str) -> None:
    wanted = operation("set", parameters=(name,))
    assert not matches({"verbs": ["set"], "parameters": ["*"]}, wanted)
    assert matches({"verbs": ["set"], "parameters": ["*"]}, wanted, "deny")
    assert matches({"verbs": ["set"], "parameters": ["*"]}, operation("set", parameters=("work_mem",)))


def test_pinned_values_and_reset_all_are_harmless() -> None:
    assert matches(SET, operation("set", parameters=("client_encoding",), pinned=True))
    assert matches(SET, operation("reset"))
    assert not matches({"verbs": ["reset"], "parameters": ["jit"]}, operation("reset"))


@pytest.mark.parametrize(("verb", "name"), [("set-role", "role"), ("set-session-authorization", "session_authorization")])
def test_roles_are_named_by_their_verb_or_parameter(verb: str, name: str) -> None:
    wanted = operation(verb, parameters=(name,))
    assert matches({"verbs": [verb]}, wanted)
    assert matches({"verbs": ["set"], "parameters": [name]}, wanted)
    assert not matches({"verbs": ["set"]}, wanted)
    assert not matches({"verbs": ["set"], "parameters": ["*"]}, wanted)
    assert not matches({}, wanted)
    assert matches({"verbs": ["set"]}, wanted, "deny")
    assert matches({}, wanted, "deny")


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ({"verb": ["select"]}, "verb"),
        ({"verbs": ["selct"]}, "selct"),
        ({"verbs": []}, "verbs"),
        ({"verbs": None}, "verbs"),
        ({"relations": ["orders"]}, "orders"),
        ({"relations": ["a.b.c"]}, "a.b.c"),
        ({"where": "present"}, "where"),
        ({"functions": [""]}, "functions"),
        ({"parameters": [1]}, "parameters"),
    ],
)
def test_mistakes_are_named(spec: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        compile_matcher(spec, "allow")
