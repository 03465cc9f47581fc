# SPDX-License-Identifier: Apache-2.0
"""T69: names in the inventory with the characters of templates and shells do no harm: they are data, or they are refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from segment import PLAYBOOKS, Segment
from testinfra.host import Host

testinfra_hosts = ["lab://gw"]
LAB_INVENTORY = PLAYBOOKS.parent / "inventories" / "lab"
HOST_VARIABLES = Path(__file__).resolve().parents[1] / "host_vars" / "gw.yml"
OPERATOR = {**os.environ, "ANSIBLE_CONFIG": str(PLAYBOOKS.parent / "ansible.cfg")}
MARK = "/tmp/lockgate-t69"
TEMPLATES = ["{{ lookup('ansible.builtin.pipe', 'touch " + MARK + "') }}", "{% set x = 7 * 7 %}{{ x }}", "{# gone #}"]
SHELL = [
    "$(touch " + MARK + ")",
    "`touch " + MARK + "`",
    "x'; touch " + MARK + "; echo '",
    'x"; touch ' + MARK + '; echo "',
    "x\ntouch " + MARK,
    "../../../.." + MARK,
    "--extra-vars=@/etc/shadow",
]


@pytest.fixture(autouse=True)
def nothing_ran(host: Host) -> Iterator[None]:
    """Neither here nor there."""
    yield
    assert not Path(MARK).exists(), "it ran on the controller"
    assert not host.file(MARK).exists, "it ran on the gateway"


def test_t69_hostile_words_in_policy_arrive_byte_for_byte(host: Host, segment: Segment) -> None:
    with segment.edited() as folder:
        path = folder / "policy" / "grants" / "ci-bot.yaml"
        path.write_text(path.read_text() + "".join(f"# {line}\n" for word in TEMPLATES + SHELL for line in word.splitlines()))
        run = segment.play("policy.yml")
        assert run.status == 0, run.output
        assert host.file("/etc/lockgate/policy/grants/ci-bot.yaml").content == path.read_bytes()
    assert segment.play("policy.yml").status == 0


@pytest.mark.parametrize("name", [TEMPLATES[1], "{{ lookup('ansible.builtin.pipe', 'id') }}", "`id` $(id) '; id; \"x"])
def test_t69_a_rules_name_is_data_through_to_the_record(segment: Segment, name: str) -> None:
    """It is in the policy, in a refusal and in the audit record, as it was written."""
    with segment.edited():
        segment.add_rule(f"{{name: {json.dumps(name)}, deny: {{sql: {{verbs: [select], relations: [public.customer_v]}}}}}}")
        run = segment.play("policy.yml")
        assert run.status == 0, run.output
        assert "42501" in segment.psql("client", "select count(*) from customer_v").stderr
        assert segment.audit("command.begin")[-1]["decision"]["rules"] == [f"ci works on orders/{name}"]
    assert segment.play("policy.yml").status == 0
    assert segment.works()


def test_t69_hostile_file_names_arrive_as_they_are_or_are_refused(host: Host, segment: Segment) -> None:
    release = segment.config_release()
    with segment.edited() as folder:
        names = [f"{name.replace('/', '_')}.yaml" for name in TEMPLATES + SHELL if "\n" not in name]
        for name in names:
            (folder / "policy" / name).write_text("revoked: []\n")
        run = segment.play("policy.yml")
        if run.status == 0:
            there = set(host.check_output("ls -A --quoting-style=literal /etc/lockgate/policy").splitlines())
            assert set(names) <= there
        else:
            assert segment.config_release() == release
    assert segment.play("policy.yml").status == 0
    assert segment.works()


@pytest.mark.parametrize("variable", ["gateway_name", "gateway_segment"])
def test_t69_a_hostile_gateway_or_segment_name_is_refused_and_changes_nothing(segment: Segment, variable: str) -> None:
    release = segment.config_release()
    for name in SHELL:
        run = segment.play("policy.yml", {variable: name, "gateway_segment_folder": str(segment.folder)})
        assert run.status != 0, name
        assert segment.config_release() == release
    assert segment.play("policy.yml").status == 0
    assert segment.works()


def test_t69_hostile_host_names_in_the_inventory_are_data(segment: Segment, tmp_path: Path) -> None:
    """The same gateway under hostile aliases, as a slip or a merged pull request would bring them."""
    settings = yaml.safe_load(HOST_VARIABLES.read_text())["gateway_settings"]
    variables = {
        "ansible_connection": "lab", "ansible_lab_host": "gw", "ansible_python_interpreter": "/usr/bin/python3",
        "gateway_name": "gw", "gateway_segment_folder": str(segment.folder), "gateway_settings": settings,
        "vault_orders_db_password": (segment.world / "orders-db.password").read_text(),
    }  # fmt: skip
    hosts = {f"gw{name}": variables for name in TEMPLATES + SHELL}
    inventory = tmp_path / "hosts.json"
    hostile = {"children": {"hostile": {"hosts": hosts}}}
    inventory.write_text(json.dumps({"all": {"children": {"gateways": {"children": {"segment_lab": hostile}}}}}))
    argv = ["ansible-playbook", "--inventory", str(LAB_INVENTORY), "--inventory", str(inventory), "--limit", "hostile"]
    argv.append(str(PLAYBOOKS / "policy.yml"))
    done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, env=OPERATOR)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("failed=0") == len(hosts)
    assert segment.works()


def test_t69_a_policy_file_adds_no_host_to_the_inventory(tmp_path: Path) -> None:
    """What is rolled out is not read as inventory, whatever it looks like."""
    shutil.copytree(LAB_INVENTORY, tmp_path / "lab")
    (tmp_path / "lab" / "segments" / "lab" / "policy" / "hosts.yml").write_text("gateways: {hosts: {intruder: {}}}\n")
    argv = ["ansible-inventory", "--inventory", str(tmp_path / "lab"), "--list"]
    listed = subprocess.run(argv, capture_output=True, text=True, check=True, env=OPERATOR).stdout
    assert "gw" in listed
    assert "intruder" not in listed
