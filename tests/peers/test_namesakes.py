# SPDX-License-Identifier: Apache-2.0
"""A statement that waits for a lock runs on what its names mean afterwards: one that masks or rules tell apart needs its schema."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
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


DRAFTS = """    rules:
      - name: drafts
        allow: {sql: {verbs: [delete, truncate, lock, begin, commit], relations: ["drafts.*"]}}
"""


def with_drafts(appliance: Appliance) -> None:
    """May delete drafts, and nothing else."""
    appliance.rewrite("policy/grants/ci-bot.yaml", {"    rules:\n": DRAFTS})


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


@pytest.fixture(scope="module")
def drafts(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Iterator[Appliance]:
    postgres.execute("create schema drafts; create table drafts.papers as select generate_series(1, 9) as id; "
                     "create table public.papers (id int); grant usage on schema drafts to public; "
                     "grant all on drafts.papers, public.papers to public", "orders")
    with running(tmp_path_factory.mktemp("drafts"), postgres, change=with_drafts) as appliance:
        yield appliance
    postgres.execute("drop schema drafts cascade; drop table public.papers", "orders")


def test_the_target_looks_names_up_again_after_it_waited(postgres: PostgresServer) -> None:
    """Why: what is refused below deletes the other table on a bare server."""
    postgres.create_role("librarian", "of-the-bare-server")
    postgres.execute("create schema drafts authorization librarian; create table drafts.papers (id int); "
                     "create table public.papers as select 7 as id; "
                     "alter table drafts.papers owner to librarian; alter table public.papers owner to librarian", "orders")
    try:
        address = f"host=127.0.0.1 port={postgres.port} user=librarian password=of-the-bare-server dbname=orders"
        with psycopg.connect(address) as owner, psycopg.connect(address, autocommit=True) as waiting:
            waiting.execute("set search_path = drafts, public")
            owner.execute("alter table drafts.papers rename to former")
            thread = threading.Thread(target=waiting.execute, args=("delete from papers",))
            thread.start()
            deadline = time.monotonic() + 60
            while postgres.execute("select 1 from pg_locks where not granted", "orders")[-1].rows == []:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            owner.commit()
            thread.join()
        assert postgres.execute("select id from public.papers", "orders")[-1].rows == []
    finally:
        postgres.execute("drop schema drafts cascade; drop table public.papers; drop role librarian", "orders")


@pytest.mark.parametrize("text", ["delete from papers", "with gone as (delete from papers returning 1) select 1", "truncate papers",
                                  "prepare p as delete from papers", "explain delete from papers"])
def test_a_name_that_a_rename_could_turn_into_one_of_other_rules_is_refused(drafts: Appliance, text: str) -> None:
    with connect_psycopg(drafts, autocommit=True) as connection:
        connection.execute("set search_path = drafts, public")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="several papers are on the search path, and their rules differ"):
            connection.execute(text)


def test_with_its_schema_or_without_a_namesake_it_passes(drafts: Appliance) -> None:
    with connect_psycopg(drafts, autocommit=True) as connection:
        connection.execute("set search_path = drafts, public")
        assert connection.execute("delete from drafts.papers where id = 1").rowcount == 1
        connection.execute("set search_path = drafts")
        assert connection.execute("delete from papers where id = 2").rowcount == 1
