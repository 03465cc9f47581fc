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


def explain(etc: Path, capsys: Capture, text: str, *words: str, who: str = "ci-bot") -> tuple[int, dict[str, Any]]:
    status = run("explain", "--config", str(etc), "--json", "--identity", who, "--resource", "orders-db", *words, text)
    return status, json.loads(capsys.readouterr().out)


def test_allow_with_masks(etc: Path, capsys: Capture) -> None:
    status, said = explain(etc, capsys, "select id, ssn as x, email, card, ssn || '' as y from customers")
    assert (status, said["effect"], said["rules"]) == (0, "allow", ["ci works on orders/data"])
    assert said["masks"] == {"x": "redact", "email": "email", "card": "keep_last: 4", "y": "redact"}


def test_approve_and_deny(etc: Path, capsys: Capture) -> None:
    status, said = explain(etc, capsys, "delete from orders")
    assert (status, said["effect"], said["approvals"], said["rules"]) == (0, "approve", ["one-dba"], ["ci works on orders/unbounded-write"])
    status, said = explain(etc, capsys, "select 1; drop database orders")
    assert (status, said["effect"], said["rules"]) == (1, "deny", ["ci works on orders/never"])
    assert said["reason"] == "denied by ci works on orders/never"
    status, said = explain(etc, capsys, "select get_ssn(1)")
    assert (status, said["effect"], said["rules"]) == (1, "deny", [])
    assert said["reason"].startswith("no rule allows call of public.get_ssn; ask: lockgate explain --identity ci-bot --resource orders-db")
    status, said = explain(etc, capsys, "insert into orders values (1)", who="reporting")
    assert (status, said["effect"], said["rules"]) == (1, "deny", [])


def test_what_cannot_be_understood_is_denied(etc: Path, capsys: Capture) -> None:
    for text, code in (("selec 1", "42601"), ("select * from nowhere", "42P01"), ("select nothing from orders", "42703")):
        status, said = explain(etc, capsys, text)
        assert (status, said["effect"]) == (1, "deny")
        assert said["reason"].startswith(code)


def test_laundering_is_denied_though_rules_allow_it(etc: Path, capsys: Capture) -> None:
    status, said = explain(etc, capsys, "update customers set name = ssn where id = 1")
    assert (status, said["effect"], said["rules"]) == (1, "deny", [])
    assert "ssn" in said["reason"] or "mask" in said["reason"]


def test_moment(etc: Path, capsys: Capture) -> None:
    status, said = explain(etc, capsys, "select id from orders", "--at", "2025-06-01T00:00:00Z")
    assert (status, said["effect"]) == (1, "deny")
    assert "now" in said["reason"]
    assert run("explain", "--config", str(etc), "--identity", "ci-bot", "--resource", "orders-db", "--at", "soon", "select 1") == 2


def test_unknown_is_never_allow(etc: Path, capsys: Capture) -> None:
    (etc / "policy" / "schemas" / "orders-db.json").unlink()
    resources = etc / "policy" / "resources.yaml"
    resources.write_text(resources.read_text().replace("127.0.0.1:5432", "127.0.0.1:1"))
    status, said = explain(etc, capsys, "select 1")
    assert (status, said["effect"], said["rules"], said["masks"]) == (1, "unknown", [], {})


def test_people_are_asked_for_by_group(etc: Path, capsys: Capture) -> None:
    grants = etc / "policy" / "grants" / "dba.yaml"
    grants.write_text(json.dumps({"grants": [{"name": "dba reads", "to": ["group:dba"], "targets": ["orders-db"], "rules": [
        {"name": "r", "allow": {"sql": {"verbs": ["select"], "relations": ["public.orders"]}}}]}]}))
    assert explain(etc, capsys, "select id from orders", "--group", "dba", who="ines")[1]["effect"] == "allow"
    assert explain(etc, capsys, "select id from orders", "--group", "ops", who="omar")[1]["effect"] == "deny"
    assert run("explain", "--config", str(etc), "--identity", "ines", "--resource", "orders-db", "select 1") == 2


def test_wrong_requests(etc: Path, capsys: Capture) -> None:
    assert run("explain", "--config", str(etc), "--identity", "ci-bot", "--resource", "nothing", "select 1") == 2
    assert run("explain", "--config", str(etc), "--identity", "ci-bot", "--resource", "orders-db", "--database", "x", "select 1") == 2
    (etc / "policy" / "schemas" / "orders-db.json").write_text("[]")
    assert run("explain", "--config", str(etc), "--identity", "ci-bot", "--resource", "orders-db", "select 1") == 2
    assert "schema" in capsys.readouterr().out


def test_for_people(etc: Path, capsys: Capture) -> None:
    assert run("explain", "--config", str(etc), "--identity", "ci-bot", "--resource", "orders-db", "select ssn from customers") == 0
    assert capsys.readouterr().out.splitlines() == ["effect    allow", "rules     ci works on orders/data", "mask      ssn: redact"]
