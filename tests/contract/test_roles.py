# SPDX-License-Identifier: Apache-2.0
"""Each role has a typed door: inputs described, with a default in one place and the role's name before them; playbooks say what they do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
PLAYBOOKS = sorted((ROOT / "playbooks").glob("*.yml"))

READING = ("build_image", "render", "jwks", "verify", "collect")
TRIED_BY = {
    "appliance_verify": ("molecule/compliance_report/tests/test_compliance_report.py", "verify.yml"),
    "audit_collect": ("molecule/compliance_report/tests/test_compliance_report.py", "collect.yml"),
    "decommission": ("molecule/compliance_report/tests/test_compliance_report.py", "decommission.yml"),
    "image_update": ("tests/vm/test_update.py", "update_image.yml"),
    "issuer_keys": ("tests/unit/roles/test_issuer_keys.py", '"issuer_keys"'),
}


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text()) or {}


def entries(role: str) -> dict[str, dict[str, Any]]:
    return dict(read(ROOT / "roles" / role / "meta/argument_specs.yml")["argument_specs"])


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_described(role: str) -> None:
    readme = (ROOT / "roles" / role / "README.md").read_text()
    assert len(readme) > 300
    assert entries(role)["main"]["short_description"]
    assert read(ROOT / "roles" / role / "meta/main.yml")["galaxy_info"]["description"]


@pytest.mark.parametrize("role", ROLES)
def test_every_input_has_a_type_and_a_description(role: str) -> None:
    for entry in entries(role).values():
        for name, option in entry.get("options", {}).items():
            assert option.get("type"), name
            assert option.get("description"), name
            assert option["type"] != "list" or option.get("elements"), name


@pytest.mark.parametrize("role", ROLES)
def test_defaults_and_described_inputs_are_the_same(role: str) -> None:
    described = {name for entry in entries(role).values() for name in entry.get("options", {})}
    required = {name for entry in entries(role).values() for name, option in entry.get("options", {}).items() if option.get("required")}
    given = {name for name in read(ROOT / "roles" / role / "defaults/main.yml") if not name.startswith("__")}
    assert given <= described
    assert {name for name in described - required if name.startswith(f"{role}_")} <= given
    assert all(name == role or name.startswith(f"{role}_") for name in given)


@pytest.mark.parametrize("role", ROLES)
def test_some_scenario_or_test_runs_the_role(role: str) -> None:
    assert role in TRIED_BY or (ROOT / "molecule" / role / "tests").is_dir()
    if role in TRIED_BY:
        place, word = TRIED_BY[role]
        assert word in (ROOT / place).read_text()


@pytest.mark.parametrize("role", ROLES)
def test_tasks_of_a_role_are_a_table_of_contents(role: str) -> None:
    tasks = read(ROOT / "roles" / role / "tasks/main.yml")
    assert all(task.get("name") for task in tasks)
    for path in (ROOT / "roles" / role / "tasks").glob("*.yml"):
        assert all(task.get("name") for task in read(path)), path.name


@pytest.mark.parametrize("playbook", PLAYBOOKS, ids=lambda path: str(path.stem))
def test_a_playbook_says_what_it_does_and_is_a_list_of_roles(playbook: Path) -> None:
    head = re.match(r"# SPDX-License-Identifier: Apache-2.0\n((?:# .*\n)+)---\n", playbook.read_text())
    assert head, playbook.name
    for play in read(playbook):
        used = [*play.get("roles", []), *play.get("tasks", []), *play.get("post_tasks", [])]
        inner = [task for one in used for task in (one.get("block", []) + one.get("always", []) or [one])]
        assert inner
        assert all("role" in one or "ansible.builtin.import_role" in one for one in inner), playbook.name


@pytest.mark.parametrize("playbook", [path for path in PLAYBOOKS if path.stem not in READING],
                         ids=lambda path: str(path.stem))
def test_what_changes_gateways_goes_one_by_one_and_stops_at_the_first_that_fails(playbook: Path) -> None:
    for play in read(playbook):
        assert play["serial"] in (1, "{{ gateways_at_once | default(1) }}")
        assert play.get("max_fail_percentage", 0) == 0
