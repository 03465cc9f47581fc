# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import shutil
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


def run_cases(etc: Path, capsys: Capture) -> tuple[int, dict[str, Any]]:
    status = run("policy", "test", "--config", str(etc), "--json")
    return status, json.loads(capsys.readouterr().out)


def write_cases(etc: Path, *cases: dict[str, Any]) -> None:
    tests = [{"identity": "ci-bot", "resource": "orders-db"} | one for one in cases]
    (etc / "policy" / "tests" / "more.yaml").write_text(json.dumps({"tests": tests}))


def test_the_contracts_cases_hold(etc: Path, capsys: Capture) -> None:
    status, said = run_cases(etc, capsys)
    assert (status, said["failed"], said["failures"]) == (0, 0, [])
    assert said["passed"] == 16
    assert "reporting reads orders/read" in said["rules_never_hit"]
    assert "ci works on orders/never" not in said["rules_never_hit"]


def test_sets_are_compared_and_failures_say_what_was_got(etc: Path, capsys: Capture) -> None:
    asked = {"sql": "select ssn, card from customers"}
    write_cases(etc, asked | {"effect": "approve", "masked": ["card"], "rules": ["never"], "by": ["one-dba"]},
                asked | {"masked": ["card", "ssn"], "rules": ["data"]}, asked | {"rules": ["ci works on orders/data"]},
                {"sql": "delete from orders where false or true", "by": ["one-dba"], "effect": "approve"})
    status, said = run_cases(etc, capsys)
    assert (status, said["failed"], said["passed"]) == (1, 1, 19)
    assert said["failures"][0]["differs"] == {
        "effect": {"expected": "approve", "got": "allow"}, "masked": {"expected": ["card"], "got": ["card", "ssn"]},
        "rules": {"expected": ["never"], "got": ["ci works on orders/data"]}, "by": {"expected": ["one-dba"], "got": []}}
    assert run("policy", "test", "--config", str(etc)) == 1
    shown = capsys.readouterr().out
    assert "FAILED  ci-bot on orders-db: select ssn, card from customers" in shown
    assert "        effect: expected approve, got allow" in shown
    assert shown.endswith("19 passed, 1 failed\n")


def test_a_case_has_its_moment(etc: Path, capsys: Capture) -> None:
    write_cases(etc, {"sql": "select id from orders", "effect": "deny", "at": "2025-01-01T00:00:00Z"},
                {"sql": "drop database orders", "effect": "deny", "rules": ["never"], "at": "2025-01-01T00:00:00Z"})
    assert run_cases(etc, capsys)[0] == 0


def revoke(etc: Path, **entry: str) -> None:
    (etc / "policy" / "revoked.yaml").write_text(json.dumps({"revoked": [{"identity": "ci-bot"} | entry]}))


def test_a_case_that_only_the_revoked_list_keeps_from_holding_is_no_failure(etc: Path, capsys: Capture) -> None:
    write_cases(etc, {"sql": "delete from orders", "effect": "deny"}, {"sql": "select ssn from customers", "masked": ["ssn"]})
    assert run_cases(etc, capsys)[0] == 1, "the first holds only when its identity is revoked"
    revoke(etc)
    status, said = run_cases(etc, capsys)
    assert (status, said["failed"], said["failures"]) == (0, 0, [])
    assert said["passed"] + said["revoked"] == 18 and said["revoked"] == len(said["revoked_cases"]) > 1
    assert {(one["identity"], one["reason"]) for one in said["revoked_cases"]} == {("ci-bot", "the identity is revoked")}
    assert "select ssn from customers" in {one["asked"] for one in said["revoked_cases"]}, "the effect is not all that a case may say"
    assert "ci works on orders/data" not in said["rules_never_hit"]
    assert [one["asked"] for one in said["held_cases"]] == ["delete from orders"], "what a rule denies too is not held by the list"
    assert run("policy", "test", "--config", str(etc)) == 0
    shown = capsys.readouterr().out
    assert "HELD    ci-bot on orders-db: delete from orders: no rule denies it, the identity is revoked\n" in shown
    assert "REVOKED ci-bot on orders-db: select ssn from customers: the identity is revoked\n" in shown
    assert shown.endswith(f"{said['passed']} passed, 0 failed, {said['revoked']} revoked\n")


def test_a_revoked_identity_hides_no_case_that_fails_without_the_list(etc: Path, capsys: Capture) -> None:
    revoke(etc)
    write_cases(etc, {"sql": "delete from orders", "effect": "allow"}, {"sql": "select ssn from customers", "masked": []},
                {"sql": "select id from orders", "effect": "deny", "rules": ["never"]},
                {"sql": "delete from orders", "effect": "allow", "identity": "reporting"})
    status, said = run_cases(etc, capsys)
    assert (status, said["failed"]) == (1, 4)
    assert [failure["differs"] for failure in said["failures"]] == [
        {"effect": {"expected": "allow", "got": "approve"}}, {"masked": {"expected": [], "got": ["ssn"]}},
        {"rules": {"expected": ["never"], "got": []}}, {"effect": {"expected": "allow", "got": "deny"}}]
    assert "revoked" not in str(said["failures"][0]["reason"]), "the rules' answer is shown, not the list's"


def test_a_revocation_is_over_for_a_case_of_a_later_moment(etc: Path, capsys: Capture) -> None:
    revoke(etc, until="2030-01-01T00:00:00Z")
    [first, second] = ({"sql": "select id from orders", "effect": "allow", "at": f"{year}-06-01T00:00:00Z"} for year in (2029, 2031))
    write_cases(etc, first, second)
    said = run_cases(etc, capsys)[1]
    assert [one["asked"] for one in said["revoked_cases"]].count("select id from orders") == 1


def test_nothing_to_understand_with_is_a_failure(etc: Path, capsys: Capture) -> None:
    (etc / "policy" / "schemas" / "orders-db.json").unlink()
    resources = etc / "policy" / "resources.yaml"
    resources.write_text(resources.read_text().replace("127.0.0.1:5432", "127.0.0.1:1"))
    status, said = run_cases(etc, capsys)
    assert (status, said["passed"]) == (1, 0)


def test_a_broken_folder_is_2(etc: Path) -> None:
    (etc / "policy" / "tests" / "more.yaml").write_text("tests: [{identity: nobody}]")
    assert run("policy", "test", "--config", str(etc)) == 2


class Pair:
    """Two folders that begin alike."""

    def __init__(self, etc: Path, capsys: Capture) -> None:
        self.old, self.new, self.capsys = etc, etc.parent / "new" / "etc", capsys
        shutil.copytree(etc, self.new)

    def change(self, name: str, before: str, after: str) -> None:
        path = self.new / "policy" / name
        assert before in path.read_text()
        path.write_text(path.read_text().replace(before, after))

    def changes(self, *words: str) -> list[dict[str, Any]]:
        status = run("policy", "diff", "--json", *words, str(self.old), str(self.new))
        found = [json.loads(line) for line in self.capsys.readouterr().out.splitlines()]
        assert status == (1 if found else 0)
        return found

    def decisions(self, *words: str) -> set[tuple[str, str, str, str, bool]]:
        return {(one["identity"], one["question"], one["before"], one["after"], one["widens"]) for one in self.changes(*words)
                if one["what"] == "decision"}


@pytest.fixture
def pair(etc: Path, capsys: Capture) -> Pair:
    return Pair(etc, capsys)


def test_diff_of_equals_is_empty(pair: Pair) -> None:
    assert pair.changes() == []
    assert run("policy", "diff", str(pair.old), str(pair.new)) == 0
    assert pair.capsys.readouterr().out == "no decision changes\n"


def test_diff_sees_a_rule_that_widens(pair: Pair) -> None:
    pair.change("grants/reporting.yaml", "verbs: [select], relations: [public.orders", "verbs: [select, delete], relations: [public.orders")
    found = pair.decisions()
    assert ("reporting", "delete public.orders", "deny", "allow", True) in found
    assert ("reporting", "delete public.orders without WHERE", "deny", "allow", True) in found
    assert {identity for identity, *_ in found} == {"reporting"}


def test_diff_sees_a_rule_that_narrows(pair: Pair) -> None:
    pair.change("grants/ci-bot.yaml", "deny: {sql: {verbs: [drop-database,", "deny: {sql: {verbs: [drop-database, insert,")
    found = pair.decisions()
    assert ("ci-bot", "insert public.orders", "allow", "deny", False) in found
    assert not any(widens for *_, widens in found)


def test_diff_sees_approvals(pair: Pair) -> None:
    pair.change("grants/ci-bot.yaml", "by: one-dba", "by: dba-and-security")
    pair.change("approvals.yaml", "group: dba, count: 1}]", "group: dba, count: 2}]")
    found = pair.changes()
    assert ("ci-bot", "delete from orders", "approve by one-dba", "approve by dba-and-security", True) in pair.decisions()
    assert [one["question"] for one in found if one["what"] == "approval"] == ["one-dba"]


def test_diff_sees_masks_and_limits(pair: Pair) -> None:
    pair.change("masks.yaml", "public.customers.card: {keep_last: 4}", "public.customers.card: {keep_last: 8}")
    pair.change("masks.yaml", "public.customers.ssn: redact", "public.orders.total: redact")
    pair.change("grants/reporting.yaml", "max: 1h", "max: 2h")
    found = {(one["what"], one["identity"], one["question"], one["before"], one["after"], one["widens"]) for one in pair.changes()}
    assert ("masks", "ci-bot", "column public.customers.card", "keep_last: 4", "keep_last: 8", True) in found
    assert ("masks", "ci-bot", "column public.customers.ssn", "redact", "clear", True) in found
    assert ("masks", "ci-bot", "column public.orders.total", "clear", "redact", False) in found
    assert ("masks", "ci-bot", "select ssn as x from customers -> x", "redact", "clear", True) in found
    assert ("limits", "reporting", "session max", "3600", "7200", True) in found


def test_diff_sees_who_is_let_in(pair: Pair) -> None:
    pair.change("identities.yaml", 'sub: "service:reporting"', 'sub: "service:*"')
    [one] = pair.changes()
    assert (one["what"], one["identity"], one["widens"]) == ("identity", "reporting", True)
    assert "service:*" in one["after"]


def test_diff_asks_what_was_recorded(pair: Pair) -> None:
    pair.change("grants/reporting.yaml", "relations: [public.orders, public.customers]", "relations: [public.orders]")
    shared = {"kind": "command.begin", "identity": "reporting", "groups": ["robots"], "resource": "orders-db", "protocol": "postgres"}
    records: list[dict[str, Any]] = [
        shared | {"verbs": ["select"], "objects": ["public.customers"], "text": "select id from customers c where ssn = '****' and id < 9"},
        shared | {"verbs": ["select"], "objects": ["public.customers"], "text": "select id from customers c where ssn = ****"},
        shared | {"verbs": ["select"], "objects": ["public.customers"], "text": "**** cannot be read again"},
        shared | {"verbs": ["select"], "objects": ["public.orders"], "text": "select id from orders"},
        {"kind": "command.end"}, shared | {"resource": "gone"},
    ]
    path = pair.old.parent / "export.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in [*records, *records]))
    found = [one for one in pair.changes("--recorded", str(path)) if one["source"] == "recorded"]
    assert [one["question"] for one in found] == [record["text"] for record in records[:3]]
    assert {(one["before"], one["after"], one["widens"]) for one in found} == {("allow", "deny", False)}
    path.write_text("{}\nnonsense\n")
    assert run("policy", "diff", "--recorded", str(path), str(pair.old), str(pair.new)) == 2
    assert "export.jsonl:2" in pair.capsys.readouterr().out
