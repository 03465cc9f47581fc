# SPDX-License-Identifier: Apache-2.0
"""Evidence, waivers and the verdict; and every register of the roles in this repository."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from tests.unit.roles.playbook import ROOT, play, plugin

compliance: Any = plugin("compliance_report", "filter_plugins/compliance.py")
looking: Any = plugin("compliance_report", "library/control_evidence.py")

REGISTERS = sorted(path.parents[1].name for path in ROOT.glob("roles/*/vars/controls.yml"))
TODAY = "2026-11-22"


def control(name: str = "OSB-01", **changes: Any) -> dict[str, Any]:
    return {"id": name, "title": "It holds", "reason": "It matters.", "scope": "host", "evidence": {"command": ["true"]},
            "role": "os_baseline", "off": False, **changes}


def waiver(name: str = "OSB-01", **changes: Any) -> dict[str, Any]:
    return {"id": name, "reason": "Not here", "owner": "dana", "until": "2027-01-31", **changes}


def judged(status: str, waivers: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    report: dict[str, Any] = compliance.verdict({"OSB-01": {"status": status, "evidence": []}}, [control()], waivers, TODAY, "gw-1", **more)
    return report


def test_a_failure_is_waived_only_by_a_waiver_that_holds() -> None:
    assert judged("pass", [])["ok"]
    assert not judged("fail", [])["ok"]
    good = judged("fail", [waiver()])
    assert good["ok"]
    assert good["summary"] == {"pass": 0, "fail": 0, "waived": 1, "not applicable": 0}
    assert good["controls"][0]["waiver"]["owner"] == "dana"
    assert not judged("fail", [waiver(hosts=["gw-2"])])["ok"]
    assert judged("fail", [waiver(hosts=["gw-1"])])["ok"]


@pytest.mark.parametrize(("wrong", "said"), [
    (waiver(until="2026-11-21"), "expired on 2026-11-21"), (waiver("OSB-99"), "no control has this id"),
    (waiver(owner=""), "lacks owner"),
    (waiver(reason=None), "lacks reason"), (waiver(until="soon"), "until is not a date"), ({"id": "OSB-01"}, "lacks reason, owner, until")])
def test_a_waiver_that_does_not_hold_is_a_finding_of_its_own(wrong: dict[str, Any], said: str) -> None:
    report = judged("pass", [wrong])
    assert not report["ok"]
    assert said in compliance.failures(report)[0]


def test_an_absent_observation_fails() -> None:
    assert compliance.verdict({}, [control()], [], TODAY, "gw-1")["summary"]["fail"] == 1


def test_an_auditor_s_findings_need_waivers_and_its_score_a_minimum() -> None:
    auditor = {"name": "Lynis", "version": "3", "score": 80, "minimum": 80, "findings": [{"id": "LYNIS-A-1", "text": "do it"}]}
    assert not judged("pass", [], auditor=auditor)["ok"]
    assert judged("pass", [waiver("LYNIS-A-1")], auditor=auditor)["ok"]
    assert judged("pass", [waiver("LYNIS-A-1")])["ok"]  # no auditor ran: nothing to say about its waivers
    assert judged("pass", [waiver("LYNIS-A-1"), waiver("LYNIS-A-2")], auditor=auditor)["ok"]  # another version would find it
    low = judged("pass", [waiver("LYNIS-A-1")], auditor={**auditor, "score": 79})
    assert compliance.failures(low) == ["Lynis gives 79, at least 80 is wanted"]


def test_a_report_of_lynis_is_read() -> None:
    said = compliance.lynis("# x\nlynis_version=3.1.4\nhardening_index=72\nwarning[]=A-1|one|-|-|\nsuggestion[]=B-2|two|why|-|\n"
                            "suggestion[]=B-2|three|-|-|\ntests_executed=A-1|B-2|\n", 70)
    assert said == {"name": "Lynis", "version": "3.1.4", "score": 72, "minimum": 70, "tests": 2, "findings": [
        {"id": "LYNIS-A-1", "text": "one"}, {"id": "LYNIS-B-2", "text": "two (why); three"}]}
    with pytest.raises(AnsibleFilterError, match="did not come to its end"):
        compliance.lynis("suggestion[]=A-1|one|-|-|", 70)


def test_the_page_is_not_written_by_the_host() -> None:
    seen = {"command": ["cat", "x"], "rc": 0, "stdout": "| a |\n# <script>\x1b[2J{{ 7 * 7 }}", "stderr": "", "good": True}
    observed = {"OSB-01": {"status": "pass", "evidence": [seen]}}
    page = compliance.markdown(compliance.verdict(observed, [control(title="a|b")], [], TODAY, "gw-1"))
    assert "    # <script>?[2J{{ 7 * 7 }}" in page.splitlines()
    assert "| OSB-01 | a\\|b | pass |  |" in page.splitlines()


@pytest.mark.parametrize(("evidence", "good"), [
    ({"command": ["true"]}, True), ({"command": ["false"]}, False), ({"command": ["false"], "rc": 1}, True),
    ({"command": ["echo", "on"], "stdout_regex": r"\Aon\s*\Z"}, True), ({"command": ["echo", "off"], "stdout_regex": r"\Aon\s*\Z"}, False),
    ({"command": ["find", "/nowhere"], "stdout_regex": r"\A\s*\Z"}, False),  # it said nothing because it saw nothing
    ({"command": ["/no/such/program"], "stdout_regex": r"\A\s*\Z"}, False),
    ({"command": ["sleep", "5"]}, False), ({"command": ["sh", "-c", "kill -9 $$"], "stdout_regex": ""}, False)])
def test_evidence(evidence: dict[str, Any], good: bool) -> None:
    assert looking.observe(evidence, 1, None)["good"] is good


@pytest.mark.skipif(os.geteuid() != 0, reason="mount namespaces are root's")
def test_evidence_cannot_change_the_host(tmp_path: Path) -> None:
    seen = looking.observe({"command": ["touch", str(tmp_path / "x")]}, 5)
    assert "Read-only file system" in seen["stderr"]
    assert not (tmp_path / "x").exists()
    assert looking.observe({"command": ["sh", "-c", "echo a > /dev/null && cat /proc/self/status"], "stdout_regex": "Name"}, 5)["good"]
    (tmp_path / "y").touch()


def test_a_control_of_another_scope_is_not_looked_at() -> None:
    entry = control(scope="image", evidence={"command": ["false"]})
    assert looking.control(entry, ["host"], 1)["status"] == "not applicable"
    assert looking.control(entry, ["host", "image"], 1)["status"] == "fail"


@pytest.mark.parametrize("role", REGISTERS)
def test_every_register_can_be_judged(role: str) -> None:
    controls = compliance.register([role], str(ROOT / "roles"), {})
    for one in controls:
        for evidence in one["evidence"] if isinstance(one["evidence"], list) else [one["evidence"]]:
            assert set(evidence) <= {"command", "stdout_regex", "rc", "names"}, one["id"]
            assert evidence["command"] and {type(word) for word in evidence["command"]} == {str}, one["id"]  # a bare +0 is the number 0
            re.compile(evidence.get("stdout_regex", ""))


@pytest.mark.parametrize(("named", "fine", "wrong"), [
    ({}, ["", "ops\n"], ["backup\n", "ops\nbackup\n"]),
    ({"os_baseline_login_accounts": ["ops", "b.ckup"]}, ["b.ckup\nops\n"], ["backup\n"]),
    ({"os_baseline_login_accounts": []}, [""], ["ops\n"])])
def test_login_accounts_that_the_inventory_names_are_known(named: dict[str, list[str]], fine: list[str], wrong: list[str]) -> None:
    [one] = [one for one in compliance.register(["os_baseline"], str(ROOT / "roles"), {}, named) if one["id"] == "OSB-04"]
    assert [looking.good(one["evidence"], 0, text, "") for text in fine + wrong] == [True] * len(fine) + [False] * len(wrong)


def test_ids_are_one_role_s_own(tmp_path: Path) -> None:
    assert compliance.register(REGISTERS, str(ROOT / "roles"), {})
    for role in ("a", "b", "empty"):
        (tmp_path / role / "vars").mkdir(parents=True)
        (tmp_path / role / "vars/controls.yml").write_text(json.dumps({f"__{role}_controls": [control()] if role != "empty" else []}))
    with pytest.raises(AnsibleFilterError, match="b: control OSB-01 is there twice"):
        compliance.register(["a", "b"], str(tmp_path), {})
    with pytest.raises(AnsibleFilterError, match="no register"):
        compliance.register(["empty"], str(tmp_path), {})
    assert [one["off"] for one in compliance.register(["a"], str(tmp_path), {"a": ["OSB-01"]})] == [True]


def test_the_product_s_own_waivers_are_complete() -> None:
    waivers = yaml.safe_load((ROOT / "roles/compliance_report/files/waivers.yml").read_text())["waivers"]
    assert [one for one in waivers if not all(one.get(name) for name in ("id", "reason", "owner", "until"))] == []
    assert len({one["id"] for one in waivers}) == len(waivers)


@pytest.mark.skipif(os.geteuid() != 0, reason="mount namespaces are root's")
def test_the_role_writes_a_report_and_fails_on_what_is_open(tmp_path: Path) -> None:
    waivers = tmp_path / "waivers.yml"
    values = {"compliance_report_destination": str(tmp_path / "out"), "compliance_report_roles": REGISTERS[:1],
              "compliance_report_scopes": ["image"], "compliance_report_waivers": [str(waivers)]}
    open_ = play(tmp_path, "compliance_report", values)
    report = json.loads((tmp_path / "out" / "gw-1.json").read_text())
    assert (open_.status, open_.changed) == (2 if report["summary"]["fail"] else 0, {"gw-1": 0}), open_.text
    wrong = [one["id"] for one in report["controls"] if one["status"] == "fail"]
    waivers.write_text(json.dumps({"waivers": [waiver(name, until="2999-01-01") for name in wrong]}))
    done = play(tmp_path, "compliance_report", values, ("gw-1",), "--check", "--diff")
    assert (done.status, done.changed) == (0, {"gw-1": 0}), done.text
    assert "## Evidence" in (tmp_path / "out" / "gw-1.md").read_text()


@pytest.mark.parametrize("name", ["../up", "a/b", "{{ 7*7 }}", "a;b"])
def test_t69_a_hosts_name_leads_to_no_other_folder(tmp_path: Path, name: str) -> None:
    values = {"compliance_report_destination": str(tmp_path / "out"), "compliance_report_roles": REGISTERS[:1],
              "compliance_report_scopes": ["image"], "compliance_report_waivers": [], "compliance_report_enforce": False}
    done = play(tmp_path, "compliance_report", values, (name,))
    assert (done.status, "whose name in the inventory is letters" in done.text) == (2, True), done.text
    assert {path.name for path in tmp_path.iterdir()} <= {"hosts.json", "play.json"}
