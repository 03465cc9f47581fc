# SPDX-License-Identifier: Apache-2.0
"""Makes ``tests/unit/protocols/postgres/sql/corpus_catalogs.json``: the catalog that each corpus case with a setup runs against.

``python -m tests.peers.corpus_catalogs`` writes it with the system's PostgreSQL; the unit tests then need no server.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from gateway.protocols.postgres.catalog.load import load_builtin, load_catalog, to_json
from gateway.protocols.postgres.catalog.snapshot import catalog_connection
from tests.peers.postgres import PostgresServer, corpus, make_corpus_database

STORED = Path(__file__).parents[1] / "unit" / "protocols" / "postgres" / "sql" / "corpus_catalogs.json"


async def _read(server: PostgresServer, database: str) -> dict[str, Any]:
    with catalog_connection(server, database) as fetch:
        return dict(to_json(await load_catalog(fetch, await load_builtin(fetch), "corpus")))


def make(server: PostgresServer) -> dict[str, dict[str, Any]]:
    """The catalog of every case that sets something up; ``""`` is that of all others."""
    make_corpus_database(server, "corpus")
    found = {"": asyncio.run(_read(server, "corpus"))}
    for case in corpus():
        setup = [text for text in case.extra.get("setup", ()) if not text.startswith(("@", "$"))]
        if setup:
            server.execute("drop database if exists corpus_case with (force)")
            server.execute("create database corpus_case template corpus")
            for text in setup:
                server.execute(text, "corpus_case")
            found[case.id] = asyncio.run(_read(server, "corpus_case"))
    return found


def main() -> None:
    with PostgresServer() as server:
        STORED.write_text(json.dumps(make(server), separators=(",", ":"), sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
