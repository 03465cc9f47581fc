# SPDX-License-Identifier: Apache-2.0
"""COPY TO with options of every kind under masks: what comes out is read back by the server, and has the masked values."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from gateway.protocols.postgres import messages
from tests.peers.gateway import Appliance, running
from tests.peers.postgres import PostgresServer
from tests.peers.wire import Frame, Wire, codes, texts

ODD_MASK = "a;\"\\'|,\\b"
POLICY = f"""masks:
  - name: veil
    columns:
      public.things.ssn: redact
      public.things.card: {{keep_last: 4}}
      public.things.born: redact
      public.things.odd: {{value: {json.dumps(ODD_MASK)}}}
    detect: {{patterns: {{ticket: {{match: "TKT-[0-9]{{6}}", mask: {{value: "TKT-******"}}}}}}}}
grants:
  - name: copies
    to: [ci-bot]
    targets: [orders-db]
    rules: [{{name: all, allow: {{sql: {{verbs: [select, copy-to]}}}}}}]
    masks: [veil]
"""
ODD = ("plain", "", "semi;colon", "comma,", 'quo"te', "apo's", "back\\slash",
       "tab\there", "line\nbreak", "cr\rhere", "pipe|", "NULL", "\\N", "\\.", "ä€",
       "'", '"', ";", "x;'\"|,\\y", " ", "TKT-123456")
TABLES = "create table things (id int primary key, note text, ssn text, card text, born date, odd text);" + "".join(
    f"insert into things values ({n}, $x${one}$x$, $x${one}$x$, $x$4111-{one}$x$, {'null' if n % 2 else 'current_date'}, $x${one}$x$);"
    for n, one in enumerate(ODD)) + "insert into things (id) values (99);"
OPTIONS = [
    "(delimiter ',')", "(delimiter '|')", "(delimiter ';', header)", "(delimiter E'\\x01')",
    "(format csv, delimiter ';')", "(format csv, delimiter E'\\t', header)",
    "(format csv, null 'NULL')", "(format csv, null '\\N')", "(format csv, quote '''')", "(format csv, quote '|', escape '|')",
    "(format csv, escape '\\')",
    "(format csv, delimiter '|', quote '''', escape '\\', null '', header true)", "(format csv, force_quote *)",
    "(format csv, force_quote (ssn, note), null 'x')",
    "csv header delimiter ';'", "(format csv, delimiter ' ', null '-')", "(format csv, delimiter 'x')",
]
REFUSED = ["(null '')", "(null 'NULL')", "(delimiter ';', null '-')", "(format csv, encoding 'LATIN1')",
           "(format csv, delimiter ';', encoding 'WIN1252')"]


@dataclass(slots=True)
class Pair:
    gated: Wire
    direct: Wire


@pytest.fixture(scope="module", params=["system", "newest"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    server: PostgresServer = request.getfixturevalue("postgres" if request.param == "system" else "newest_postgres")
    server.execute("drop database if exists copied with (force)")
    server.create_database("copied")
    server.execute(TABLES + "create table again (like things)", "copied")

    def change(appliance: Appliance) -> None:
        appliance.rewrite("policy/resources.yaml", {"database: orders ": "database: copied "})
        for path in ("grants", "tests"):
            for file in (appliance.folder / "policy" / path).glob("*.yaml"):
                file.unlink()
        (appliance.folder / "policy" / "copied.yaml").write_text(POLICY)

    with (running(tmp_path_factory.mktemp("copied"), server, change=change) as appliance,
          Wire.connect(appliance.port, "ci-bot", appliance.token("ci-bot"), "orders-db", ca=appliance.ca) as gated,
          Wire.connect(server.port, "postgres", server.password, "copied") as direct):
        yield Pair(gated, direct)
    server.execute("drop database copied with (force)")


def copied(frames: list[Frame]) -> bytes:
    return b"".join(payload for kind, payload in frames if kind == "d")


def loaded(wire: Wire, data: bytes, options: str) -> list[tuple[str | None, ...]]:
    """What the server reads out of it with the same options."""
    plain = options.replace("force_quote *", "header false").replace("force_quote (ssn, note)", "header false")
    wire.query("truncate again")
    wire.send(messages.Query(f"copy again from stdin {plain}"))
    assert wire.until("GZ")[-1][0] == "G", plain
    wire.send(messages.CopyData(data), messages.CopyDone())
    assert codes(wire.until("Z")) == []
    return texts(wire.query("select * from again order by id"))


@pytest.mark.parametrize("options", OPTIONS)
def test_what_is_masked_can_be_read_back(options: str, pair: Pair) -> None:
    frames = pair.gated.query(f"copy (select * from things order by id) to stdout {options}")
    assert codes(frames) == []
    found = loaded(pair.direct, copied(frames), options)
    for row, (n, one) in zip(found, enumerate(ODD), strict=False):
        shown = f"4111-{one}"
        assert row == (str(n), "TKT-******" if one.startswith("TKT") else one, "****", "*" * (len(shown) - 4) + shown[-4:], None,
                       ODD_MASK), options
    assert found[-1] == ("99", None, None, None, None, None)
    assert len(found) == len(ODD) + 1


@pytest.mark.parametrize("options", REFUSED)
def test_t28_what_could_not_be_told_apart_is_refused(options: str, pair: Pair) -> None:
    frames = pair.gated.query(f"copy things (id, ssn) to stdout {options}")
    assert codes(frames) == ["42501"]
    assert copied(frames) == b""
    assert codes(pair.gated.query(f"copy things (id) to stdout {options}")) == [], "nothing of it would be masked"


@pytest.mark.parametrize("guess", ["plain", "semi;colon", "4111-plain", ""])
def test_t28_a_guess_as_null_tells_nothing(guess: str, pair: Pair) -> None:
    """A value that looks like the NULL of the options is quoted by the server, and masked as every other."""
    for extra in ("", ", delimiter '|'", ", quote ''''"):
        frames = pair.gated.query(f"copy things (ssn) to stdout (format csv, null '{guess}'{extra})")
        assert set(copied(frames).replace(b'"', b"").replace(b"'", b"").split(b"\n")) <= {b"****", guess.encode(), b""}
        lines = copied(frames).count(guess.encode() + b"\n") if guess else 1
        assert codes(frames) or lines == 1, "the row that is NULL"
