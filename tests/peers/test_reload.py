# SPDX-License-Identifier: Apache-2.0
"""A reload that cannot be followed or recorded changes nothing, and never ends the gateway."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.errors import AuditUnavailable
from tests.peers.gateway import inside
from tests.peers.postgres import PostgresServer


async def test_a_webhook_that_cannot_be_used_leaves_everything_as_it_was(tmp_path: Path, postgres: PostgresServer) -> None:
    async with inside(tmp_path, postgres) as (gateway, appliance):
        before = (gateway.folder, gateway.policy, gateway.authenticator, gateway.notifier)
        authority = appliance.folder / "trust" / "hook-ca.pem"
        authority.write_text("this is no certificate\n")
        settings = appliance.folder / "gateway.yaml"
        settings.write_text(settings.read_text() + '\nnotify: {webhook: {url: "https://127.0.0.1:1/hook", ca: trust/hook-ca.pem}}\n')
        assert await gateway.reload()
        assert (gateway.folder, gateway.policy, gateway.authenticator, gateway.notifier) == before
    told = appliance.lines("audit", "export", "--json")
    assert [line["kind"] for line in told if line["kind"].startswith("policy.")] == ["policy.loaded", "policy.rejected"]


async def test_a_reload_that_cannot_be_recorded_is_refused(
    tmp_path: Path, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(kind: str, fields: object, recording: bytes | None = None) -> asyncio.Future[int]:
        failed: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        failed.set_exception(AuditUnavailable("the disk is full"))
        return failed

    async with inside(tmp_path, postgres) as (gateway, _):
        before = (gateway.folder, gateway.policy, gateway.authenticator, gateway.notifier)
        with monkeypatch.context() as patched:
            patched.setattr(gateway.audit, "record", fails)
            assert await gateway.reload() == "the disk is full"
        assert (gateway.folder, gateway.policy, gateway.authenticator, gateway.notifier) == before
        assert await gateway.reload() is None


async def test_what_only_a_restart_puts_in_force_is_named(
    tmp_path: Path, postgres: PostgresServer, caplog: pytest.LogCaptureFixture,
) -> None:
    async with inside(tmp_path, postgres) as (gateway, appliance):
        assert await gateway.reload() is None
        assert "until a restart" not in caplog.text
        appliance.rewrite("gateway.yaml", {"segment:": "workers: 2\nsegment:", "identity: 100000/s": "identity: 5/s"})
        assert await gateway.reload() is None
        assert "gateway.yaml: workers, limits.operations_per_identity: changed, and not in force until a restart" in caplog.text
