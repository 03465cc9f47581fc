# SPDX-License-Identifier: Apache-2.0
"""A configuration folder with the least there can be, and a log of one run under its state."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
from cryptography.hazmat.primitives import serialization as form

from tests.unit.audit.log_folder import BASE, KEY, begin, end, open_log

YAML = """
name: plant-a-1
segment: plant-a
state: ../state
listeners:
  console: {address: "127.0.0.1:1"}
"""
SAMPLE = orjson.dumps({"columns": ["id", "email"], "rows": [["1", "d***@example.org"]], "truncated": False})


def make(root: Path) -> Path:
    """The configuration folder; ``root/state`` has sessions s-0001 (ended, one command denied) and s-0002 (of reporting)."""
    etc = root / "etc"
    (etc / "tls").mkdir(parents=True)
    (etc / "gateway.yaml").write_text(YAML)
    private = KEY.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption())
    (etc / "tls" / "audit_ed25519_key").write_bytes(private)
    (root / "key.pub").write_bytes(KEY.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH))
    asyncio.run(fill(root / "state"))
    return etc


async def fill(state: Path) -> None:
    log = open_log(state)
    first, second = {**BASE, "session": "s-0001"}, {**BASE, "session": "s-0002", "identity": "reporting"}
    await log.record("session.start", first)
    seq = await log.record("command.begin", {**begin("SELECT email\nFROM customers -- \x1b[2J"), **first})
    await log.record("command.end", {**end(seq, masked=1), **first}, SAMPLE)
    denied = {"effect": "deny", "rules": ["ci/never"], "reason": "denied by ci/never"}
    seq = await log.record("command.begin", {**begin("DROP DATABASE orders"), **first, "verb": "drop-database", "decision": denied})
    await log.record("command.end", {**end(seq, "refused", error="42501"), **first})
    await log.record("session.end", {**first, "reason": "client closed"})
    await log.record("session.start", second)
    await log.record("session.end", {**second, "reason": "idle"})
    await log.close()
