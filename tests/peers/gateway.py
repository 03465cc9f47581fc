# SPDX-License-Identifier: Apache-2.0
"""A real gateway process in front of a real PostgreSQL, made as an operator would make it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from gateway.build import Gateway
from gateway.config.load import load_folder
from gateway.testing.appliance import Appliance, ApplianceFailed
from gateway.testing.postgres import PostgresServer

__all__ = ["Appliance", "ApplianceFailed", "Gateway", "inside", "running"]


@contextmanager
def running(
    root: Path, server: PostgresServer, role: str | None = None, options: str = "superuser",
    change: Callable[[Appliance], None] | None = None,
) -> Iterator[Appliance]:
    """A gateway that serves ``server`` until the block ends; ``change`` may edit its folder before the start.

    The role is new and a superuser unless ``options`` says otherwise: what stops an abuse is the gateway alone. When the block ends it
    must exit 0 on SIGTERM, its log must verify, and no secret may be anywhere in its state, log or exported records.
    """
    appliance = _prepared(root, server, role, options, change)
    with appliance:
        yield appliance
    appliance.run("audit", "verify")
    assert appliance.leaked() == []


@asynccontextmanager
async def inside(
    root: Path, server: PostgresServer, role: str | None = None, options: str = "superuser",
    change: Callable[[Appliance], None] | None = None,
) -> AsyncIterator[tuple[Gateway, Appliance]]:
    """The same gateway in this process and event loop: for tests that look at, or break, its parts. Clients have to be asynchronous."""
    appliance = _prepared(root, server, role, options, change)
    gateway = Gateway(load_folder(appliance.folder))
    await gateway.start()
    try:
        yield gateway, appliance
    finally:
        await gateway.stop()


def _prepared(root: Path, server: PostgresServer, role: str | None, options: str, change: Callable[[Appliance], None] | None) -> Appliance:
    appliance = Appliance(root)
    role = role or f"gateway_{secrets.token_hex(4)}"
    appliance.prepare(server.address, role)
    server.create_role(role, appliance.password, options)
    if change is not None:
        change(appliance)
    return appliance
