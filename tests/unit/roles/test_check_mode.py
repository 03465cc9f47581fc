# SPDX-License-Identifier: Apache-2.0
"""A dry run (--check) that tells of no change where there would be one is worse than none: commands, which it passes over, are told of."""

from __future__ import annotations

import json
import subprocess
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.roles.playbook import ROOT, Played, ended, variables

LOADED, OTHERS = b"lockgate (enforce)\nlockgate//sandboxed (enforce)\n", b"lsb_release (enforce)\n"


def tasks(file: str) -> Any:
    return yaml.safe_load((ROOT / "roles" / file).read_text())


def played(folder: Path, given: dict[str, Any], steps: Any, *options: str) -> Played:
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "vars": given, "tasks": steps}
    (folder / "play.json").write_text(json.dumps([play]))
    argv = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "play.json", *options]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=folder, env=variables(), timeout=120, check=False)
    return ended(done.returncode, done.stdout + done.stderr)


@pytest.mark.parametrize(("other", "changed", "failed"), [(["0.2.0"], 1, 0), ([], 0, 1)])
def test_the_way_back_to_the_other_slot(tmp_path: Path, other: list[str], changed: int, failed: int) -> None:
    known = {"__image_update_status": {"stdout": json.dumps({"other": other})}, "__image_update_running": "0.3.0"}
    run = played(tmp_path, known, tasks("image_update/tasks/other-slot.yml"), "--check")
    assert (run.changed, run.failed) == ({"localhost": changed}, {"localhost": failed}), run.text


@pytest.mark.parametrize(("kernel", "written", "changed"), [(OTHERS, False, 1), (LOADED, True, 1), (LOADED, False, 0)])
def test_a_profile_that_the_kernel_does_not_have(tmp_path: Path, kernel: bytes, written: bool, changed: int) -> None:
    """On a plain host whose kernel has AppArmor; what it has loaded is a stand-in."""
    (step,) = [task for task in tasks("gateway/tasks/apparmor.yml") if "block" in task]
    step["block"] = [task for task in step["block"] if "ansible.builtin.slurp" not in task]
    known = {"__gateway_apparmor": {"stat": {"exists": True}}, "__gateway_container": {"stat": {"exists": False}},
             "__gateway_profile": {"changed": written}, "__gateway_loaded": {"content": b64encode(kernel).decode()}}  # fmt: skip
    run = played(tmp_path, known, [step], "--check")
    assert (run.status, run.changed) == (0, {"localhost": changed}), run.text
