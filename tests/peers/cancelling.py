# SPDX-License-Identifier: Apache-2.0
"""A cancel towards a target, tried on a query that would go on."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import TargetFault
from gateway.protocols.postgres.target import TargetConnection


async def cancel_ends_a_query(connection: TargetConnection) -> None:
    """The query under way ends with 57014, and not by itself."""
    waiting = asyncio.create_task(connection.query("select pg_sleep(60)"))
    await asyncio.sleep(0.2)
    await connection.cancel()
    with pytest.raises(TargetFault) as caught:
        await waiting
    assert caught.value.code == "57014"
