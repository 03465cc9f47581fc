# SPDX-License-Identifier: Apache-2.0
"""Every command of docs/operating.md is run by some test, or the register says why not; those that need no host are run here."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.cli import build_parser
from tests.contract.operating import PAGE, REGISTER, ROOT, commands

REGISTERED: dict[str, Any] = yaml.safe_load(REGISTER.read_text())
WORDS = " ".join


def plain(command: str) -> str:
    return re.sub(r"(?<=[:,]) ", "", WORDS(command.split())) if "{" in command else WORDS(command.split())


def on_the_page() -> list[str]:
    return [plain(command) for command in commands(PAGE.read_text())]


def registered() -> Iterator[str]:
    for kind in ("here", "over_ssh", "on_the_gateway"):
        yield from (plain(command) for command in REGISTERED[kind])
    for kind in ("elsewhere", "not_run"):
        yield from (plain(entry["command"]) for entry in REGISTERED[kind])


def test_every_command_of_the_page_is_registered_and_no_other() -> None:
    assert len(on_the_page()) > 60
    assert set(on_the_page()) == set(registered())


@pytest.mark.parametrize("entry", REGISTERED["elsewhere"], ids=lambda entry: str(entry["command"])[:60])
def test_what_runs_a_command_is_there(entry: dict[str, str]) -> None:
    place = ROOT / entry["by"]
    files = [place] if place.is_file() else sorted(place.rglob("*.py"))
    assert any(entry["says"] in path.read_text() for path in files)


@pytest.mark.parametrize("command", [command for command in on_the_page() if "playbooks/" in command])
def test_playbooks_and_what_they_are_told_are_there(command: str) -> None:
    (playbook,) = re.findall(r"playbooks/\w+\.yml", command)
    assert (ROOT / playbook).is_file()
    roles = [path.read_text() for kind in ("defaults", "meta") for path in (ROOT / "roles").glob(f"*/{kind}/*.yml")]
    for told in re.findall(r"-e '?\{?\"?(\w+)", command):
        assert any(re.search(rf"\b{told}\b", text) for text in roles), told


@pytest.mark.parametrize("command", [command for command in on_the_page() if command.startswith("make ")])
def test_targets_and_variables_of_make_are_there(command: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for part in (part for part in command.split(" && ") if part.startswith("make ")):
        target, *variables = shlex.split(part)[1:]
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
        assert all(f"$({name.partition('=')[0]})" in makefile for name in variables)


@pytest.mark.parametrize("command", sorted({command for command in on_the_page() if re.match("(sudo -u lockgate )?lockgate ", command)}))
def test_the_program_understands_what_it_is_told(command: str) -> None:
    for part in re.split(r" && | \|\| | \| |; ", command.removeprefix("sudo -u lockgate ")):
        words = shlex.split(part.partition(" > ")[0])
        if words[0] == "lockgate":
            build_parser().parse_args(words[1:])  # or it ends here, and says what it does not know


def test_commands_for_a_copy_of_the_inventory(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "inventories" / "example", tmp_path / "inventories" / "example")
    writes = tmp_path / "writes"
    writes.write_text("#!/bin/sh\necho 'vault_orders_db_password: canary-of-the-page' >> \"$1\"\n")
    writes.chmod(0o755)
    (tmp_path / ".lockgate-vault").write_text("a password\n")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "HOME": str(tmp_path), "EDITOR": str(writes), "PATH": path}
    script = "set -e\n" + "\n".join(REGISTERED["here"])
    (tmp_path / "as-written").write_text(script)
    on_a_terminal = ["script", "--quiet", "--return", "--command", "bash as-written", "/dev/null"]
    done = subprocess.run(on_a_terminal, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout
    vault = tmp_path / "inventories/plants/group_vars/segment_plant_a/vault.yml"
    assert vault.read_text().startswith("$ANSIBLE_VAULT;1.1;AES256\n")
    shown = subprocess.run(["ansible-vault", "view", str(vault)], cwd=tmp_path, capture_output=True, text=True, check=True,
                           env={**environment, "ANSIBLE_VAULT_PASSWORD_FILE": str(tmp_path / ".lockgate-vault")}).stdout
    assert shown.count("canary-of-the-page") == 2, "once made, once changed"
    assert "canary-of-the-page" in (tmp_path / "inventories/plants/hosts.yml").read_text()
    assert (tmp_path / "web-1.key.pub").read_text().endswith("lockgate plant-a\n")
