# SPDX-License-Identifier: Apache-2.0
"""After everything the other tests did, `verify.yml` finds nothing wrong; then something is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from segment import PLAYBOOKS
from verify import Lab, Playbook, Run

WAIVERS = PLAYBOOKS.parent / "inventories" / "lab" / "waivers.yml"


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    return tmp_path / "reports"


def verify(playbook: Playbook, reports: Path) -> Run:
    """By the lab's own way in: the play also does things on the controller, and extra variables for SSH would hold there, too."""
    given = {"compliance_report_destination": str(reports), "compliance_report_waivers": [str(WAIVERS)],
             "collect_destination": str(reports)}
    return playbook(PLAYBOOKS / "verify.yml", given, ["--limit", "gateways"])


def test_nothing_is_wrong(playbook: Playbook, reports: Path) -> None:
    run = verify(playbook, reports)
    assert run.status == 0, run.output
    assert run.changed == {"gw": 0}
    document = json.loads((reports / "gw.json").read_text())
    assert document["ok"]
    assert [one["id"] for one in document["controls"] if one["status"] == "waived"] == ["AUD-03"]


def test_a_clock_that_no_time_server_confirms_is_wrong(lab: Lab, playbook: Playbook, reports: Path) -> None:
    lab.host("time").check_output("systemctl stop chrony")
    try:
        run = verify(playbook, reports)
        assert run.status != 0
        assert "no time server of this host agrees with it: 10.88.10.12" in " ".join(run.output.split()), run.output
    finally:
        lab.host("time").check_output("systemctl start chrony")
