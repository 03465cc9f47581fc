# SPDX-License-Identifier: Apache-2.0
"""What the tests of the log share: a key, settings that seal quickly, sessions to record, and a verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.audit.checkpoint import Checkpoint
from gateway.audit.log import AuditLog
from gateway.audit.note import raw_public
from gateway.audit.reader import LogReader, export
from gateway.audit.verify import Report, Trust, verify_folder
from gateway.config.schema import AuditConfig

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = raw_public(KEY.public_key())
ORIGIN = "plant-a-1"
BASE: dict[str, Any] = {
    "session": "s-1", "identity": "ci-bot", "issuer": "gitlab", "owner": "dana", "groups": ["ci"], "resource": "orders-db",
    "protocol": "postgres", "source": "192.0.2.7:50001", "policy": "sha256:" + "0" * 64,
}


def settings(**changes: Any) -> AuditConfig:
    """Small and quick: a checkpoint at every turn, a reserve of 64 KiB."""
    return AuditConfig.model_validate({"checkpoint": {"every": "10ms"}, "reserve": "64KiB", **changes})


def open_log(state: Path, config: AuditConfig | None = None, **options: Any) -> AuditLog:
    return AuditLog.open(state, ORIGIN, "plant-a", config or settings(), KEY, **options)


def begin(text: str = "SELECT 1", **fields: Any) -> dict[str, Any]:
    return {**BASE, "verb": "select", "objects": ["public.orders"], "text": text, "text_secret": text, "parameters": [],
            "decision": {"effect": "allow", "rules": ["grant/rule"], "reason": ""}, **fields}


def end(seq: int, status: str = "ok", **fields: Any) -> dict[str, Any]:
    return {**BASE, "begin": seq, "status": status, "rows": 1, "bytes": 10, "masked": 0, "error": "", **fields}


async def commands(log: AuditLog, count: int, recording: bytes | None = None) -> list[int]:
    """So many whole commands; gives the seq of their begins."""
    begins = []
    for number in range(count):
        seq = await log.record("command.begin", begin(f"SELECT {number}"))
        await log.record("command.end", end(seq, "refused"), recording)
        begins.append(seq)
    return begins


async def filled(state: Path, count: int = 30, recording: bytes | None = b'{"columns":["n"],"rows":[["1"]]}', runs: int = 2) -> None:
    """A log of several runs of the gateway, closed."""
    for _ in range(runs):
        log = open_log(state)
        await log.record("session.start", dict(BASE))
        await commands(log, count, recording)
        await log.record("session.end", {**BASE, "reason": "client closed"})
        await log.close()


def lines(state: Path) -> list[bytes]:
    return list(export(LogReader(state / "audit"), {}))


def records(state: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in lines(state)]


def verify(state: Path, *anchors: Checkpoint) -> Report:
    return verify_folder(state / "audit", Trust((PUBLIC,), anchors))
