# SPDX-License-Identifier: Apache-2.0
"""A real gateway process in front of a real PostgreSQL, made as an operator would make it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.testing.appliance import Appliance, ApplianceFailed
from gateway.testing.postgres import PostgresServer

__all__ = ["Appliance", "ApplianceFailed", "running"]


@contextmanager
def running(
    root: Path, server: PostgresServer, role: str = "orders_app", options: str = "superuser",
    change: Callable[[Appliance], None] | None = None,
) -> Iterator[Appliance]:
    """A gateway that serves ``server`` until the block ends; ``change`` may edit its folder before the start.

    The role is a superuser unless ``options`` says otherwise: what stops an abuse is the gateway alone. When the block ends the gateway
    must exit 0 on SIGTERM, its log must verify, and no secret may be anywhere in its state, log or exported records.
    """
    appliance = Appliance(root)
    appliance.prepare(server.address, role)
    server.execute(f'drop role if exists "{role}"')
    server.create_role(role, appliance.password, options)
    if change is not None:
        change(appliance)
    with appliance:
        yield appliance
    appliance.run("audit", "verify")
    assert appliance.leaked() == []
