# SPDX-License-Identifier: Apache-2.0
"""A job on this side of the wire: psql through the booted gateway, which for some tests has other settings for a while."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.terraform.site import POSTGRES, Site
from tests.vm.machine import BOOT_SECONDS, COMMAND_SECONDS, Machine
from tests.vm.network import GATEWAY, Network

_FOLDER = "/var/lib/lockgate-config/current"
_PATIENCE = f"[Service]\nTimeoutStartSec={BOOT_SECONDS}\n"
_DROPIN = "/run/systemd/system/lockgate.service.d/90-emulated.conf"


@dataclass(frozen=True)
class Caller:
    """The identity ci-bot, where it may call from."""

    machine: Machine
    wire: Network
    site: Site

    def psql(self, sql: str, options: str = "") -> subprocess.CompletedProcess[str]:
        """``options`` as in PGOPTIONS. A first boot's certificate is the gateway's own: its authority is checked, names are not in it."""
        authority = self.site.folder / "gateway-ca.crt"
        if not authority.exists():
            authority.write_text(self.machine.says(f"sudo cat {_FOLDER}/tls/ca.crt") + "\n")
        connection = (f"host={GATEWAY} port={POSTGRES} user=ci dbname=orders-db connect_timeout={COMMAND_SECONDS} "
                      f"sslmode=verify-ca sslrootcert={authority}")  # fmt: skip
        command = ["ip", "netns", "exec", self.wire.controller, "psql", "--no-psqlrc", "--no-password", "-qAt", connection, "-f", "-"]
        env = {**os.environ, "PGPASSWORD": self.site.token("ci-bot"), "PGOPTIONS": options}
        return subprocess.run(command, env=env, input=sql, check=False, text=True, capture_output=True, timeout=2 * COMMAND_SECONDS)


@contextmanager
def settings(machine: Machine, changed: dict[str, Any]) -> Iterator[None]:
    """``changed`` in gateway.yaml while it lasts; the gateway is restarted before and after."""
    before = machine.says(f"sudo cat {_FOLDER}/gateway.yaml")
    _write(machine, _DROPIN, _PATIENCE)
    machine.says("sudo systemctl daemon-reload")
    try:
        _serve(machine, json.dumps({**json.loads(before), **changed}))
        yield
    finally:
        _serve(machine, before)


@contextmanager
def changed(machine: Machine, path: str, old: str, new: str) -> Iterator[None]:
    """``new`` in the place of ``old`` in one file of the machine while it lasts."""
    before = machine.says(f"sudo cat {path}") + "\n"
    assert old in before, before
    _write(machine, path, before.replace(old, new, 1))
    try:
        yield
    finally:
        _write(machine, path, before)


def policy_file(name: str) -> str:
    """Where the policy in force has it."""
    return f"{_FOLDER}/policy/{name}"


def _serve(machine: Machine, text: str) -> None:
    _write(machine, f"{_FOLDER}/gateway.yaml", text)
    machine.says("sudo systemctl restart lockgate.service", seconds=BOOT_SECONDS)


def _write(machine: Machine, path: str, text: str) -> None:
    done = machine.ssh(f"sudo mkdir -p {path.rpartition('/')[0]} && sudo tee {path} > /dev/null", stdin=text.encode())
    assert done.returncode == 0, done.stderr
