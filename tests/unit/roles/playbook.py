# SPDX-License-Identifier: Apache-2.0
"""Roles run by the real ``ansible-playbook`` against hosts that are this machine."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[3]
LOCKGATE = str(Path(sys.executable).with_name("lockgate"))


@dataclass(frozen=True)
class Played:
    """How a run ended: its exit status, what it printed, and per host how many tasks changed something or failed."""

    status: int
    text: str
    changed: dict[str, int]
    failed: dict[str, int]


def variables() -> dict[str, str]:
    """The environment of a run: quiet, no colour, this repository's settings, a place of its own for what Ansible keeps."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PYTHON"))}
    return kept | {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_ROLES_PATH": str(ROOT / "roles"), "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default", "ANSIBLE_LOCALHOST_WARNING": "0",
        "ANSIBLE_INVENTORY_UNPARSED_WARNING": "0", "LC_ALL": "C.UTF-8",
    }


def written(root: Path, role: str, hosts: Mapping[str, Mapping[str, Any]], values: Mapping[str, Any]) -> list[str]:
    """The command line of a play of one role; its files are under ``root``."""
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    inventory = {"all": {"children": {"gateways": {"hosts": {name: {**local, **own} for name, own in hosts.items()}}}}}
    (root / "hosts.json").write_text(json.dumps(inventory))
    (root / "play.json").write_text(json.dumps([{"hosts": "gateways", "gather_facts": False, "roles": [role], "vars": dict(values)}]))
    binary = Path(sys.executable).with_name("ansible-playbook")
    return [str(binary), "-i", str(root / "hosts.json"), str(root / "play.json")]


def play(root: Path, role: str, values: Mapping[str, Any], hosts: Sequence[str] | Mapping[str, Mapping[str, Any]] = ("gw-1",),
         *words: str, cwd: Path | None = None) -> Played:
    """Run one role."""
    named = hosts if isinstance(hosts, Mapping) else {name: {} for name in hosts}
    command = [*written(root, role, named, values), *words]
    done = subprocess.run(command, capture_output=True, text=True, env=variables(), cwd=cwd or root, check=False, timeout=300,
                          stdin=subprocess.DEVNULL)
    return ended(done.returncode, done.stdout + done.stderr)


def ended(status: int, text: str) -> Played:
    changed, failed = {}, {}
    for line in text.partition("PLAY RECAP")[2].splitlines()[1:]:
        name, _, rest = line.partition(":")
        numbers = dict(pair.split("=") for pair in rest.split() if "=" in pair)
        if "changed" in numbers:
            changed[name.strip()], failed[name.strip()] = int(numbers["changed"]), int(numbers["failed"])
    return Played(status, text, changed, failed)


def plugin(role: str, name: str) -> ModuleType:
    """A Python file of a role, such as ``library/audit_piece.py``."""
    path = ROOT / "roles" / role / name
    spec = importlib.util.spec_from_file_location(f"{role}_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
