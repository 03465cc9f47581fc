# SPDX-License-Identifier: Apache-2.0
"""T69: names in the inventory with the characters of templates and shells do no harm: they are data, or they are refused."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from segment import PLAYBOOKS, Segment
from testinfra.host import Host

testinfra_hosts = ["lab://gw"]
MARK = "/tmp/lockgate-t69"
HOSTILE = [
    "{{ lookup('ansible.builtin.pipe', 'touch " + MARK + "') }}",
    "{% raw %}{{ 7 * 7 }}{% endraw %}",
    "$(touch " + MARK + ")",
    "`touch " + MARK + "`",
    "x'; touch " + MARK + "; echo '",
    'x"; touch ' + MARK + '; echo "',
    "x\ntouch " + MARK,
    "../../../../tmp/lockgate-t69",
    "-e @/etc/shadow",
]


@pytest.fixture(autouse=True)
def nothing_ran(host: Host) -> None:
    """Neither here nor there, before and after."""
    assert not Path(MARK).exists()
    assert not host.file(MARK).exists


def after(host: Host) -> None:
    assert not Path(MARK).exists(), "it ran on the controller"
    assert not host.file(MARK).exists, "it ran on the gateway"


@pytest.mark.parametrize("name", HOSTILE)
def test_t69_a_hostile_word_in_policy_is_copied_byte_for_byte(host: Host, segment: Segment, name: str) -> None:
    with segment.edited() as folder:
        path = folder / "policy" / "grants" / "ci-bot.yaml"
        path.write_text(path.read_text() + "\n".join(f"# {line}" for line in name.splitlines()) + "\n")
        run = segment.play("policy.yml")
        assert run.status == 0, run.output
        assert host.file("/etc/lockgate/policy/grants/ci-bot.yaml").content == path.read_bytes()
        after(host)
    assert segment.play("policy.yml").status == 0


def test_t69_hostile_file_names_in_policy_arrive_as_they_are_or_are_refused(host: Host, segment: Segment) -> None:
    release = segment.config_release()
    with segment.edited() as folder:
        names = [f"{name.replace('/', '_')}.yaml" for name in HOSTILE if "\n" not in name]
        for name in names:
            (folder / "policy" / name).write_text("revoked: []\n")
        run = segment.play("policy.yml")
        after(host)
        if run.status == 0:
            there = host.check_output("ls -A /etc/lockgate/policy")
            assert all(name in there for name in names)
        else:
            assert segment.config_release() == release
    assert segment.play("policy.yml").status == 0
    assert segment.works()


@pytest.mark.parametrize("name", HOSTILE[2:])
@pytest.mark.parametrize("variable", ["gateway_name", "gateway_segment"])
def test_t69_a_hostile_gateway_or_segment_name_is_refused_or_data(host: Host, segment: Segment, variable: str, name: str) -> None:
    run = segment.play("policy.yml", {variable: {"__ansible_unsafe": name}, "gateway_segment_folder": str(segment.folder)})
    after(host)
    if run.status == 0:
        assert segment.play("policy.yml").status == 0
    assert segment.works()


@pytest.mark.parametrize("name", ["gw;touch " + MARK, "gw$(touch " + MARK + ")", "gw`touch " + MARK + "`", "gw' || touch " + MARK])
def test_t69_a_hostile_host_name_in_the_inventory_is_refused_or_data(host: Host, segment: Segment, tmp_path: Path, name: str) -> None:
    """The same gateway under a hostile alias, as a slip or a merged pull request would bring it."""
    vault = (segment.world / "orders-db.password").read_text()
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(_inventory(name, segment, vault))
    lab_inventory = PLAYBOOKS.parent / "inventories" / "lab"
    argv = ["ansible-playbook", "--inventory", str(inventory), "--inventory", str(lab_inventory), "--limit", "hostile"]
    argv.append(str(PLAYBOOKS / "policy.yml"))
    subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    after(host)
    assert segment.play("policy.yml").status == 0
    assert segment.works()


def _inventory(name: str, segment: Segment, vault: str) -> str:
    host = {
        "ansible_connection": "lab", "ansible_lab_host": "gw", "ansible_python_interpreter": "/usr/bin/python3",
        "gateway_segment_folder": str(segment.folder), "vault_orders_db_password": vault,
        "ssh_management_authorized_keys": [(segment.world / "ops.pub").read_text().strip()],
    }  # fmt: skip
    segment_lab = {"children": {"hostile": {"hosts": {name: host}}}}
    return json.dumps({"all": {"children": {"gateways": {"children": {"segment_lab": segment_lab}}}}})
