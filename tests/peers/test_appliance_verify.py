# SPDX-License-Identifier: Apache-2.0
"""The health check against a gateway that serves: well, then with one thing wrong at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.peers.gateway import Appliance
from tests.peers.test_resilience import reloaded
from tests.unit.roles.playbook import LOCKGATE, play


def settings(appliance: Appliance, **changes: Any) -> dict[str, Any]:
    return {"appliance_verify_command": [LOCKGATE], "appliance_verify_config": str(appliance.folder), "appliance_verify_anchor": "",
            "appliance_verify_segment_folder": str(appliance.folder), "appliance_verify_skip": ["units", "clock", "listeners"], **changes}


def test_a_gateway_and_what_can_be_wrong_with_it(tmp_path: Path) -> None:
    appliance = Appliance(tmp_path / "gw")
    appliance.prepare("127.0.0.1:1")
    with appliance:
        well = play(tmp_path, "appliance_verify", settings(appliance))
        assert (well.status, well.changed) == (0, {"gw-1": 0}), well.text
        (appliance.folder / "policy" / "zz.yaml").write_text("grants: []\n")
        asked = settings(appliance, appliance_verify_certificate_days=500, appliance_verify_free={"/": 101})
        said = play(tmp_path, "appliance_verify", asked)
        assert said.status == 2
        for wrong in ("the policy in force is", "the certificate ends in 39", "101 % are wanted"):
            assert wrong in " ".join(said.text.split()), said.text
        reloaded(appliance)
        assert play(tmp_path, "appliance_verify", settings(appliance), ("gw-1",), "--check").status == 0
        other = play(tmp_path, "appliance_verify", settings(appliance, appliance_verify_segment_folder=str(tmp_path)))
        assert "the folder holds another policy than the inventory" in " ".join(other.text.split())
    gone = play(tmp_path, "appliance_verify", settings(appliance))
    assert gone.status == 2
    assert "cannot be asked" in " ".join(gone.text.split())
