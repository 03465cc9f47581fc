# SPDX-License-Identifier: Apache-2.0
"""A plain host that took a bundle: the gateway runs from its wheels, and an older bundle changes nothing (T67)."""

from __future__ import annotations

import json
import os
from pathlib import Path

from testinfra.host import Host
from verify import Playbook

testinfra_hosts = ["lab://gw"]

SCENARIO = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
NUMBER = "/var/lib/lockgate-update/last-number"


def offer(number: int) -> None:
    (SCENARIO / "bundle/bundle.json").write_text(json.dumps({"number": number}))


def pid(host: Host) -> int:
    return int(host.check_output("systemctl show --property=MainPID --value lockgate.service"))


def test_the_gateway_runs_from_the_bundles_wheels(host: Host) -> None:
    assert host.service("lockgate.service").is_running
    (manifest,) = (SCENARIO / "bundle/wheels").glob("*/manifest.json")
    version = json.loads(manifest.read_text())["version"]
    assert host.file("/opt/lockgate/current").linked_to == f"/opt/lockgate/releases/{version}"


def test_the_number_is_remembered_where_only_root_writes(host: Host) -> None:
    assert host.file(NUMBER).content_string == "20"
    assert (host.file(NUMBER).user, host.file("/var/lib/lockgate-update").mode) == ("root", 0o700)


def test_t67_an_older_bundle_is_refused_unless_asked_for(host: Host, playbook: Playbook) -> None:
    running = pid(host)
    offer(19)
    refused = playbook()
    assert refused.status != 0
    assert "bundle 19 is older than 20" in refused.output
    assert (host.file(NUMBER).content_string, pid(host)) == ("20", running)
    assert playbook.changes(bundle_allow_older=True).changed
    assert host.file(NUMBER).content_string == "19"


def test_t67_a_damaged_memory_of_the_last_number_is_not_the_same_as_none(host: Host, playbook: Playbook) -> None:
    kept = host.file(NUMBER).content_string
    host.run_expect([0], "echo damaged > %s", NUMBER)
    refused = playbook()
    host.run_expect([0], "printf %%s %s > %s", kept, NUMBER)
    assert refused.status != 0
    assert "last-number is damaged" in refused.output


def test_a_newer_bundle_is_taken_and_the_same_one_changes_nothing(host: Host, playbook: Playbook) -> None:
    offer(21)
    assert playbook().status == 0
    assert host.file(NUMBER).content_string == "21"
    again = playbook()
    assert again.status == 0
    assert again.changed == {"gw": 0}
