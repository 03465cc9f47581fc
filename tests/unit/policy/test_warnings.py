# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

from gateway.policy.warnings import warnings
from tests.unit.identity.folder import IDENTITIES, ISSUERS, make_folder, new_issuers

READ: dict[str, Any] = {"verbs": ["select"], "relations": ["public.*"]}


def warned(root: Path, rules: list[dict[str, Any]], **lists: Any) -> list[str]:
    grants = [{"name": "g", "to": ["ci-bot"], "targets": ["orders-db"], "rules": rules}]
    keys = {name: issuer.jwks() for name, issuer in new_issuers().items()}
    return [problem.message for problem in warnings(make_folder(root, {"grants": grants, **lists}, keys))]


def test_nothing_to_say(tmp_path: Path) -> None:
    rules = [{"name": "a", "allow": {"sql": READ}}, {"name": "b", "allow": {"sql": {"functions": ["nextval"]}}},
             {"name": "c", "deny": {"sql": {"verbs": ["create", "alter"]}}},
             {"name": "d", "deny": {"sql": {"verbs": "set", "parameters": "role"}}},
             {"name": "e", "deny": {"sql": {"where": "missing"}}},
             {"name": "f", "deny": {"sql": {}}}]
    assert warned(tmp_path, rules) == []


def test_two_identities_that_can_match_one_token(tmp_path: Path) -> None:
    wide = {"name": "wide", "issuer": "ci", "match": {"sub": "project:*:ref:main"}}
    assert warned(tmp_path, [], identities=[*IDENTITIES, wide]) == ["a token could match 'ci-bot' too; such a token is refused"]


def test_rules_that_can_never_match(tmp_path: Path) -> None:
    rules = [{"name": "a", "allow": {"sql": {"verbs": ["select"], "functions": ["nextval"]}}},
             {"name": "b", "deny": {"sql": {"verbs": ["insert"], "where": "missing"}}},
             {"name": "c", "deny": {"sql": {"verbs": ["delete"], "parameters": ["role"]}}}]
    found = warned(tmp_path, rules)
    assert [message.split("'")[1] for message in found] == ["a", "b", "c"]


def test_a_rule_that_is_denied_word_by_word(tmp_path: Path) -> None:
    rules = [{"name": "a", "allow": {"sql": READ}}, {"name": "z", "deny": {"sql": READ}}]
    assert warned(tmp_path, rules) == ["rule 'a' never counts: g/z denies the same"]


def test_approvals_nobody_can_satisfy_and_owners_that_are_robots(tmp_path: Path) -> None:
    staff = {key: value for key, value in ISSUERS[1].items() if key != "groups_claim"}
    ines = {"name": "ines", "issuer": "staff", "match": {"sub": "user:ines"}, "groups": ["dba"]}
    approvals = [{"name": "two", "all_of": [{"group": "dba", "count": 2}]}]
    found = warned(tmp_path / "a", [], issuers=[ISSUERS[0], staff], identities=[*IDENTITIES, ines], approvals=approvals)
    assert found == ["group 'dba' has 1 people by entry, 2 are needed, and no issuer of people has groups_claim"]
    owned = [IDENTITIES[0] | {"owner": "reporting"}, IDENTITIES[1]]
    assert warned(tmp_path / "b", [], identities=owned) == ["owner 'reporting' is an identity, not a person"]
