# SPDX-License-Identifier: Apache-2.0
"""Analysis against real servers: the same names, types and tables of origin as the target's RowDescription says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import pq

from gateway.protocols.postgres.catalog import Catalog
from gateway.protocols.postgres.catalog.load import load_builtin, load_catalog
from gateway.protocols.postgres.catalog.snapshot import catalog_connection
from gateway.protocols.postgres.sql.analyze import analyze
from gateway.protocols.postgres.statement import Context, Output
from tests.peers.postgres import SUPERUSER, PostgresServer

QUERIES = Path(__file__).parent / "queries"
DATABASE = "analysis"
PATH = ("pg_catalog", "app", "public")


@dataclass(frozen=True, slots=True)
class Described:
    """One field of RowDescription."""

    name: str
    type_oid: int
    table_oid: int
    attribute: int


@dataclass(slots=True)
class Target:
    """A connection and the catalog of its database."""

    connection: psycopg.Connection[tuple[object, ...]]
    catalog: Catalog

    def describe(self, text: str) -> list[Described]:
        """What the target says of a statement's result. Raises ``AssertionError`` where it refuses the statement."""
        prepared = self.connection.pgconn.prepare(b"", text.encode())
        assert prepared.status == pq.ExecStatus.COMMAND_OK, prepared.error_message
        found = self.connection.pgconn.describe_prepared(b"")
        return [
            Described((found.fname(i) or b"").decode(), found.ftype(i), found.ftable(i), found.ftablecol(i)) for i in range(found.nfields)
        ]


async def _catalog(server: PostgresServer) -> Catalog:
    with catalog_connection(server, DATABASE) as fetch:
        return await load_catalog(fetch, await load_builtin(fetch), DATABASE)


def _target(server: PostgresServer) -> Iterator[Target]:
    server.execute(f'drop database if exists "{DATABASE}" with (force)')
    server.create_database(DATABASE)
    server.execute((QUERIES / "schema.sql").read_text(), DATABASE)
    catalog = asyncio.run(_catalog(server))
    with psycopg.connect(
        host="127.0.0.1", port=server.port, user=SUPERUSER, password=server.password, dbname=DATABASE, autocommit=True
    ) as connection:
        connection.execute("set search_path = app, public")
        yield Target(connection, catalog)


@pytest.fixture(scope="module")
def target(postgres: PostgresServer) -> Iterator[Target]:
    yield from _target(postgres)


@pytest.fixture(scope="module")
def newest_target(newest_postgres: PostgresServer) -> Iterator[Target]:
    yield from _target(newest_postgres)


def queries(name: str) -> list[str]:
    """One query a line; the first line is the licence."""
    return (QUERIES / name).read_text().splitlines()[1:]


def compare(target: Target, text: str) -> None:
    described = target.describe(text)
    (statement,) = analyze(text, Context(PATH, user=SUPERUSER), target.catalog)
    outputs = statement.columns or ()
    assert [output.name for output in outputs] == [field.name for field in described]
    for output, field in zip(outputs, described, strict=True):
        assert output.type_oid in (0, field.type_oid), output.name
        _compare_origin(target.catalog, output, field)


def _compare_origin(catalog: Catalog, output: Output, field: Described) -> None:
    """Every column that the target names is among the origins; what is called plain has one."""
    if not field.table_oid or field.attribute <= 0:
        assert not output.flow.plain, output.name
        return
    relation = catalog.relation_by_oid(field.table_oid)
    assert relation is not None
    column = next(column for column in relation.columns if column.number == field.attribute)
    assert (relation.schema, relation.name, column.name) in output.flow.origins


@pytest.mark.parametrize("text", queries("every.sql"))
def test_every_server_agrees(target: Target, text: str) -> None:
    compare(target, text)


@pytest.mark.parametrize("text", [text for text in queries("every.sql") if not text.startswith("select xmlelement")])
def test_the_newest_server_agrees(newest_target: Target, text: str) -> None:
    compare(newest_target, text)


@pytest.mark.parametrize("text", queries("newer.sql"))
def test_newer_constructs(newest_target: Target, text: str) -> None:
    if newest_target.catalog.server_version >= 180000:
        compare(newest_target, text)
