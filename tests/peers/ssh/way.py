# SPDX-License-Identifier: Apache-2.0
"""A real gateway process in front of a real sshd, and OpenSSH's own clients on the way through it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from gateway.audit.reader import LogReader, audit_folder, export
from gateway.build import Gateway
from gateway.config.load import load_folder
from gateway.testing.appliance import Appliance
from gateway.testing.openssh import SshServer, write_key
from gateway.testing.postgres import free_port

Document = dict[str, Any]
WAIT = 60.0
QUIET = ("-o", "LogLevel=ERROR")

HELD = "printf held"
"""A command that has to be approved."""
RULES: list[Document] = [
    {"name": "commands", "allow": {"ssh": {"actions": ["exec"]}}},
    {"name": "texts", "allow": {"ssh": {"actions": ["exec"], "text": [
        "echo out; echo err >&2; exit 3", "kill -TERM $$", "head -c 20000000 /dev/zero | tr '\\0' x", "exec sleep 60 >/dev/null 2>&1",
        "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.1; done"]}}},
    {"name": "shells", "allow": {"ssh": {"actions": ["shell", "env"]}}},
    {"name": "files", "allow": {"ssh": {"actions": ["read", "write", "list", "stat", "mkdir", "rename", "remove", "setattr", "symlink"],
                                        "paths": ["/tmp/**", "/root/**"]}}},
    {"name": "tunnels", "allow": {"ssh": {"actions": ["forward-local", "forward-remote"], "to": ["127.0.0.1:*", "localhost:*"]}}},
    {"name": "sockets", "allow": {"ssh": {"actions": ["forward-socket"], "to": ["unix:/tmp/**"]}}},
    {"name": "agents", "allow": {"ssh": {"actions": ["agent"]}}},
    {"name": "held", "approve": {"ssh": {"actions": ["exec"], "command": ["printf held *"]}}, "by": "one-dba"},
    {"name": "held-tunnel", "approve": {"ssh": {"actions": ["forward-local"], "to": ["127.0.0.1:9"]}}, "by": "one-dba"},
    {"name": "never", "deny": {"ssh": {"actions": ["exec"], "command": ["reboot *", "shutdown *", "rm *"]}}},
    {"name": "port", "deny": {"ssh": {"actions": ["forward-local"], "to": ["127.0.0.1:22"]}}},
]
NARROW: list[Document] = [{"name": "uptime", "allow": {"ssh": {"actions": ["exec"], "command": ["uptime"]}}}]

LINES: list[Document] = [
    {"name": "lines", "allow": {"ssh": {"actions": ["restricted-shell"]}}},
    {"name": "commands", "allow": {"ssh": {"actions": ["exec"], "command": ["echo *", "uptime", "tty", "cat", "sleep *"]}}}]
"""On web-2: a shell in which each line is a command of its own, and no command longer than three seconds."""


@dataclass(slots=True)
class Way:
    """A gateway's folder and process (``appliance``), the sshd behind it, and where clients come in."""

    appliance: Appliance
    server: SshServer
    port: int
    document: Document = field(default_factory=dict)
    skip: int = 0
    """Records of earlier tests, which are not looked at."""

    # --- the folder

    def write_policy(self) -> None:
        """``document`` is policy/web.yaml; ``reload`` puts it in force."""
        (self.appliance.folder / "policy" / "web.yaml").write_text(json.dumps(self.document))

    def grant(self, name: str) -> Document:
        found: Document = next(grant for grant in self.document["grants"] if grant["name"] == name)
        return found

    def reload(self) -> str:
        """Write the policy, reload, give the digest that is in force then."""
        before = len(self.records("policy.loaded", "policy.rejected"))
        self.write_policy()
        self.appliance.reload()
        self.until(lambda: len(self.records("policy.loaded", "policy.rejected")) > before, "the policy was not looked at")
        last = self.records("policy.loaded", "policy.rejected")[-1]
        assert last["kind"] == "policy.loaded", last
        return str(last["policy"])

    @contextmanager
    def kept(self) -> Iterator[Way]:
        """For one test: what it changes of policy and process is as before afterwards, and it sees its own records alone."""
        document, files = deepcopy(self.document), {path: path.read_bytes() for path in self.appliance.folder.glob("policy/**/*.yaml")}
        self.skip = 0
        self.skip = len(self.records())
        yield self
        if not self.appliance.running:
            self.appliance.start()
        self.document = document
        for path, content in files.items():
            path.write_bytes(content)
        for asked in self.appliance.root.glob("askpass-*"):
            asked.unlink()
        self.reload()
        self.skip = 0

    # --- clients

    @property
    def known_hosts(self) -> Path:
        path = self.appliance.root / "known_hosts"
        path.write_text(f"[127.0.0.1]:{self.port} {(self.appliance.folder / 'tls' / 'ssh_host_ed25519_key.pub').read_text()}")
        return path

    def options(self, *, port: str = "-p") -> list[str]:
        """What every OpenSSH client is given."""
        return ["-F", "/dev/null", "-o", f"UserKnownHostsFile={self.known_hosts}", "-o", "StrictHostKeyChecking=yes", "-o",
                "IdentityFile=none", "-o", "IdentityAgent=none", "-o", "NumberOfPasswordPrompts=1", port, str(self.port)]

    def variables(self, name: str = "ci-bot", **more: str) -> dict[str, str]:
        """The environment of a client that shows this identity's token when it is asked."""
        asked = self.appliance.root / f"askpass-{name}"
        if not asked.exists():
            asked.touch(mode=0o700)
            asked.write_text(f"#!/bin/sh\ncat {self.appliance.token_file(name)}\n")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SSH_", "LC_", "LANG", "LOCKGATE"))}
        return kept | {"SSH_ASKPASS": str(asked), "SSH_ASKPASS_REQUIRE": "force"} | more

    def ssh(self, *words: str, name: str = "ci-bot", to: str = "web-1", given: bytes | None = b"", before: Sequence[str] = QUIET,
            variables: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
        """``ssh`` through the gateway, to its end."""
        command = ["ssh", *self.options(), *before, f"{to}@127.0.0.1", *words]
        return subprocess.run(command, input=given, capture_output=True, timeout=WAIT, check=False,
                              env=self.variables(name, **(variables or {})))

    def start(self, *words: str, name: str = "ci-bot", to: str = "web-1", before: Sequence[str] = QUIET,
              variables: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """``ssh`` through the gateway, running."""
        command = ["ssh", *self.options(), *before, f"{to}@127.0.0.1", *words]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                env=self.variables(name, **(variables or {})))

    def client(self, *command: str, name: str = "ci-bot", given: bytes | None = b"", cwd: Path | None = None,
               variables: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
        """Another client, with the same environment."""
        return subprocess.run(command, input=given, capture_output=True, timeout=WAIT, check=False, cwd=cwd,
                              env=self.variables(name, **(variables or {})))

    # --- records

    def records(self, *kinds: str) -> list[Document]:
        """As ``lockgate audit export`` has them; without its process, since tests ask often."""
        found = map(json.loads, export(LogReader(audit_folder(self.appliance.state)), {}))
        return [record for record in islice(found, self.skip, None) if not kinds or record["kind"] in kinds]

    def last(self, kind: str, **fields: Any) -> Document:
        """The newest record of a kind with these fields; waits until there is one."""
        found: list[Document] = []

        def there() -> bool:
            found[:] = [one for one in self.records(kind) if all(one.get(key) == value for key, value in fields.items())]
            return bool(found)

        self.until(there, f"no record {kind} with {fields}")
        return found[-1]

    @staticmethod
    def until(done: Callable[[], bool], why: str) -> None:
        deadline = time.monotonic() + WAIT
        while not done():
            if time.monotonic() > deadline:
                raise AssertionError(why)
            time.sleep(0.05)

    # --- approvals

    def pending(self) -> list[Document]:
        listed = self.appliance.run("approvals", "list", "--json", "--token-file", str(self.appliance.token_file("ines")))
        return [one for one in map(json.loads, listed.splitlines()) if one["state"] == "pending"]

    def vote(self, verb: str = "approve") -> Document:
        """Wait for one held operation and vote on it as ines."""
        self.until(lambda: bool(self.pending()), "nothing is held")
        held = self.pending()[0]
        self.appliance.run("approvals", verb, held["id"], "--reason", "tested", "--token-file", str(self.appliance.token_file("ines")))
        return held


def document(server: SshServer) -> Document:
    """The policy of these tests: everything for ci-bot, ``uptime`` for reporting; web-2 is the same host under narrower rules."""
    resource = {"name": "web-1", "protocol": "ssh", "address": server.address, "logins": [server.login], "host_keys": "trust/known_hosts",
                "credential": "web-1", "share": "5s"}
    return {"resources": [resource, resource | {"name": "web-2"}], "grants": [
        {"name": "lines", "to": ["ci-bot"], "targets": ["web-2"], "statement": {"time": "3s"}, "rules": [dict(rule) for rule in LINES]},
        {"name": "ssh", "to": ["ci-bot"], "targets": ["web-1"], "rules": [dict(rule) for rule in RULES]},
        {"name": "narrow", "to": ["reporting"], "targets": ["web-1"], "rules": [dict(rule) for rule in NARROW]}]}


def prepared(root: Path, server: SshServer, change: Callable[[Way], None] | None = None) -> Way:
    """A demo folder with an SSH listener and ``server`` as the resource web-1. ``change`` may edit it."""
    appliance = Appliance(root)
    appliance.prepare("127.0.0.1:1")
    folder, port = appliance.folder, free_port()
    shutil.rmtree(folder / "policy" / "tests", ignore_errors=True)
    for name in ("ssh_host_ed25519_key", "ssh_user_ca"):
        if not (folder / "tls" / name).exists():
            write_key(folder / "tls" / name)
    settings = f'  ssh: {{address: "127.0.0.1:{port}", host_keys: [tls/ssh_host_ed25519_key], user_ca: tls/ssh_user_ca}}\n'
    lines = [line for line in (folder / "gateway.yaml").read_text().splitlines(keepends=True) if not line.lstrip().startswith("ssh:")]
    lines.insert(lines.index("listeners:\n") + 1, settings)
    (folder / "gateway.yaml").write_text("".join(lines))
    _secret(folder / "credentials" / "web-1.key", server.key.read_text())
    _secret(folder / "credentials" / "web-1.yaml", "kind: ssh-key\nprivate_key: credentials/web-1.key\n")
    (folder / "trust" / "known_hosts").write_text(server.known_hosts)
    way = Way(appliance, server, port, document(server))
    if change is not None:
        change(way)
    way.write_policy()
    return way


def _secret(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)


@contextmanager
def running(root: Path, server: SshServer, change: Callable[[Way], None] | None = None) -> Iterator[Way]:
    """A gateway in front of ``server`` until the block ends; it must then exit 0, its log must verify, and no secret may be anywhere."""
    way = prepared(root, server, change)
    with way.appliance:
        yield way
    way.appliance.run("audit", "verify")
    assert way.appliance.leaked() == []


@asynccontextmanager
async def inside(root: Path, server: SshServer, change: Callable[[Way], None] | None = None) -> Any:
    """The same gateway in this process and event loop: for tests that look at, or break, its parts."""
    way = prepared(root, server, change)
    gateway = Gateway(load_folder(way.appliance.folder))
    await gateway.start()
    try:
        yield gateway, way
    finally:
        await gateway.stop()
