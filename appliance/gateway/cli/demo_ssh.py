# SPDX-License-Identifier: Apache-2.0
"""The demo's host: a real sshd behind the same gateway, and OpenSSH's own client in front of it.

The shipped example's rules, but for a folder of the demo's own in place of ``/srv/billing``, and a harmless command in place of ``reboot``.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.testing.appliance import Appliance
from gateway.testing.openssh import SshServer, SshUnavailable, program
from gateway.testing.postgres import free_port

KEY = "AKIADEMODEMODEMO1234"
"""What looks like a cloud's access key."""
NOTES = f"region = eu-central-1\naccess_key = {KEY}\n"


def lacking() -> str:
    """What is missing here to show SSH; empty where nothing is."""
    try:
        program()
    except SshUnavailable as problem:
        return str(problem)
    return "" if shutil.which("ssh") else "found no ssh client"


@dataclass(slots=True)
class Host:
    """The sshd, the files on it, and how ``ssh`` gets there through the gateway."""

    server: SshServer
    files: Path
    config: Path
    port: int = 0

    def prepare(self, appliance: Appliance) -> None:
        """Point the folder that ``init --demo --ssh`` made at the sshd."""
        self.port = free_port()
        self.files.mkdir(parents=True)
        (self.files / "cloud.ini").write_text(NOTES)
        changes = {"/srv/billing": str(self.files), "127.0.0.1:2222": self.server.address, "[deploy]": f"[{self.server.login}]",
                   '["reboot *", "shutdown *"]': f'["rm {self.files}/**"]'}
        appliance.rewrite("gateway.yaml", {"127.0.0.1:12222": f"127.0.0.1:{self.port}"})
        appliance.rewrite("policy/web.yaml", changes)
        appliance.rewrite("policy/tests/web.yaml", {"/srv/billing": str(self.files), "exec: reboot": f'exec: "rm {self.files}/cloud.ini"'})
        (appliance.folder / "trust" / "known_hosts").write_text(self.server.known_hosts)
        key = (appliance.folder / "credentials" / "web-1.key.pub").read_text()
        (self.server.folder / "authorized_keys").write_text(key)

    def configure(self, appliance: Appliance) -> None:
        """What ``ssh -F`` reads: the gateway's host key, and the certificate that the token is exchanged for."""
        known, identity = self.config.with_name("known_hosts"), self.config.with_name("robot")
        known.write_text(appliance.run("ssh-known-hosts", "--host", "127.0.0.1"))
        self.config.write_text(
            f"Host web-1\n  HostName 127.0.0.1\n  Port {self.port}\n  User web-1\n  IdentityFile {identity}\n"
            f"  CertificateFile {identity}-cert.pub\n  IdentitiesOnly yes\n  UserKnownHostsFile {known}\n  StrictHostKeyChecking yes\n"
            "  PreferredAuthentications publickey\n  LogLevel ERROR\n")

    def command(self, *words: str) -> list[str]:
        return ["ssh", "-F", str(self.config), "web-1", *words]


def run(command: Sequence[str], seconds: float) -> subprocess.CompletedProcess[str]:
    """One ``ssh``; what it says on both outputs."""
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=seconds, check=False)
