# SPDX-License-Identifier: Apache-2.0
"""Ansible's way into a lab host: nsenter, as root, without the host's network or sshd (which the roles may close)."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleFileNotFound
from ansible.plugins.connection import ConnectionBase

DOCUMENTATION = """
name: lab
short_description: Run tasks in a booted lab host
description: Runs commands in a host that C(molecule/lab/lab up) has booted, through C(lab exec).
author: Lockgate maintainers
options:
  scenario:
    description: The scenario the host belongs to.
    env: [{name: MOLECULE_SCENARIO_NAME}]
    vars: [{name: ansible_lab_scenario}]
    required: true
  host:
    description: The host's name in the lab.
    vars: [{name: inventory_hostname}, {name: ansible_lab_host}]  # the last one that is set counts
    required: true
"""

LAB = Path(__file__).resolve().parent.parent / "lab"


class Connection(ConnectionBase):  # type: ignore[misc]  # ansible ships no types
    transport = "lab"
    has_pipelining = True

    def _connect(self) -> Connection:
        self._connected = True
        return self

    def _in_host(self, *argv: str) -> list[str]:
        return [str(LAB), "exec", "--scenario", self.get_option("scenario"), self.get_option("host"), *argv]

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        done = subprocess.run(
            self._in_host("/bin/sh", "-c", cmd), input=in_data or b"", capture_output=True, check=False
        )
        return done.returncode, done.stdout, done.stderr

    def put_file(self, in_path: str, out_path: str) -> None:
        super().put_file(in_path, out_path)
        if not Path(in_path).exists():
            raise AnsibleFileNotFound(f"{in_path} is not there")
        self._copy(f"cat > {shlex.quote(out_path)}", Path(in_path).read_bytes())

    def fetch_file(self, in_path: str, out_path: str) -> None:
        super().fetch_file(in_path, out_path)
        Path(out_path).write_bytes(self._copy(f"cat -- {shlex.quote(in_path)}", b""))

    def _copy(self, command: str, content: bytes) -> bytes:
        done: subprocess.CompletedProcess[Any] = subprocess.run(
            self._in_host("/bin/sh", "-c", command), input=content, capture_output=True, check=False
        )
        if done.returncode != 0:
            raise AnsibleConnectionFailure(f"{command}: {done.stderr.decode(errors='replace')}")
        return bytes(done.stdout)

    def close(self) -> None:
        self._connected = False
