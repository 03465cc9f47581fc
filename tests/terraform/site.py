# SPDX-License-Identifier: Apache-2.0
"""What stands around the booted gateway: issuer, policy, management key, database, and the inventory that Terraform gave back."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.testing.certificates import Authority
from tests.terraform.programs import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator

GATEWAY, HYPERVISOR, NETWORK = "10.88.20.11", "10.88.20.1", "10.88.20.0/24"
POSTGRES, CONSOLE = 15432, 19443
DATABASE_NAME = "db.lab.example"
"""Its certificate has this name beside its address; who wants to use it says where it is (/etc/hosts)."""
# inventories/lab is another network's: its addresses become this one's.
MOVED = {"10.88.12.12": HYPERVISOR, "10.88.11.13/32": f"{HYPERVISOR}/32", "10.88.11.0/24": NETWORK}
ISSUER = """\
name: issuer
segment: lab
state: ../issuer-state
listeners:
  console: {address: "127.0.0.1:19443", tls: {certificate: tls/gateway.crt, key: tls/gateway.key}}
audit:
  checkpoint: {every: 1s, key: tls/audit_ed25519_key}
"""


@dataclass(frozen=True)
class Site:
    """Files of one site; `segment` is what the gateway is told, `issuer` has the signing keys."""

    folder: Path
    wheels: Path

    @property
    def segment(self) -> Path:
        return self.folder / "segment"

    @property
    def key(self) -> Path:
        return self.folder / "ops"

    @property
    def public_key(self) -> str:
        return self.key.with_suffix(".pub").read_text().strip()

    def token(self, identity: str) -> str:
        return _lockgate("token", "mint", "--config", str(self.folder / "issuer"), "--as", identity).strip()

    def inventory(self, hosts: Any, namespace: str) -> Path:
        """Terraform's output as the hosts, and beside it the data that an operator keeps in files."""
        folder = self.folder / "inventory"
        (folder / "group_vars").mkdir(parents=True, exist_ok=True)
        (folder / "hosts.json").write_text(json.dumps(hosts))
        (folder / "group_vars/all.json").write_text(json.dumps(self._connection(namespace) | self._settings()))
        return folder / "hosts.json"

    def ssh_options(self, namespace: str) -> list[str]:
        options = [f"ProxyCommand=ip netns exec {namespace} socat - TCP:%h:%p", "StrictHostKeyChecking=accept-new", "BatchMode=yes"]
        options += [f"UserKnownHostsFile={self.folder}/known_hosts", "IdentitiesOnly=yes", "ConnectTimeout=90", "LogLevel=ERROR"]
        return [word for option in options for word in ("-o", option)]

    def _connection(self, namespace: str) -> dict[str, Any]:
        return {
            "ansible_user": "ops",
            "ansible_become": True,
            "ansible_ssh_private_key_file": str(self.key),
            "ansible_ssh_common_args": " ".join(f"'{word}'" for word in self.ssh_options(namespace)),
            "ansible_python_interpreter": "/usr/bin/python3",
        }

    def _settings(self) -> dict[str, Any]:
        tls = {"certificate": "tls/gateway.crt", "key": "tls/gateway.key"}
        return {
            "gateway_wheels": str(self.wheels),
            "gateway_segment_folder": str(self.segment),
            "gateway_credentials": {
                "orders-db": {"kind": "password", "username": "lockgate", "password": (self.folder / "orders-db.password").read_text()}
            },
            "gateway_credentials_hosts": ["{{ inventory_hostname }}", GATEWAY],
            "gateway_ready_timeout": 300,
            "gateway_settings": {
                "listeners": {
                    "postgres": {"address": f"{GATEWAY}:{POSTGRES}", "tls": tls},
                    "console": {"address": f"{GATEWAY}:{CONSOLE}", "tls": tls},
                },
                "audit": {"checkpoint": {"every": "1s", "key": "tls/audit_ed25519_key"}},
            },
            "ssh_management_networks": [NETWORK],
            "ssh_management_authorized_keys": [self.public_key],
            "firewall_client_networks": [NETWORK],
        }


def _lockgate(*arguments: str) -> str:
    return subprocess.run([sys.executable, "-m", "gateway.cli", *arguments], check=True, text=True, capture_output=True).stdout


def make_site(folder: Path, wheels: Path) -> Site:
    """Keys, certificates and passwords anew; policy out of inventories/lab."""
    authority = Authority(folder, "Lab targets")
    authority.issue(HYPERVISOR, DATABASE_NAME)
    issuer = folder / "issuer"
    shutil.copytree(REPOSITORY / "inventories/lab/segments/lab", issuer)
    for file in issuer.rglob("*.yaml"):
        text = file.read_text()
        for old, new in MOVED.items():
            text = text.replace(old, new)
        file.write_text(text)
    for pinned in issuer.glob("trust/*.jwks.json"):
        pinned.unlink()
    shutil.copy(authority.ca, issuer / "trust/targets-ca.pem")
    (issuer / "gateway.yaml").write_text(ISSUER)
    (issuer / "credentials").mkdir(mode=0o700)
    _secret(issuer / "credentials/orders-db.yaml", "{kind: password, username: lockgate, password: not-used-here}\n")
    _lockgate("init", str(issuer), "--demo")
    for name in ("policy", "trust"):
        shutil.copytree(issuer / name, folder / "segment" / name)
    _secret(folder / "orders-db.password", secrets.token_urlsafe(24))
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ops", "-f", str(folder / "ops")], check=True)
    return Site(folder, wheels)


def _secret(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


@contextmanager
def database(site: Site, namespace: str) -> Iterator[None]:
    """PostgreSQL on the hypervisor's address in ``namespace``, for the gateway alone and over TLS."""
    names = ("orders-db.password", "server.crt", "server.key", "ca.crt")
    command = [sys.executable, "-m", "tests.terraform.database", HYPERVISOR, GATEWAY, *(str(site.folder / name) for name in names)]
    with subprocess.Popen(
        ["ip", "netns", "exec", namespace, *command],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": "appliance:."},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            process.stdin.close()
            process.wait(timeout=60)
