# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.demo_folder import make_demo, run

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def etc(tmp_path: Path, capsys: Capture) -> Path:
    made = make_demo(tmp_path)
    capsys.readouterr()
    return made


def access(etc: Path, capsys: Capture, *words: str) -> list[dict[str, Any]]:
    assert run("access", "--config", str(etc), "--json", *words) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_every_identity_on_every_resource(etc: Path, capsys: Capture) -> None:
    found = access(etc, capsys)
    assert [(one["identity"], one["resource"]) for one in found] == [("ci-bot", "orders-db"), ("reporting", "orders-db")]
    assert found[0]["masks"]["public.customers.card"] == "keep_last: 4"
    assert found[1]["limits"] == {"max": 3600.0, "rows": 1_000_000}
    rules = {rule["rule"]: rule for rule in found[0]["grants"][0]["rules"]}
    assert rules["unbounded-write"] == {
        "rule": "unbounded-write", "effect": "approve", "sql": {"verbs": ["update", "delete"], "where": "missing"}, "by": "one-dba"}


def test_one_identity_and_groups_of_people(etc: Path, capsys: Capture) -> None:
    assert [one["identity"] for one in access(etc, capsys, "--identity", "reporting", "--resource", "orders-db")] == ["reporting"]
    rules = [{"name": "r", "allow": {"sql": {}}}]
    grants = {"grants": [{"name": "dba reads", "to": ["group:dba"], "targets": ["orders-db"], "rules": rules}]}
    (etc / "policy" / "grants" / "dba.yaml").write_text(json.dumps(grants))
    [one] = access(etc, capsys, "--identity", "group:dba")
    assert (one["identity"], one["denied"]) == ("group:dba", None)


def test_wrong_names(etc: Path) -> None:
    assert run("access", "--config", str(etc), "--identity", "nobody") == 2
    assert run("access", "--config", str(etc), "--resource", "nothing") == 2


def test_for_people(etc: Path, capsys: Capture) -> None:
    assert run("access", "--config", str(etc), "--identity", "ci-bot") == 0
    shown = capsys.readouterr().out
    assert "ci-bot on orders-db\n  ci works on orders  (from 2026-01-01" in shown
    assert "limits max 8h, idle 30m, concurrent 50, until 2036-01-01T00:00:00Z" in shown
