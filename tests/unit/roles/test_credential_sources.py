# SPDX-License-Identifier: Apache-2.0
"""Credentials by reference, as roles/gateway_credentials/README.md writes them: Ansible's own lookups get the value.

ansible-vault is the real one. `sops` is a stand-in for the program, which only has to print what the file holds; the lookup is Ansible's.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.roles.playbook import ROOT, variables

README = (ROOT / "roles/gateway_credentials/README.md").read_text()
SOPS = """#!/bin/sh
case "$*" in
  *--version*) echo "sops 3.9.4" ;;
  *plant-a.sops.yaml*) echo "orders_db: canary-of-sops" ;;
  *) exit 1 ;;
esac
"""
PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - ansible.builtin.assert:
        that: gateway_credentials['orders-db'].password == wanted and gateway_credentials['orders-db'].username == 'lockgate'
        quiet: true
"""


def written(source: str) -> str:
    """What the README shows for a source, as a file of variables."""
    block = README.split("## Where the values come from")[1].split("```yaml\n")[1].split("```")[0]
    (part,) = [part for part in block.split("\n\n") if part.startswith(f"# {source}")]
    return part


def run(folder: Path, wanted: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "play.yml").write_text(PLAY)
    (folder / "hosts").write_text("localhost\n")
    path = f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**variables(), "PATH": path, "HOME": str(folder)}
    argv = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "hosts", "-e", f"wanted={wanted}", *options, "play.yml"]
    return subprocess.run(argv, capture_output=True, text=True, cwd=folder, env=environment, timeout=120, stdin=subprocess.DEVNULL,
                          check=False)


def test_from_the_vault(tmp_path: Path) -> None:
    (tmp_path / "group_vars/all").mkdir(parents=True)
    (tmp_path / "group_vars/all/credentials.yml").write_text(written("ansible-vault"))
    vault, password = tmp_path / "group_vars/all/vault.yml", tmp_path / "password"
    vault.write_text("vault_orders_db_password: canary-of-the-vault\n")
    password.write_text("a password\n")
    encrypt = [str(Path(sys.executable).with_name("ansible-vault")), "encrypt", "--vault-password-file", str(password), str(vault)]
    subprocess.run(encrypt, check=True, capture_output=True, env=variables())
    assert "canary" not in vault.read_text()
    assert run(tmp_path, "canary-of-the-vault", "--vault-password-file", str(password)).returncode == 0
    assert run(tmp_path, "canary-of-the-vault").returncode != 0, "without the vault's password"


@pytest.mark.parametrize(("wanted", "status"), [("canary-of-sops", 0), ("another", 2)])
def test_from_sops(tmp_path: Path, wanted: str, status: int) -> None:
    (tmp_path / "group_vars/all").mkdir(parents=True)
    (tmp_path / "group_vars/all/credentials.yml").write_text(written("sops"))
    (tmp_path / "plant-a.sops.yaml").write_text("orders_db: ENC[AES256_GCM,data:...]\nsops: {}\n")
    (tmp_path / "sops").write_text(SOPS)
    (tmp_path / "sops").chmod(0o755)
    done = run(tmp_path, wanted)
    assert done.returncode == status, done.stdout + done.stderr
