# SPDX-License-Identifier: Apache-2.0
"""A role's register of controls, held against a running host."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import yaml
from testinfra.host import Host

ROLES = Path(__file__).resolve().parents[2] / "roles"


def controls(role: str, scope: str = "host") -> list[dict[str, Any]]:
    register = yaml.safe_load((ROLES / role / "vars/controls.yml").read_text(encoding="utf-8"))
    return [control for control in register[f"__{role}_controls"] if control["scope"] == scope]


def unmet(host: Host, role: str) -> dict[str, str]:
    """Id to answer, of the controls whose evidence does not show what the register promises.

    Those that need a kernel of their own are left out."""
    answers: dict[str, str] = {}
    for control in controls(role):
        evidence = control["evidence"]
        done = host.run(shlex.join(evidence["command"]))
        shown = re.search(evidence.get("stdout_regex", ""), done.stdout) and done.rc == evidence.get("rc", done.rc)
        if not shown:
            answers[control["id"]] = done.stdout + done.stderr
    return answers
