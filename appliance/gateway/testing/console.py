# SPDX-License-Identifier: Apache-2.0
"""A small real assembly around the console: real desk, real authenticator on a real folder, real sockets on loopback."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from gateway.config.load import Folder, load_folder
from gateway.console.app import make_app
from gateway.console.limits import ConsoleLimits
from gateway.console.listener import ConsoleListener
from gateway.errors import GatewayFault
from gateway.identity.authenticate import Authenticator
from gateway.live import LiveSessions
from gateway.policy.policy import compile_policy
from gateway.recording.live import Hub
from gateway.testing.audit import MemoryAudit
from gateway.testing.certificates import Pair
from gateway.testing.desk import DeskRoom
from gateway.testing.issuer import TokenIssuer

_GATEWAY = """\
name: plant-a-1
segment: plant-a
state: ../state
listeners:
  console: {address: "127.0.0.1:PORT"TLS}
console: {read: [group:security], metrics: METRICS}
"""
_POLICY = """\
issuers:
  - {name: ci, issuer: "https://ci.example", audience: lockgate/plant-a, jwks: trust/ci.json, algorithms: [ES256]}
  - name: staff
    issuer: https://login.example
    audience: lockgate/plant-a/people
    jwks: trust/staff.json
    algorithms: [ES256]
    max_lifetime: 12h
    people: true
    name_claim: preferred_username
    groups_claim: groups
identities:
  - {name: ci-bot, issuer: ci, match: {sub: "project:payments/*"}, groups: [robots], owner: dana}
revoked:
  - {person: gone}
"""
_SSH = """resources:
  - {name: web-1, protocol: ssh, address: "127.0.0.1:2222", logins: [deploy, root], host_keys: trust/known_hosts, credential: web}
  - {name: web-2, protocol: ssh, address: "127.0.0.1:2223", logins: [deploy], host_keys: trust/known_hosts, credential: web}
  - {name: web-3, protocol: ssh, address: "127.0.0.1:2224", logins: [deploy], host_keys: trust/known_hosts, credential: web}
  - {name: orders-db, protocol: postgres, address: "127.0.0.1:5432", database: orders, tls: {mode: disable}, credential: orders-db}
grants:
  - {name: ci on hosts, to: [ci-bot], targets: [web-1, web-2], rules: [{name: up, allow: {ssh: {actions: [exec], command: [uptime]}}}]}
  - {name: ci on orders, to: [ci-bot], targets: [orders-db], rules: [{name: read, allow: {sql: {verbs: [select]}}}]}
  - name: not yet
    to: [ci-bot]
    targets: [web-3]
    when: {from: "2999-01-01T00:00:00Z"}
    rules: [{name: up, allow: {ssh: {actions: [exec], command: [uptime]}}}]
"""


@dataclass
class MemoryArchive:
    """What the console reads, as lists. Set ``broken`` for a log that cannot be read."""

    records: list[dict[str, Any]] = field(default_factory=list)
    broken: bool = False

    def sessions(self, limit: int = 100, *, identity: str | None = None, resource: str | None = None,
                 open_only: bool = False) -> list[dict[str, Any]]:
        found = [one for one in self._all() if one["kind"] == "session.start" and identity in (None, one.get("identity"))]
        return [{"id": one["session"], **one} for one in found][-limit:]

    def session(self, session_id: str) -> dict[str, Any] | None:
        return next(({"id": session_id, **one} for one in self._all() if one.get("session") == session_id), None)

    def events(self, session_id: str) -> list[dict[str, Any]]:
        return [one for one in self._all() if one.get("session") == session_id]

    def search(self, text: str, limit: int = 100) -> list[dict[str, Any]]:
        return [one for one in self._all() if text in str(one)][:limit]

    def head(self) -> str:
        self._all()
        return "plant-a-1\n7\nroot\n\n— plant-a-1 signature\n"

    def _all(self) -> list[dict[str, Any]]:
        if self.broken:
            raise GatewayFault("the log cannot be read")
        return self.records


@dataclass
class Webhooks:
    """The notifier's numbers."""

    counts: Counter[str] = field(default_factory=Counter)


class ConsoleRoom:
    """A console on ``url`` while inside ``async with``. ``tokens`` of staff and robots are real and signed. ``ssh``: the gateway has an SSH
    listener with a user CA (nobody listens there), and hosts that ci-bot may enter: web-1 and web-2, not web-3."""

    def __init__(self, folder: Path, *, audit: MemoryAudit | None = None, limits: ConsoleLimits | None = None,
                 metrics: str = "loopback", tls: Pair | None = None, port: int = 0, ssh: bool = False) -> None:
        self.staff = TokenIssuer("https://login.example", "lockgate/plant-a/people")
        self.ci = TokenIssuer("https://ci.example", "lockgate/plant-a")
        self.room = DeskRoom(audit)
        self.audit = self.room.audit
        self.approvals = self.room.desk
        self.live = LiveSessions()
        self.watching = Hub()
        self.notifier = Webhooks()
        self.break_glass: Counter[str] = Counter()
        self.archive = MemoryArchive()
        self.ready = True
        self.workers: Mapping[str, int] = {"configured": 1, "serving": 1, "replaced": 0}
        self.folder = self._written(folder, metrics, tls, port, ssh)
        self.started = self.folder.gateway
        self.policy = compile_policy(self.folder)
        self.authenticator = Authenticator(self.folder)
        self.over_rate: set[str] = set()
        self._listener = ConsoleListener(make_app(self, self.archive, limits), "127.0.0.1", 0, None, limits or ConsoleLimits())

    def now(self) -> float:
        return self.room.clock()

    def may_start(self, identity: str) -> bool:
        return identity not in self.over_rate

    @property
    def audit_available(self) -> bool:
        return self.audit.available

    @property
    def not_ready(self) -> str:
        if not self.ready:
            return "the gateway is starting or stopping"
        return "" if self.audit_available else "the audit log cannot be written"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.port}"

    @property
    def port(self) -> int:
        return self._listener.port

    @property
    def connections(self) -> int:
        """How many the listener counts as open."""
        return len(self._listener.connections)

    def person(self, name: str, *groups: str, **more: Any) -> str:
        """A token of a person."""
        return self.staff.person(name, list(groups), now=self.now(), **more)

    def robot(self) -> str:
        """A token of ci-bot."""
        return self.ci.mint("project:payments/api", now=self.now())

    async def __aenter__(self) -> ConsoleRoom:
        await self._listener.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._listener.close()
        await self.approvals.close()
        self.authenticator.close()

    def _written(self, folder: Path, metrics: str, tls: Pair | None, port: int, ssh: bool) -> Folder:
        config = folder / "config"
        (config / "policy").mkdir(parents=True)
        (config / "trust").mkdir()
        (config / "tls").mkdir()
        _write_key(config / "tls" / "audit_ed25519_key")
        (folder / "state").mkdir()
        shown = f', tls: {{certificate: "{tls.certificate}", key: "{tls.key}"}}' if tls is not None else ""
        (config / "gateway.yaml").write_text(_GATEWAY.replace("PORT", str(port)).replace("TLS", shown).replace("METRICS", metrics))
        (config / "policy" / "all.yaml").write_text(_POLICY)
        if ssh:
            self._written_ssh(config)
        (config / "trust" / "ci.json").write_text(self.ci.jwks_json())
        (config / "trust" / "staff.json").write_text(self.staff.jwks_json())
        return load_folder(config, check_modes=False)

    @staticmethod
    def _written_ssh(config: Path) -> None:
        for name in ("host_key", "user_ca"):
            _write_key(config / "tls" / name)
        known = "".join(f"[127.0.0.1]:{port} {_write_key(config / 'trust' / 'a_host_key')}\n" for port in (2222, 2223, 2224))
        (config / "trust" / "known_hosts").write_text(known)
        (config / "credentials").mkdir()
        _write_key(config / "credentials" / "web.key")
        (config / "credentials" / "web.yaml").write_text("{kind: ssh-ca, private_key: credentials/web.key}\n")
        (config / "credentials" / "orders-db.yaml").write_text('{kind: password, username: app, password: "0123456789abcdef"}\n')
        (config / "policy" / "ssh.yaml").write_text(_SSH)
        main = config / "gateway.yaml"
        main.write_text(main.read_text().replace("listeners:\n", "listeners:\n  ssh: {address: \"127.0.0.1:12222\", "
                                                 "host_keys: [tls/host_key], user_ca: tls/user_ca}\n"))


def _write_key(path: Path) -> str:
    """A fresh key; its public half as OpenSSH writes it."""
    key = Ed25519PrivateKey.generate()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
