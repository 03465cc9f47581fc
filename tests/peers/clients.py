# SPDX-License-Identifier: Apache-2.0
"""Unchanged clients, pointed at a gateway or straight at the server by their own environment variables."""

from __future__ import annotations

import os
import ssl
import subprocess
from collections.abc import Mapping
from pathlib import Path

import asyncpg
import psycopg

from gateway.testing.appliance import Appliance
from gateway.testing.client import Client, tls_from_environment
from gateway.testing.postgres import SUPERUSER, PostgresServer


def direct(server: PostgresServer, database: str = "orders") -> dict[str, str]:
    """The environment of a client that goes straight to the server, as the superuser."""
    return {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": SUPERUSER, "PGPASSWORD": server.password,
            "PGDATABASE": database, "PGSSLMODE": "disable"}


def program(server: PostgresServer, name: str, *arguments: str, environment: Mapping[str, str], stdin: str = "",
            timeout: float = 120.0, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run one of PostgreSQL's own programs (psql, pgbench, pg_dump) with that environment and nothing else of ours.

    Programs that were built without TLS talk plainly, which the gateway allows on loopback.
    """
    variables = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(home or "/nonexistent"), **environment}
    if not server.knows_tls:
        variables["PGSSLMODE"] = "disable"
    return subprocess.run([server.program(name), *arguments], env=variables, input=stdin, capture_output=True, text=True, timeout=timeout,
                          check=False)


def psql(server: PostgresServer, *arguments: str, environment: Mapping[str, str], stdin: str = "",
         timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
    """psql without a startup file: ``psql(server, "-Atc", "select 1", environment=gateway.client_variables())``."""
    return program(server, "psql", "-X", *arguments, environment=environment, stdin=stdin, timeout=timeout)


def small_client(environment: Mapping[str, str], options: str = "") -> Client:
    """The built-in client: simple queries, notices kept."""
    return Client.connect(environment["PGHOST"], int(environment["PGPORT"]), user=environment["PGUSER"], password=environment["PGPASSWORD"],
                          database=environment["PGDATABASE"], tls=tls_from_environment(environment), options=options)


def connect_psycopg(appliance: Appliance, name: str = "ci-bot", **keywords: object) -> psycopg.Connection[tuple[object, ...]]:
    """psycopg 3 through the gateway."""
    return psycopg.connect(appliance.dsn(name), **keywords)  # type: ignore[arg-type]


async def connect_asyncpg(appliance: Appliance, name: str = "ci-bot", **keywords: object) -> asyncpg.Connection:
    """asyncpg through the gateway."""
    context = ssl.create_default_context(cafile=str(appliance.ca))
    connection: asyncpg.Connection = await asyncpg.connect(
        host="127.0.0.1", port=appliance.port, user=name, password=appliance.token(name), database="orders-db", ssl=context, **keywords)
    return connection
