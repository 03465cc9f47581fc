# SPDX-License-Identifier: Apache-2.0
"""The PostgreSQL servers of the tests, and the corpus that runs on them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.testing.postgres import SUPERUSER, PostgresServer, PostgresUnavailable, embedded_binaries, find_binaries, system_binaries

__all__ = [
    "CORPUS", "SCHEMA_SQL", "SUPERUSER", "Case", "PostgresServer", "PostgresUnavailable", "corpus", "embedded_binaries", "find_binaries",
    "make_corpus_database", "system_binaries",
]

CORPUS = Path(__file__).parents[1] / "corpus"
SCHEMA_SQL = (CORPUS / "postgres_schema.sql").read_text()


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the corpus. ``extra`` holds what only some cases have (setup, parameters, protocol …)."""

    id: str
    kind: str
    category: str
    tier: str
    sql: str
    extra: dict[str, Any]


def corpus() -> list[Case]:
    """Every case, in the order of the file."""
    cases = []
    for line in (CORPUS / "postgres.jsonl").read_text().splitlines():
        fields = json.loads(line)
        known = {name: fields.pop(name, "") for name in ("id", "kind", "category", "tier", "sql")}
        cases.append(Case(**known, extra=fields))
    return cases


def make_corpus_database(server: PostgresServer, name: str = "orders") -> None:
    """A database with the corpus's tables, made anew: roles and objects belong to the superuser."""
    server.execute(f'drop database if exists "{name}" with (force)')
    server.create_database(name)
    server.execute(SCHEMA_SQL, name)
