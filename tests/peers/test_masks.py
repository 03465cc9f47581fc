# SPDX-License-Identifier: Apache-2.0
"""Every kind of mask on every type, in every format, through a live gateway: tests/corpus/masks.jsonl in text, and what drivers read in
binary and out of COPY, on both servers."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import ssl
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import psycopg
import pytest
from psycopg.types.json import set_json_loads

from gateway.masking.rules import hashed
from gateway.testing.postgres import PostgresServer
from tests.peers.gateway import Appliance, running
from tests.peers.wire import Wire, codes, rows

CORPUS = Path(__file__).parent.parent / "corpus"
CASES = [json.loads(line) for line in (CORPUS / "masks.jsonl").read_text().splitlines()]
KEY = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0"
HASH = hashed("join-key", KEY.encode())
KNOWN = {"$label": HASH.digest(b"same").hex(), "$code": HASH.digest(b"AB12").hex()}
SECRETS = (
    "078-05-1120",
    "219-09-9999",
    "4111111111111111",
    "alice@example.com",
    "Alice",
    "b\\backslash",
    "1234.5",
    "123456",
    "13:14",
    "05-17 23",
)


def vault(root: Path, server: PostgresServer) -> Iterator[Appliance]:
    server.execute("drop database if exists vault with (force)")
    server.create_database("vault")
    server.execute((CORPUS / "masks.sql").read_text(), "vault")

    def change(appliance: Appliance) -> None:
        appliance.rewrite("policy/resources.yaml", {"database: orders ": "database: vault "})
        (appliance.folder / "policy" / "typed.yaml").write_text((CORPUS / "masks.yaml").read_text())
        key = appliance.folder / "credentials" / "join-key.yaml"
        key.touch(mode=0o600)
        key.write_text(f"kind: mask-key\nkey: {KEY}\n")

    with running(root, server, change=change) as appliance:
        yield appliance


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Iterator[Appliance]:
    yield from vault(tmp_path_factory.mktemp("masks"), postgres)


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory, newest_postgres: PostgresServer) -> Iterator[Appliance]:
    yield from vault(tmp_path_factory.mktemp("masks"), newest_postgres)


@pytest.fixture(params=["old", "new"])
def masked(request: pytest.FixtureRequest) -> Appliance:
    found: Appliance = request.getfixturevalue(request.param)
    return found


def wire(appliance: Appliance) -> Wire:
    return Wire.connect(appliance.port, "ci-bot", appliance.token("ci-bot"), "orders-db", ca=appliance.ca)


def where(appliance: Appliance) -> dict[str, Any]:
    return {
        "host": "127.0.0.1",
        "port": appliance.port,
        "user": "ci-bot",
        "password": appliance.token("ci-bot"),
        "dbname": "orders-db",
        "sslmode": "verify-full",
        "sslrootcert": str(appliance.ca),
    }


def uuid_hash(value: UUID) -> UUID:
    digest = bytearray(HASH.digest(value.bytes))
    digest[6], digest[8] = digest[6] & 0x0F | 0x80, digest[8] & 0x3F | 0x80
    return UUID(bytes=bytes(digest))


KNOWN["$ref"] = str(uuid_hash(UUID(int=1)))


@pytest.mark.parametrize("case", [pytest.param(case, id=case["id"]) for case in CASES])
def test_the_corpus_of_masks(case: dict[str, Any], masked: Appliance) -> None:
    with wire(masked) as connection:
        frames = connection.query(case["sql"])
    assert not any(secret.encode() in payload for _, payload in frames for secret in SECRETS)
    if "code" in case:
        assert codes(frames) == [case["code"]]
        return
    assert codes(frames) == []
    found = [[None if value is None else value.decode() for value in row] for row in rows(frames)]
    lines = [payload.decode().rstrip("\n") for kind, payload in frames if kind == "d"]
    found += [[None if field == "\\N" else field for field in line.split("\t")] for line in lines]
    assert found == [[KNOWN.get(value, value) for value in row] for row in case["rows"]]


COLUMNS = (
    "name",
    "email",
    "code",
    "ref",
    "label",
    "small",
    "age",
    "salary",
    "amount",
    "score",
    "ratio",
    "born",
    "seen",
    "at",
    "flag",
    "pin",
    "tags",
    "mails",
    "numbers",
    "span",
    "profile",
    "doc",
    "loose",
)
FIRST: tuple[Any, ...] = (
    "Al**********",
    "a***@example.com",
    KNOWN["$code"],
    UUID(KNOWN["$ref"]),
    KNOWN["$label"],
    1200,
    50,
    123000,
    Decimal(1230),
    1230.0,
    50.0,
    date(2024, 1, 1),
    datetime(2024, 5, 17, 13),  # noqa: DTZ001 - the type has no time zone
    datetime(2024, 5, 17, tzinfo=UTC),
    False,
    0,
    ["*ne", "********ee", None],
    ["a***@example.com", "****"],
    None,
    None,
    {"age": 50, "ssn": "****", "tier": "gold", "cards": [{"number": "************1111"}]},
    {"ssn": None, "tier": "gold"},
    None,
)
SELECT = f"select {', '.join(COLUMNS)} from typed where id in (1, 2) order by id"
FIRST_AND_NULLS = [FIRST, (None,) * len(FIRST)]


@pytest.mark.parametrize("binary", [False, True])
def test_psycopg(binary: bool, masked: Appliance) -> None:
    with psycopg.connect(**where(masked)) as connection:
        set_json_loads(json.loads, connection)
        for text, parameters in ((SELECT, None), (SELECT.replace("in (1, 2)", "= any(%s)"), ([1, 2],))):
            assert connection.execute(text, parameters, binary=binary).fetchall() == FIRST_AND_NULLS


def test_asyncpg(masked: Appliance) -> None:
    """It asks for binary results always."""

    async def read() -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(
            host="127.0.0.1",
            port=masked.port,
            user="ci-bot",
            password=masked.token("ci-bot"),
            database="orders-db",
            ssl=ssl.create_default_context(cafile=str(masked.ca)),
        )
        try:
            for kind in ("json", "jsonb"):
                await connection.set_type_codec(kind, encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
            return [tuple(row) for row in await connection.fetch(SELECT.replace("in (1, 2)", "= any($1)"), [1, 2])]
        finally:
            await connection.close()

    assert asyncio.run(read()) == FIRST_AND_NULLS


TYPES = (
    "text",
    "varchar",
    "bpchar",
    "uuid",
    "text",
    "int2",
    "int4",
    "int8",
    "numeric",
    "float8",
    "float4",
    "date",
    "timestamp",
    "timestamptz",
    "bool",
    "int4",
    "text[]",
    "varchar[]",
    "int4[]",
    "int4range",
    "jsonb",
    "json",
    "text",
)


def test_copy_in_binary(masked: Appliance) -> None:
    with psycopg.connect(**where(masked), autocommit=True) as connection, connection.cursor() as cursor:
        with cursor.copy(f"copy ({SELECT}) to stdout (format binary)") as copy:
            copy.set_types(TYPES)
            assert list(copy.rows()) == FIRST_AND_NULLS
        with cursor.copy("copy typed (id, note, name) to stdout binary") as copy:
            copy.set_types(("int4", "text", "text"))
            first, *_ = copy.rows()
            assert first == (1, "paid with ***************1111, ticket TKT-******", "Al**********")


def test_copy_in_text(masked: Appliance) -> None:
    with psycopg.connect(**where(masked)) as connection, connection.cursor() as cursor, cursor.copy(f"copy ({SELECT}) to stdout") as copy:
        copy.set_types(TYPES)
        assert list(copy.rows()) == FIRST_AND_NULLS


def test_copy_in_csv(masked: Appliance) -> None:
    query = "copy (select id, name, note, loose, tags, profile from typed order by id) to stdout with (format csv, header)"
    with psycopg.connect(**where(masked)) as connection, connection.cursor() as cursor, cursor.copy(query) as copy:
        text = b"".join(bytes(part) for part in copy).decode()
    found = list(csv.reader(io.StringIO(text, newline="")))
    assert found == [
        ["id", "name", "note", "loose", "tags", "profile"],
        [
            "1",
            "Al**********",
            "paid with ***************1111, ticket TKT-******",
            "",
            '{"*ne","********ee",NULL}',
            '{"age": 50, "ssn": "****", "tier": "gold", "cards": [{"number": "************1111"}]}',
        ],
        ["2", "", "", "", "", ""],
        ["3", "Ün**", "nothing here", "", "{}", "[1, 2]"],
    ]


def test_many_rows_in_every_format(masked: Appliance) -> None:
    """Blocks of rows, cut anywhere by the network."""
    with psycopg.connect(**where(masked), autocommit=True) as connection, connection.cursor() as cursor:
        assert {row[0] for row in cursor.execute("select ssn from many", binary=True)} == {"****"}
        for form in ("text", "csv", "binary"):
            with cursor.copy(f"copy many to stdout (format {form})") as copy:
                found = b"".join(bytes(part) for part in copy)
            assert b"secret" not in found and found.count(b"****") == 20_000


def test_shapes_in_binary(masked: Appliance) -> None:
    """Enumerations, ranges, arrays of all kinds as asyncpg reads them: it takes binary."""
    async def read() -> asyncpg.Record:
        where_to = where(masked)
        connection = await asyncpg.connect(
            host=where_to["host"], port=where_to["port"], user=where_to["user"], password=where_to["password"], database=where_to["dbname"],
            ssl=ssl.create_default_context(cafile=str(masked.ca)))
        try:
            return await connection.fetchrow("select mood, moods, span, place, places, days, amounts, refs, flags, seats, home "
                                             "from shaped where id = $1", 1)
        finally:
            await connection.close()

    found = asyncio.run(read())
    assert (found["mood"], found["moods"], found["place"], found["places"]) == ("other", ["other", "other"], None, [None, None])
    assert found["span"].isempty
    assert found["days"] == [date(2024, 1, 1), None, None]
    assert found["amounts"] == [Decimal(1230), Decimal(-10), None]
    assert found["refs"] == [uuid_hash(UUID(int=1))]
    assert (found["flags"], found["seats"], found["home"]) == ([False, False, None], [], None)
