# SPDX-License-Identifier: Apache-2.0
"""Playbooks over SSH on two gateways: set up from nothing, changed, and a bad change that ends at the first one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from verify import Lab, Playbook, Run

SCENARIO = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
PLAYBOOKS = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"]) / "playbooks"
ADDRESSES = {"gw-a": "10.88.14.11", "gw-b": "10.88.14.12"}
FAILING_CASE = "tests:\n  - {identity: ci-bot, resource: orders-db, sql: 'drop table orders', effect: allow}\n"


def state(lab: Lab, name: str) -> tuple[str, ...]:
    """What a gateway runs: its process, its folder, the one it would go back to."""
    host = lab.host(name)
    pid = host.check_output("systemctl show -P MainPID lockgate.service")
    return (pid, *(host.check_output("readlink -f /var/lib/lockgate-config/%s || true", link) for link in ("current", "previous")))


def serves(lab: Lab, name: str) -> bool:
    return lab.host(name).run("lockgate ready").rc == 0 and lab.reaches(lab.switch("management"), ADDRESSES[name], 15432)


def ended_at_the_first(run: Run) -> str:
    """The play failed on the first gateway, and never spoke to the second. It gives what was said."""
    assert run.status != 0, run.output
    assert run.failed == {"gw-a": 1}, run.output
    return " ".join(run.output.split())


@pytest.fixture
def segment(tmp_path: Path) -> Path:
    """A copy of the segment's folder, for a change that somebody makes."""
    return Path(shutil.copytree(SCENARIO / "segment", tmp_path / "segment"))


@pytest.fixture
def undone(playbook: Playbook) -> Any:
    """Afterwards the policy is the inventory's."""
    yield
    assert playbook(PLAYBOOKS / "policy.yml").status == 0


def test_the_second_run_changes_nothing_but_the_account_that_the_first_one_came_by(lab: Lab, playbook: Playbook) -> None:
    assert lab.host("gw-b").check_output("getent passwd debian").endswith("/bin/bash")
    run = playbook(PLAYBOOKS / "site.yml")
    assert (run.status, run.changed) == (0, {"gw-a": 0, "gw-b": 1}), run.output
    assert lab.host("gw-b").check_output("getent passwd debian").endswith("/usr/sbin/nologin")


@pytest.mark.parametrize(("name", "account"), [("gw-a", "root"), ("gw-b", "debian")])
def test_it_came_over_ssh_through_the_firewall_that_it_loaded(lab: Lab, name: str, account: str) -> None:
    host = lab.host(name)
    said = host.check_output("journalctl --output=cat --identifier=sshd --identifier=sshd-session")
    for came in (account, "ops"):
        assert f"Accepted publickey for {came} from 10.88.14.1" in said
    assert "policy drop" in host.check_output("nft list chain inet lockgate output")
    assert "lockgate_seen" not in host.check_output("nft list tables")


def test_a_run_that_could_not_come_in_again_stops(lab: Lab, playbook: Playbook) -> None:
    """Also where the inventory says `ansible_become: true`, so that everything would go by sudo."""
    before = lab.host("gw-a").file("/etc/ssh/sshd_config").sha256sum
    run = playbook("ssh.yml", {"ssh_management_networks": ["192.0.2.0/24"]}, ["--limit", "gw-a"])
    assert run.status != 0
    assert "This run came from 10.88.14.1, which is in none of" in " ".join(run.output.split()), run.output
    assert lab.host("gw-a").file("/etc/ssh/sshd_config").sha256sum == before


def test_a_policy_reaches_both_and_restarts_neither(lab: Lab, playbook: Playbook, segment: Path, undone: None) -> None:
    before = {name: state(lab, name) for name in ADDRESSES}
    (segment / "policy" / "revoked.yaml").write_text("revoked: [{identity: reporting}]\n")
    given = {"gateway_segment_folder": str(segment)}
    run = playbook(PLAYBOOKS / "policy.yml", given)
    assert (run.status, run.changed) == (0, {"gw-a": 1, "gw-b": 1}), run.output
    for name, (pid, current, _) in before.items():
        assert state(lab, name)[0] == pid
        assert state(lab, name)[2] == current
        assert lab.host(name).file("/etc/lockgate/policy/revoked.yaml").contains("reporting")
        assert serves(lab, name)
    again = playbook(PLAYBOOKS / "policy.yml", given)
    assert (again.status, again.changed) == (0, {"gw-a": 0, "gw-b": 0}), again.output


def test_settings_that_do_not_serve_end_at_the_first_gateway(lab: Lab, playbook: Playbook) -> None:
    """The folder is valid, and no host has that address: the first gateway goes back by itself, the second is not touched."""
    before = {name: state(lab, name) for name in ADDRESSES}
    said = ended_at_the_first(playbook(PLAYBOOKS / "deploy.yml", {
        "gateway_settings": {"listeners": {"postgres": {"address": "203.0.113.9:15432"}}}}))
    assert "what ran before is in force again" in said, said
    assert state(lab, "gw-b") == before["gw-b"]
    assert state(lab, "gw-a")[1:] == before["gw-a"][1:]
    for name in ADDRESSES:
        assert serves(lab, name)
        assert lab.host(name).check_output("systemctl is-system-running") == "running"


@pytest.mark.parametrize(("play", "options"), [("policy.yml", ()), ("policy.yml", ("--check", "--diff")), ("deploy.yml", ())])
def test_a_policy_whose_own_case_fails_is_refused(lab: Lab, playbook: Playbook, segment: Path, play: str, options: tuple[str, ...]) -> None:
    before = {name: state(lab, name) for name in ADDRESSES}
    (segment / "policy" / "tests" / "more.yaml").write_text(FAILING_CASE)
    said = ended_at_the_first(playbook(PLAYBOOKS / play, {"gateway_segment_folder": str(segment)}, options))
    assert "lockgate policy test refuses the folder, nothing was changed" in said, said
    assert "drop table orders" in said
    assert "effect: expected allow, got approve" in said
    assert {name: state(lab, name) for name in ADDRESSES} == before
    assert all(serves(lab, name) for name in ADDRESSES)
    assert lab.host("gw-a").check_output("ls -A /var/lib/lockgate-config | grep -c staging || true") == "0"


def test_a_stopped_network_unit_opens_its_holes_all_the_same(lab: Lab, playbook: Playbook, segment: Path, undone: None) -> None:
    gateway = lab.host("gw-a")
    gateway.check_output("systemctl stop lockgate-network.service")
    (segment / "policy" / "second.yaml").write_text(
        "resources:\n"
        "  - {name: second, protocol: postgres, address: '192.0.2.7:5432', database: x, credential: orders-db, tls: {mode: require}}\n")
    run = playbook(PLAYBOOKS / "policy.yml", {"gateway_segment_folder": str(segment)})
    assert run.status == 0, run.output
    assert gateway.service("lockgate-network").is_running
    assert "192.0.2.7 . 5432" in gateway.check_output("nft list set inet lockgate targets4")
