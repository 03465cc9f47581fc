# SPDX-License-Identifier: Apache-2.0
"""A whole session without a socket: the real ``Relay``, policy and desk between a caller made of messages and a scripted target."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, cast

from gateway.approvals.desk import ApprovalsDesk
from gateway.config.load import Folder
from gateway.config.schema import Limits
from gateway.errors import ClientFault, TargetFault
from gateway.model import Identity, Session
from gateway.net.stream import ByteStream
from gateway.policy.policy import Policy, compile_policy
from gateway.protocols.postgres import messages
from gateway.protocols.postgres.beside import beside
from gateway.protocols.postgres.catalog.model import Catalog
from gateway.protocols.postgres.catalog.offline import from_json
from gateway.protocols.postgres.codec import FrameReader
from gateway.protocols.postgres.session import Relay
from gateway.protocols.postgres.target import Address, TargetConnection
from gateway.protocols.postgres.targets import SharedTarget
from gateway.testing import FrozenClock, MemoryAudit
from gateway.testing.scripted import ScriptedTarget
from tests.unit.identity.folder import make_folder, new_issuers

Frame = tuple[str, bytes]
Rules = list[dict[str, Any]]

EVERYTHING: Rules = [
    {"name": "data", "allow": {"sql": {
        "verbs": ["select", "insert", "update", "delete"], "relations": ["public.orders", "public.customers"]}}},
    {"name": "catalog", "allow": {"sql": {"verbs": ["select"], "relations": ["pg_catalog.*"]}}},
    {"name": "session", "allow": {"sql": {"verbs": [
        "begin", "commit", "rollback", "savepoint", "set", "reset", "show", "explain", "prepare", "execute", "deallocate", "declare",
        "fetch", "close", "discard", "copy-to", "copy-from", "listen", "unlisten", "notify"]}}},
    {"name": "ask", "approve": {"sql": {"verbs": ["update", "delete"], "where": "missing"}}, "by": "one-dba"},
    {"name": "never", "deny": {"sql": {"verbs": ["create", "drop", "truncate", "alter"]}}},
]
MASKS = {"name": "hidden", "columns": {"public.customers.ssn": "redact", "public.customers.card": {"keep_last": 4}}}
DENIED = "drop table orders"
BOT = Identity("ci-bot", "ci", "project:payments/api:ref:main", frozenset({"robots"}), owner="dana", session_until=4e9, expires=4e9)
INES = Identity("ines", "staff", "user:ines", frozenset({"dba"}), person=True)


def demo_catalog() -> Catalog:
    """The demo's tables: customers, orders, customer_v, get_ssn."""
    return from_json(json.loads((resources.files("gateway.config") / "demo" / "orders-db.schema.json").read_text()))


def table(name: str) -> int:
    """The oid of one of them."""
    found = demo_catalog().relation(name, "public")
    assert found is not None
    return found.oid


def grant(rules: Rules | None = None, *, masks: bool = False, name: str = "ci works", **more: Any) -> dict[str, Any]:
    found = {"name": name, "to": ["ci-bot"], "targets": ["orders-db"], "rules": EVERYTHING if rules is None else rules, **more}
    return found | ({"masks": ["hidden"]} if masks else {})


class MemoryTransport(asyncio.Transport):
    """Keeps what is written; closing tells the protocol as a real one would."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.written = bytearray()
        self.paused = False
        self._protocol = protocol
        self._closing = False

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if not self._closing:
            self.written += data

    def take(self) -> bytes:
        data = bytes(self.written)
        self.written.clear()
        return data

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    abort = close

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


async def _nowhere() -> TargetConnection:
    raise TargetFault("there is no target", "08006")


class FixedTarget(SharedTarget):
    """A catalog that never changes, without a connection."""

    def __init__(self, catalog: Catalog) -> None:
        super().__init__(_nowhere, "orders", math.inf)
        self._catalog = catalog

    async def catalog(self, *, fresh: bool = False) -> Catalog:
        assert self._catalog is not None
        return self._catalog


@dataclass
class Room:
    """What ``build.Gateway`` is to a session: policy, audit, approvals, clock."""

    folder: Folder
    audit: MemoryAudit
    clock: FrozenClock = field(default_factory=FrozenClock)
    allowed: bool = True

    def __post_init__(self) -> None:
        self.policy: Policy = compile_policy(self.folder)
        self.approvals = ApprovalsDesk(self.audit, self.clock, lambda: self.policy, gateway="plant-a-1")

    def now(self) -> float:
        return self.clock()

    def may_start(self, identity: str) -> bool:
        return self.allowed


def make_room(root: Path, *grants: Mapping[str, Any], audit: MemoryAudit | None = None) -> Room:
    policy = {"grants": list(grants) or [grant()], "masks": [MASKS],
              "approvals": [{"name": "one-dba", "all_of": [{"group": "dba", "count": 1}], "expires": "15m"}]}
    issuers = new_issuers()
    folder = make_folder(root, policy, {name: issuer.jwks() for name, issuer in issuers.items()})
    return Room(folder, audit or MemoryAudit())


@dataclass
class Talk:
    """One session. ``say()`` sends a caller's messages and gives what came back once nothing moves any more."""

    room: Room
    relay: Relay
    target: ScriptedTarget
    client: ByteStream
    near: MemoryTransport
    far: MemoryTransport
    pump: bool = True
    cut: Callable[[bytes], list[bytes]] = lambda data: [data]        # the segments in which the target's answers come
    sent: list[Frame] = field(default_factory=list)
    to_target: bytearray = field(default_factory=bytearray)
    _reader: FrameReader = field(default_factory=lambda: FrameReader(1 << 28))

    async def say(self, *parts: messages.Message | bytes) -> list[Frame]:
        self.client.data_received(b"".join(part if isinstance(part, bytes) else part.encode() for part in parts))
        return await self.quiet()

    async def query(self, text: str) -> list[Frame]:
        return await self.say(messages.Query(text))

    async def run(self, *parts: messages.Message) -> list[Frame]:
        return await self.say(*parts, messages.Sync())

    async def quiet(self) -> list[Frame]:
        """Let both loops run until nothing more is written; gives what the caller received meanwhile."""
        still = 0
        while still < 40:
            still = 0 if self._move() else still + 1
            await (beside(int) if still % 10 == 5 else asyncio.sleep(0))     # behind whatever the thread for long texts is at
        self._reader.feed(self.near.take())
        found = [(chr(kind), bytes(payload)) for kind, payload in self._reader]
        self.sent += found
        return found

    def _move(self) -> bool:
        data = self.far.take()
        self.to_target += data
        if data and self.pump:
            for answer in self.cut(self.target.feed(data)):
                if answer:
                    self.relay.target.stream.data_received(answer)
        return bool(data)

    def target_says(self, *parts: messages.Message | bytes) -> None:
        self.relay.target.stream.data_received(b"".join(part if isinstance(part, bytes) else part.encode() for part in parts))

    @property
    def audit(self) -> MemoryAudit:
        return self.room.audit

    def begun(self) -> list[tuple[str, str]]:
        """(text, effect) of every ``command.begin``."""
        return [(fields["text"], fields["decision"]["effect"]) for fields in self.audit.of("command.begin")]

    def ended(self) -> list[str]:
        """The status of every ``command.end``."""
        return [fields["status"] for fields in self.audit.of("command.end")]


@asynccontextmanager
async def talking(room: Room, target: ScriptedTarget | None = None, *, wait: bool = True,
                  limits: Limits | None = None) -> AsyncIterator[Talk]:
    """A session under way. Afterwards every command that began has ended, and the session's end has a reason."""
    client, stream = ByteStream(ClientFault), ByteStream(TargetFault)
    near, far = MemoryTransport(client), MemoryTransport(stream)
    client.connection_made(near)
    stream.connection_made(far)
    session = Session("ses_1", BOT, "orders-db", "postgres", "127.0.0.1", room.now(), "ci-bot", "orders")
    connection = TargetConnection(stream, Address("127.0.0.1", 1), None)
    relay = Relay(session, room, client, connection, FixedTarget(demo_catalog()), ("s3cret-of-the-gateway",), wait, limits or Limits())
    talk = Talk(room, relay, target or ScriptedTarget(), client, near, far)
    running = asyncio.create_task(_recorded(relay))
    try:
        yield talk
    finally:
        if not running.done():
            client.data_received(messages.Terminate().encode())
            talk.pump = True
        await asyncio.wait_for(_until(running, talk), 20)
        await running


async def _recorded(relay: Relay) -> None:
    reason = await relay.run()
    await asyncio.gather(relay.record_end(reason), return_exceptions=True)


async def _until(running: asyncio.Task[None], talk: Talk) -> None:
    while not running.done():
        talk._move()
        await asyncio.sleep(0.001)


def errors(frames: list[Frame]) -> list[str]:
    """The SQLSTATE of every ErrorResponse."""
    return [messages.parse_error(payload).code for kind, payload in frames if kind == "E"]


def error(frames: list[Frame]) -> dict[str, str]:
    """The fields of the only ErrorResponse."""
    found = [dict(messages.parse_error(payload).fields) for kind, payload in frames if kind == "E"]
    assert len(found) == 1, found
    return found[0]


def kinds(frames: list[Frame]) -> str:
    return "".join(kind for kind, _ in frames)


def status(frames: list[Frame]) -> str:
    """The transaction status of the last ReadyForQuery."""
    return [payload.decode() for kind, payload in frames if kind == "Z"][-1]


def values(frames: list[Frame]) -> list[tuple[str | None, ...]]:
    """The text of every DataRow."""
    found = [cast(messages.DataRow, messages.parse_backend(ord("D"), payload)).values for kind, payload in frames if kind == "D"]
    return [tuple(None if value is None else value.decode() for value in row) for row in found]
