# SPDX-License-Identifier: Apache-2.0
"""A whole gateway, audited from outside: its own register, an independent auditor, health, collection; and at last its end.

The tests are one story and run in this order; the last takes the gateway out of service.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host
from verify import Lab, Playbook, Run

testinfra_hosts = ["lab://gw"]

FOLDER = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
PLAYBOOKS = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"]) / "playbooks"
ADDRESS = "10.88.7.11"
WAIVERS = FOLDER / "waivers.yml"
# Without what any run leaves on a host: logs, the gateway's own records while it works, and /tmp, where Ansible unpacks its module.
TREE = ("find / -xdev -path /proc -prune -o -path /sys -prune -o -path /run -prune -o -path /var/log -prune -o"
        " -path /var/lib/lockgate -prune -o -path /tmp -prune -o -path /var/tmp -prune -o -printf '%p %y %m %U %G %s %T@ %C@ %l\\n' | sort")


@pytest.fixture
def waivers() -> Iterator[Path]:
    yield WAIVERS
    WAIVERS.unlink(missing_ok=True)


def day(days: int) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).date().isoformat()


def report(playbook: Playbook, **variables: Any) -> tuple[Run, dict[str, Any]]:
    run = playbook("report.yml", variables, ["--diff"])
    return run, json.loads((FOLDER / "reports" / "gw.json").read_text())


def statuses(document: dict[str, Any], status: str) -> list[str]:
    return [one["id"] for one in document["controls"] if one["status"] == status]


def plain(text: str) -> str:
    return " ".join(text.split())


def test_every_control_holds_and_looking_changes_nothing(host: Host, playbook: Playbook) -> None:
    before = host.check_output(TREE)
    run, document = report(playbook)
    assert run.status == 0, run.output
    assert run.changed == {"gw": 0}
    assert host.check_output(TREE) == before
    assert document["ok"]
    assert statuses(document, "fail") == []
    assert len(statuses(document, "pass")) >= 50
    assert all(one["evidence"] for one in document["controls"] if one["status"] == "pass")
    assert {one["scope"] for one in document["controls"] if one["status"] == "not applicable"} <= {"vm", "image"}
    assert "## Evidence" in (FOLDER / "reports" / "gw.md").read_text()


def test_what_somebody_changed_by_hand_is_found_until_it_is_waived(host: Host, playbook: Playbook, waivers: Path) -> None:
    host.check_output("systemctl unmask ctrl-alt-del.target")
    try:
        run, document = report(playbook)
        assert run.status != 0
        assert statuses(document, "fail") == ["OSB-21"]
        entry = {"id": "OSB-21", "reason": "the console is locked away", "owner": "dana", "until": day(1)}
        waivers.write_text(json.dumps({"waivers": [entry]}))
        run, document = report(playbook)
        assert run.status == 0, run.output
        assert statuses(document, "waived") == ["OSB-21"]
        waivers.write_text(json.dumps({"waivers": [{**entry, "until": day(-1)}, {**entry, "id": "OSB-99"}]}))
        run, document = report(playbook)
        assert run.status != 0
        assert statuses(document, "fail") == ["OSB-21"]
        assert [line.partition(":")[0] for line in document["findings"]] == ["waiver OSB-21", "waiver OSB-99"]
    finally:
        host.check_output("systemctl mask ctrl-alt-del.target")


def test_an_independent_auditor(host: Host, playbook: Playbook) -> None:
    """Lynis is in the lab's tree, not in the appliance; what it writes goes with the next boot."""
    host.check_output("cd / && lynis audit system --quick --quiet --no-colors --report-file /run/lynis.dat --logfile /run/lynis.log"
                      " >/dev/null 2>&1")
    (FOLDER / "lynis-report.dat").write_text(host.check_output("cat /run/lynis.dat; rm /run/lynis.dat /run/lynis.log") + "\n")
    run, document = report(playbook, scenario_lynis=str(FOLDER / "lynis-report.dat"))
    assert run.status == 0, run.output
    print(f"Lynis {document['auditor']['version']}: hardening index {document['auditor']['score']}, {document['auditor']['tests']} tests, "
          f"{len(document['auditor']['findings'])} findings waived")
    assert document["auditor"]["score"] >= document["auditor"]["minimum"]
    assert all(one["waiver"]["reason"] for one in document["auditor"]["findings"])
    assert "## Lynis" in (FOLDER / "reports" / "gw.md").read_text()


def test_health_is_told_from_illness(host: Host, playbook: Playbook) -> None:
    well = playbook(PLAYBOOKS / "verify.yml")
    assert well.status == 0, well.output
    assert well.changed == {"gw": 0}
    host.check_output("systemd-run --unit=somebody python3 -m http.server --directory /usr/share/zoneinfo 8099")
    host.check_output("systemd-run --unit=broken false")
    try:
        ill = playbook(PLAYBOOKS / "verify.yml")
        assert ill.status != 0
        for wrong in ("tcp/8099 listens and is nobody's", "broken.service failed"):
            assert wrong in plain(ill.output), ill.output
    finally:
        host.check_output("systemctl stop somebody.service; systemctl reset-failed")
    host.check_output("systemctl stop lockgate.service")
    try:
        assert "lockgate.service is inactive" in plain(playbook(PLAYBOOKS / "verify.yml").output)
    finally:
        host.check_output("systemctl start lockgate.service")


def test_the_log_is_collected_and_the_next_verify_is_anchored(host: Host, playbook: Playbook) -> None:
    held = FOLDER / "collected" / "gw"
    dry = playbook(PLAYBOOKS / "collect.yml", {}, ["--check", "--diff"])
    assert (dry.status, dry.changed) == (0, {"gw": 1}), dry.output
    run = playbook(PLAYBOOKS / "collect.yml")
    assert (run.status, run.changed) == (0, {"gw": 1}), run.output
    first = b"".join(path.read_bytes() for path in sorted(held.glob("records-*.jsonl")))
    host.check_output("systemctl reload lockgate.service")  # which waits for the record of it
    assert playbook(PLAYBOOKS / "collect.yml").status == 0
    both = b"".join(path.read_bytes() for path in sorted(held.glob("records-*.jsonl")))
    assert both.startswith(first)
    assert len(both) > len(first)
    last = json.loads((held / "collection.json").read_text())["positions"]["plant-a-1"]
    exported = host.check_output("lockgate audit export").splitlines()
    own = [line for line in exported if json.loads(line)["origin"] == "plant-a-1"]
    assert [line.decode() for line in both.splitlines() if json.loads(line)["origin"] == "plant-a-1"] == own[:last]
    assert playbook(PLAYBOOKS / "verify.yml").status == 0


def test_nobody_is_decommissioned_by_accident(host: Host, playbook: Playbook) -> None:
    for given in ({}, {"decommission_confirm": "gw-2", "decommission_reason": "x"}, {"decommission_confirm": "gw"}):
        assert playbook(PLAYBOOKS / "decommission.yml", given).status != 0
    assert host.service("lockgate").is_running
    meant = {"decommission_confirm": "gw", "decommission_reason": "test", "decommission_drain_seconds": 5}
    dry = playbook(PLAYBOOKS / "decommission.yml", meant, ["--check", "--diff"])
    assert dry.status == 0, dry.output
    assert host.service("lockgate").is_running
    assert host.run("ls /var/lib/lockgate-credentials/*.cred").rc == 0


def test_decommissioned(host: Host, lab: Lab, playbook: Playbook) -> None:
    meant = {"decommission_confirm": "gw", "decommission_reason": "the plant has moved", "decommission_drain_seconds": 5}
    assert lab.reaches(lab.switch(), ADDRESS, 15432)
    run = playbook(PLAYBOOKS / "decommission.yml", meant)
    assert run.status == 0, run.output
    for port, open_ in ((22, True), (15432, False), (19443, False)):
        assert lab.reaches(lab.switch(), ADDRESS, port) is open_
    for unit in ("lockgate.service", "lockgate-credentials.service", "lockgate-network.timer", "lockgate-break-glass.socket",
                 "lockgate-break-glass-settle.service"):
        assert not host.service(unit).is_running
        assert not host.service(unit).is_enabled
    assert host.check_output("getent shadow breakglass").split(":")[1] == "!"
    assert not host.file("/var/lib/lockgate-config/current").exists
    left = host.check_output("find /var/lib/lockgate-credentials /run/lockgate-credentials /var/lib/lockgate-config /var/lib/lockgate-tls"
                             " /var/lib/lockgate /var/lib/lockgate-console"
                             " /var/lib/systemd/credential.secret -type f \\( -name '*.cred' -o -name '*key*' -o -path '*/credentials/*'"
                             " -o -name credential.secret \\) ! -name '*.pub' 2>/dev/null; true")
    assert left == ""
    assert host.run("grep -rl canary-Zq7fK2pW /var/lib /etc /run").stdout == ""
    note = json.loads((FOLDER / "collected" / "gw" / "decommissioned.json").read_text())
    held = json.loads((FOLDER / "collected" / "gw" / "collection.json").read_text())
    assert note["audit"] == {"collected": True, "last": held["positions"]}
    assert sorted(path.rpartition("/")[2] for path in note["destroyed"]) == [
        "audit_ed25519_key", "credential.secret", "credentials.orders-db.yaml.cred", "digest.key", "digest.key",
        "tls.audit_ed25519_key.cred", "tls.gateway.key.cred"]
    assert note["reason"] == "the plant has moved"
    newest = sorted((FOLDER / "collected" / "gw").glob("records-*"))[-1].read_bytes().splitlines()
    assert "gateway.stop" in [json.loads(line)["kind"] for line in newest[-4:]]
    assert playbook(PLAYBOOKS / "decommission.yml", meant).changed == {"gw": 0}
