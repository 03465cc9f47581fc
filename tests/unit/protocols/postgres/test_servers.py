# SPDX-License-Identifier: Apache-2.0
"""Which server is what is wanted: by what it reports, or by asking where it reports nothing (libpq's own rules)."""

from __future__ import annotations

import pytest

from gateway.errors import TargetFault
from gateway.protocols.postgres import servers
from gateway.protocols.postgres.login import Unreachable
from gateway.protocols.postgres.settings import Attributes
from gateway.protocols.postgres.target import Address, TargetConnection
from gateway.testing.memory import joined

RECOVERS = "select pg_catalog.pg_is_in_recovery()"
PRIMARY = {"in_hot_standby": "off", "default_transaction_read_only": "off"}
STANDBY = {"in_hot_standby": "on", "default_transaction_read_only": "off"}
READS_ONLY = {"in_hot_standby": "off", "default_transaction_read_only": "on"}
WANTED: tuple[Attributes, ...] = ("any", "read-write", "read-only", "primary", "standby", "prefer-standby")


class Asked(TargetConnection):
    """Answers the gateway's own queries from a table."""

    answers: dict[str, str]

    async def query(self, sql: str, **limits: object) -> list[tuple[str | None, ...]]:
        return [(self.answers[sql],)]


def connection(parameters: dict[str, str], answers: dict[str, str] | None = None) -> Asked:
    found = Asked(joined()[0], Address("db"), None, dict(parameters))
    found.answers = answers or {}
    return found


@pytest.mark.parametrize(("reported", "fits"), [
    (PRIMARY, {"any", "read-write", "primary", "prefer-standby"}),
    (STANDBY, {"any", "read-only", "standby", "prefer-standby"}),
    (READS_ONLY, {"any", "read-only", "primary", "prefer-standby"}),
])
async def test_what_is_reported(reported: dict[str, str], fits: set[str]) -> None:
    assert {wanted for wanted in WANTED if await servers.is_wanted(connection(reported), wanted, 1)} == fits


@pytest.mark.parametrize(("answers", "fits"), [
    ({RECOVERS: "f", "show transaction_read_only": "off"}, {"any", "read-write", "primary", "prefer-standby"}),
    ({RECOVERS: "t", "show transaction_read_only": "on"}, {"any", "read-only", "standby", "prefer-standby"}),
])
@pytest.mark.parametrize("reported", [{}, {"in_hot_standby": "perhaps"}])
async def test_what_is_asked(reported: dict[str, str], answers: dict[str, str], fits: set[str]) -> None:
    """Before PostgreSQL 14 neither is reported; what is neither on nor off is not believed."""
    assert {wanted for wanted in WANTED if await servers.is_wanted(connection(reported, answers), wanted, 1)} == fits


def test_a_standby_is_preferred_before_anything_is_taken() -> None:
    assert servers.passes("prefer-standby") == ("standby", "any")
    assert [servers.passes(wanted) for wanted in ("any", "primary")] == [("any",), ("primary",)]


def test_orders() -> None:
    places = [Address(f"db{number}") for number in range(8)]
    assert servers.in_turn(places, "order") == places
    found = {tuple(servers.in_turn(places, "random")) for _ in range(20)}
    assert len(found) > 1 and all(sorted(one, key=str) == sorted(places, key=str) for one in found)


async def test_names_and_addresses() -> None:
    assert await servers.looked_up(Address("192.0.2.1", 5432), 5) == [Address("192.0.2.1", 5432)]
    assert await servers.looked_up(Address("/run/postgresql/.s.PGSQL.5432", 0), 5) == [Address("/run/postgresql/.s.PGSQL.5432", 0)]
    found = await servers.looked_up(Address("localhost", 5432, direct=True), 5)
    assert {address.ip for address in found} <= {"127.0.0.1", "::1"} and found[0].host == "localhost" and found[0].direct
    for name in ("nowhere.invalid", "a" * 64 + ".invalid"):
        with pytest.raises(Unreachable):
            await servers.looked_up(Address(name, 5432), 5)
    assert issubclass(Unreachable, TargetFault)
