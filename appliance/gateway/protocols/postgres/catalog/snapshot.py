# SPDX-License-Identifier: Apache-2.0
"""Makes the data files of this package from servers that it starts and stops; for developers.

``python -m gateway.protocols.postgres.catalog.snapshot builtin`` writes ``builtin-MAJOR.json.xz`` for every major version of
``offline.SHIPPED`` whose binaries are at hand. ``… schema FILE.sql DATABASE OUTPUT.json`` runs a script in a fresh database of the
oldest of them and writes its schema file. The same server version and script give the same bytes.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.protocols.postgres.catalog.load import Fetch, Row, load_builtin, load_catalog
from gateway.protocols.postgres.catalog.model import Catalog
from gateway.protocols.postgres.catalog.offline import SHIPPED, builtin_to_bytes, dump, to_json
from gateway.testing.client import Client
from gateway.testing.postgres import SUPERUSER, PostgresServer, embedded_binaries, system_binaries


@contextmanager
def catalog_connection(server: PostgresServer, database: str) -> Iterator[Fetch]:
    """A ``Fetch`` on a connection of its own, with the search path that loading needs."""
    socket = server.folder / "s" / f".s.PGSQL.{server.port}"
    with Client.connect_unix(socket, user=SUPERUSER, database=database) as client:
        client.query("set search_path = pg_catalog")

        async def fetch(sql: str) -> list[Row]:
            return client.query(sql)[0].rows

        yield fetch


async def read_catalog(fetch: Fetch, database: str) -> Catalog:
    """The whole catalog of one database, its built-in part read from the same server."""
    return await load_catalog(fetch, await load_builtin(fetch), database)


def write_builtin(folder: Path) -> list[Path]:
    """One file for each shipped major version that can be started here."""
    written = []
    for binaries in filter(None, (system_binaries(), embedded_binaries())):
        with PostgresServer(binaries=binaries) as server, catalog_connection(server, "postgres") as fetch:
            builtin = asyncio.run(load_builtin(fetch))
        major = builtin.server_version // 10000
        if major in SHIPPED:
            path = folder / f"builtin-{major}.json.xz"
            path.write_bytes(builtin_to_bytes(builtin))
            written.append(path)
    return written


def write_schema(script: Path, database: str, output: Path) -> None:
    """The schema file of a database made by a script."""
    with PostgresServer(binaries=system_binaries()) as server:
        server.create_database(database)
        server.execute(script.read_text(), database)
        with catalog_connection(server, database) as fetch:
            output.write_text(dump(to_json(asyncio.run(read_catalog(fetch, database)))))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    kinds.add_parser("builtin")
    schema = kinds.add_parser("schema")
    schema.add_argument("script", type=Path)
    schema.add_argument("database")
    schema.add_argument("output", type=Path)
    arguments = parser.parse_args()
    if arguments.kind == "schema":
        write_schema(arguments.script, arguments.database, arguments.output)
    else:
        print(*write_builtin(Path(__file__).parent), sep="\n")


if __name__ == "__main__":
    main()
