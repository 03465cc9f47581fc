# SPDX-License-Identifier: Apache-2.0
"""A statement that waits for a lock runs on what its names mean afterwards: one that could then be masked needs its schema."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from gateway.testing.postgres import PostgresServer
from tests.peers.clients import connect_psycopg
from tests.peers.gateway import Appliance, running

MAKE = """
create schema alt; create table alt.customers (id int, ssn text, notes text);
insert into alt.customers values (1, 'an open value', 'n');
"""


def with_alt(appliance: Appliance) -> None:
    appliance.rewrite("policy/grants/ci-bot.yaml", {'delete], relations: ["public.*"]': 'delete], relations: ["public.*", "alt.*"]'})


def test_a_name_that_a_drop_could_turn_into_a_masked_one_is_refused(tmp_path: Path, postgres: PostgresServer) -> None:
    postgres.execute(MAKE, "orders")
    try:
        with running(tmp_path, postgres, change=with_alt) as appliance, connect_psycopg(appliance, autocommit=True) as connection:
            connection.execute("set search_path = alt, public")
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="name it with its schema"):
                connection.execute("select upper(ssn) from customers")
            assert connection.execute("select upper(ssn) from alt.customers").fetchone() == ("AN OPEN VALUE",)
            assert connection.execute("select upper(ssn) from public.customers limit 1").fetchone() == ("****",)
            connection.execute("set search_path = alt")
            assert connection.execute("select upper(ssn) from customers").fetchone() == ("AN OPEN VALUE",)
    finally:
        postgres.execute("drop schema alt cascade", "orders")
