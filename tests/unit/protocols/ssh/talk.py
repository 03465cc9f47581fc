# SPDX-License-Identifier: Apache-2.0
"""A session through the gateway's SSH listener in this process: asyncssh as the caller and as a scripted target, on loopback."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh

from gateway.build import Gateway
from gateway.cli.init import Made, make
from gateway.config.load import load_folder
from gateway.identity.mint import bearer, mint
from gateway.net.server import serve
from gateway.protocols.ssh.listener import SshCallers
from gateway.protocols.ssh.settings import SshListener
from gateway.testing import MemoryAudit
from gateway.testing.openssh import write_key

LOGIN = "deploy"
Rules = Sequence[Mapping[str, Any]]


class Target(asyncssh.SSHServer):
    """Runs nothing: it answers each command with its text, and keeps what it was asked for."""

    def __init__(self, asked: list[str]) -> None:
        self._asked = asked

    def begin_auth(self, username: str) -> bool:
        return False

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> Any:
        self._asked.append(f"{dest_host}:{dest_port}")
        return lambda reader, writer: writer.close()

    async def serve(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        said = process.command or process.subsystem or "shell"
        self._asked.append(said)
        process.stdout.write(said.encode())
        process.exit(0)


class Talk:
    """One connection of ci-bot to web-1. ``asked`` is what came to the target."""

    def __init__(self, gateway: Gateway, callers: SshCallers, caller: asyncssh.SSHClientConnection, asked: list[str], root: Path) -> None:
        self.gateway, self.callers, self.caller, self.asked, self._root = gateway, callers, caller, asked, root

    async def change(self, rules: Rules, **resource: Any) -> None:
        """Put another policy in force, as a reload does."""
        path = self._root / "etc" / "policy" / "web.yaml"
        document = json.loads(path.read_text())
        document["grants"][0]["rules"] = [dict(rule) for rule in rules]
        document["resources"][0].update(resource)
        path.write_text(json.dumps(document))
        prepared = self.callers.prepare(load_folder(self._root / "etc"))
        assert await self.gateway.reload() is None
        await self.callers.reloaded(prepared)


@asynccontextmanager
async def talking(root: Path, rules: Rules, audit: MemoryAudit, kind: Callable[[list[str]], Target] = Target) -> AsyncIterator[Talk]:
    """``audit`` keeps what is recorded once the session has begun; ``kind`` makes the target."""
    asked: list[str] = []
    before = _open_now()
    target = kind(asked)
    write_key(root / "target_key")
    server = await asyncssh.create_server(lambda: target, "127.0.0.1", 0, server_host_keys=[str(root / "target_key")], encoding=None,
                                          process_factory=target.serve, gss_host=None)
    settings = _folder(root / "etc", server.get_port(), (root / "target_key.pub").read_text(), rules)
    folder = load_folder(root / "etc")
    gateway = Gateway(folder)
    real, begun = gateway.audit, MemoryAudit()
    gateway.audit = begun                                 # type: ignore[assignment]
    callers = SshCallers(gateway, settings)
    listening = await serve(callers.handle, "127.0.0.1", 0)
    try:
        async with asyncssh.connect(
                "127.0.0.1", listening.addresses[0][1], username="web-1", password=mint(folder, bearer(folder, "ci-bot"), time.time()),
                known_hosts=None, client_keys=None, agent_path=None, config=None, gss_host=None) as caller:
            gateway.audit = audit                         # type: ignore[assignment]
            yield Talk(gateway, callers, caller, asked, root)
            gateway.audit = begun                         # type: ignore[assignment]
    finally:
        await listening.close()
        await callers.close()
        server.close()
        await real.close()
        await _closed_down_to(before)


def _open_now() -> int:
    """Sockets that this loop looks at."""
    loop: Any = asyncio.get_running_loop()
    return len(loop._selector.get_map())


async def _closed_down_to(count: int) -> None:
    """What the other side has to close first takes a moment; a socket that is left open never ends this."""
    while True:
        if _open_now() <= count:
            return
        await asyncio.sleep(0.01)


def _folder(path: Path, port: int, target_key: str, rules: Rules) -> SshListener:
    make(Made(path), demo=True)
    for name in ("ssh_host_ed25519_key", "ssh_user_ca"):
        if not (path / "tls" / name).exists():
            write_key(path / "tls" / name)
    known = " ".join(target_key.split()[:2])
    (path / "trust" / "known_hosts").write_text(f"[127.0.0.1]:{port} {known}\n")
    (path / "credentials" / "web-1.yaml").unlink(missing_ok=True)
    (path / "credentials" / "web-1.yaml").touch(mode=0o600)
    (path / "credentials" / "web-1.yaml").write_text(json.dumps({"kind": "password", "username": LOGIN, "password": "not asked for"}))
    resource = {"name": "web-1", "protocol": "ssh", "address": f"127.0.0.1:{port}", "logins": [LOGIN], "host_keys": "trust/known_hosts",
                "credential": "web-1"}
    (path / "policy" / "web.yaml").write_text(json.dumps({"resources": [resource], "grants": [
        {"name": "ssh", "to": ["ci-bot"], "targets": ["web-1"], "rules": [dict(rule) for rule in rules]}]}))
    return SshListener(address="127.0.0.1:0", host_keys=("tls/ssh_host_ed25519_key",), user_ca="tls/ssh_user_ca")


async def settled(work: Any, seconds: float = 2.0) -> Any:
    """What it came to; ``None`` where it is not over by then."""
    done, _ = await asyncio.wait([asyncio.ensure_future(work)], timeout=seconds)
    return next(iter(done)).result() if done else None
