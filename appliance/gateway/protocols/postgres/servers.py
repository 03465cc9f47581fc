# SPDX-License-Identifier: Apache-2.0
"""Which of a resource's servers a session goes to: the order they are tried in, their addresses, and whether one is what is wanted.

As libpq decides it (manual "Connection Strings", ``target_session_attrs``): by what the server reports of itself after the login,
and by asking where it reports nothing (before PostgreSQL 14). Nothing of it is the caller's to change: see ``Towards``.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import socket
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Literal

from gateway.protocols.postgres.login import Unreachable
from gateway.protocols.postgres.settings import Attributes
from gateway.protocols.postgres.target import Address, TargetConnection

MOST = 32
"""Addresses of one name that are tried."""
_ON = {"on": True, "off": False}
_PASSES: dict[Attributes, tuple[Attributes, ...]] = {"prefer-standby": ("standby", "any")}


def passes(wanted: Attributes) -> tuple[Attributes, ...]:
    """What is looked for, one round over all servers after the other."""
    return _PASSES.get(wanted, (wanted,))


def in_turn(addresses: Sequence[Address], how: Literal["order", "random"]) -> list[Address]:
    """The order in which they are tried."""
    return list(addresses) if how == "order" else random.sample(addresses, len(addresses))


async def looked_up(address: Address, timeout: float) -> list[Address]:
    """Every server that the host's name stands for, as the system's resolver orders them. Raises ``Unreachable``."""
    if address.port == 0 or _is_literal(address.host):
        return [address]
    try:
        async with asyncio.timeout(timeout):
            found = await asyncio.get_running_loop().getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except TimeoutError:
        raise Unreachable("the target's name was not looked up in time", "08006") from None
    except (OSError, UnicodeError):
        raise Unreachable("the target's name does not resolve", "08006") from None
    numbers = dict.fromkeys(str(one[4][0]) for one in found)
    if not numbers:
        raise Unreachable("the target's name has no address", "08006")
    return [replace(address, ip=number) for number in list(numbers)[:MOST]]


@lru_cache(maxsize=256)
def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def is_wanted(connection: TargetConnection, wanted: Attributes, timeout: float) -> bool:
    """Whether a server that we have just logged in to is what ``target_session_attrs`` asks for. Raises ``TargetFault``."""
    match wanted:
        case "read-write":
            return not await _read_only(connection, timeout)
        case "read-only":
            return await _read_only(connection, timeout)
        case "primary":
            return not await _standby(connection, timeout)
        case "standby":
            return await _standby(connection, timeout)
        case _:
            return True


async def _standby(connection: TargetConnection, timeout: float) -> bool:
    reported = _ON.get(connection.parameters.get("in_hot_standby", ""))
    if reported is not None:
        return reported
    return await connection.query("select pg_catalog.pg_is_in_recovery()", timeout=timeout) == [("t",)]


async def _read_only(connection: TargetConnection, timeout: float) -> bool:
    reported = [_ON.get(connection.parameters.get(name, "")) for name in ("default_transaction_read_only", "in_hot_standby")]
    if None not in reported:
        return any(reported)
    return await connection.query("show transaction_read_only", timeout=timeout) == [("on",)]
