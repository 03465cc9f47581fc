# SPDX-License-Identifier: Apache-2.0
"""psql, pgbench and pg_dump, unchanged: through the gateway they print what they print without it, byte for byte.

What has to differ, and is taken out of both before they are compared:

* ``LOCATION`` lines (``\\set VERBOSITY verbose``): a line of the server's C source. The gateway's own errors have none.
* the process id in a notification: two sessions have two.
* the sizes of whole databases and tablespaces (``\\l+``, ``\\db+``): some were seen to change between the two looks (580 and 553 kB).
* under masks only: the options of foreign servers and wrappers, which may hold passwords (``\\des+``, ``\\dew+``).

PGCLIENTENCODING is set on both sides, as psql sets it at a terminal: the gateway pins it, and ``\\dconfig`` lists it.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.testing.postgres import PostgresServer
from tests.peers.clients import direct, program, psql
from tests.peers.gateway import Appliance
from tests.peers.shop import make_shop

HERE = Path(__file__).parent
CATALOG = HERE / "catalog.psql"
SESSION = HERE / "session.psql"
OPTIONS = ("des+", "dew+")
SIZE = re.compile(r"\b\d+ (?:bytes|kB|MB)\b *")


def said(server: PostgresServer, script: Path, environment: dict[str, str]) -> dict[str, str]:
    """What psql prints for a script, by its ``\\echo == …`` headings."""
    environment = environment | {"PGCLIENTENCODING": "UTF8", "PSQL_EDITOR": "true"}
    done = psql(server, "-v", "VERBOSITY=verbose", "-f", str(script), environment=environment)
    text = f"{done.stdout}\n== errors\n{done.stderr}"
    text = re.sub(r"(?m)^LOCATION:  .*\n", "", text)
    text = re.sub(r"server process with PID \d+", "server process with PID N", text)
    parts = re.split(r"(?m)^== (.*)\n", text)
    by_heading = dict(zip(parts[1::2], parts[2::2], strict=True))
    return by_heading | {heading: SIZE.sub("SIZE", by_heading[heading]) for heading in ("l+", "db+") if heading in by_heading}


def differences(straight: dict[str, str], through: dict[str, str]) -> list[str]:
    assert straight.keys() == through.keys()
    return [f"{heading}\n--- direct\n{straight[heading]}--- gateway\n{through[heading]}" for heading in straight
            if straight[heading] != through[heading]]


def both(server: PostgresServer, gateway: Appliance, script: Path, identity: str, fresh: bool = False) -> list[str]:
    """Where a script's output differs; with ``fresh`` each run gets the database anew."""
    outputs = []
    for environment in (direct(server, "shop"), gateway.client_variables(identity, "orders-db/shop")):
        if fresh:
            make_shop(server)
        outputs.append(said(server, script, environment))
    assert sum(map(len, outputs[0].values())) > 4000
    return differences(outputs[0], outputs[1])


def test_every_backslash_command(shop: Appliance, postgres: PostgresServer) -> None:
    assert both(postgres, shop, CATALOG, "shop-app") == []


def test_every_backslash_command_of_the_newest(newest_shop: Appliance, newest_postgres: PostgresServer) -> None:
    assert both(newest_postgres, newest_shop, CATALOG, "shop-app") == []


def test_every_backslash_command_under_masks(shop: Appliance, postgres: PostgresServer) -> None:
    """Masks and detectors change nothing of what the catalog says."""
    differing = [text.split("\n", 1)[0] for text in both(postgres, shop, CATALOG, "ci-bot")]
    assert sorted(differing) == sorted(OPTIONS)


def test_a_session_of_everything(shop: Appliance, postgres: PostgresServer) -> None:
    assert both(postgres, shop, SESSION, "shop-app", fresh=True) == []


def test_a_session_of_everything_on_the_newest(newest_shop: Appliance, newest_postgres: PostgresServer) -> None:
    assert both(newest_postgres, newest_shop, SESSION, "shop-app", fresh=True) == []


def test_bind_and_pipelines_of_newer_psql(newest_shop: Appliance, newest_postgres: PostgresServer, tmp_path: Path) -> None:
    script = tmp_path / "script.psql"
    script.write_text("\\echo == bind\nselect $1::int + $2::int as sum \\bind 1 2 \\g\nselect $1 \\bind 'x' \\g\n"
                      "select name from app.people where id = $1 \\parse by_id\n\\bind_named by_id 1 \\g\n\\bind_named by_id 2 \\g\n"
                      "\\close_prepared by_id\n\\bind_named by_id 1 \\g\n"
                      "\\echo == pipeline\n\\startpipeline\nselect 1 \\bind \\sendpipeline\nselect $1 \\bind 2 \\sendpipeline\n"
                      "\\flushrequest\n\\getresults\nselect nope \\bind \\sendpipeline\nselect 3 \\bind \\sendpipeline\n"
                      "\\endpipeline\nselect 4;\n"
                      "\\echo == end\n" + "select 'long enough to compare';\n" * 200)
    assert both(newest_postgres, newest_shop, script, "shop-app") == []


def test_timing_watch_and_conninfo(shop: Appliance, postgres: PostgresServer) -> None:
    """These print times, or the connection itself: they work, and there is nothing to compare."""
    done = psql(postgres, "-At", environment=shop.client_variables("shop-app", "orders-db/shop"),
                stdin="\\timing on\nselect 1;\n\\conninfo\nselect 1 / (select count(*) from pg_tables where false) \\watch 0.01\n")
    assert "Time: " in done.stdout and 'database "orders-db/shop" as user "shop-app"' in done.stdout
    assert done.stderr.startswith("ERROR:  division by zero")


def test_copy_to_and_from_files(shop: Appliance, postgres: PostgresServer, tmp_path: Path) -> None:
    outputs = []
    for environment in (direct(postgres, "shop"), shop.client_variables("shop-app", "orders-db/shop")):
        path = tmp_path / environment["PGUSER"]
        script = f"""begin;
\\copy (select n, 'row ' || n, n * 1.5 from generate_series(1, 3000) n) to '{path}'
\\copy public.plain (id, label, amount) from '{path}'
\\copy public.plain (id, label) to '{path}.csv' csv header
\\copy public.plain to '{path}.bin' binary
delete from public.plain;
\\copy public.plain from '{path}.bin' binary
select count(*), sum(amount), min(label) from public.plain;
rollback;
"""
        done = psql(postgres, environment=environment, stdin=script)
        files = [Path(f"{path}{end}").read_bytes() for end in ("", ".csv", ".bin")]
        outputs.append((done.stdout, done.stderr, files))
    assert outputs[0] == outputs[1]
    assert "COPY 3000" in outputs[0][0] and outputs[0][1] == ""


# --- pgbench ---


def pgbench(server: PostgresServer, gateway: Appliance, *arguments: str) -> str:
    done = program(server, "pgbench", *arguments, environment=gateway.client_variables("bench", "orders-db/shop"))
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


PIPELINE = """\\set id random(1, 100)
\\startpipeline
select abalance from pgbench_accounts where aid = :id;
update pgbench_tellers set tbalance = tbalance + 1 where tid = 1;
\\endpipeline
select abalance as b from pgbench_accounts where aid = :id \\gset p_
begin;
insert into pgbench_history (tid, bid, aid, delta, mtime) values (1, 1, :id, :p_b, current_timestamp);
end;
"""


@pytest.mark.parametrize("which", ["system", "newest"])
def test_pgbench_with_its_own_grant(request: pytest.FixtureRequest, tmp_path: Path, which: str) -> None:
    """Everything it does, its own initialisation included, with the grant of docs/clients.md."""
    server = request.getfixturevalue("postgres" if which == "system" else "newest_postgres")
    gateway = request.getfixturevalue("shop" if which == "system" else "newest_shop")
    assert "done in" in pgbench(server, gateway, "-i", "-q", "-s", "1", "-I", "dtgGvpf")
    for mode in ("simple", "extended", "prepared"):
        assert "actually processed: 20/20" in pgbench(server, gateway, "-M", mode, "-c", "2", "-t", "10")
        assert "actually processed: 20/20" in pgbench(server, gateway, "-n", "-S", "-M", mode, "-c", "2", "-t", "10")
    script = tmp_path / "pipeline.sql"
    script.write_text(PIPELINE)
    for mode in ("extended", "prepared"):
        assert "actually processed: 10/10" in pgbench(server, gateway, "-n", "-f", str(script), "-M", mode, "-c", "2", "-t", "5", "-C")
    assert "done in" in pgbench(server, gateway, "-i", "-q", "-I", "d")


@pytest.mark.parametrize("which", ["system", "newest"])
def test_pg_dump_with_its_own_grant(request: pytest.FixtureRequest, which: str) -> None:
    """Schema and data of everything there is, as text and with INSERTs, byte for byte."""
    server = request.getfixturevalue("postgres" if which == "system" else "newest_postgres")
    gateway = request.getfixturevalue("shop" if which == "system" else "newest_shop")
    make_shop(server)
    for options in ((), ("--inserts", "--no-owner")):
        dumps = []
        for environment in (direct(server, "shop"), gateway.client_variables("dump", "orders-db/shop")):
            done = program(server, "pg_dump", *options, environment=environment)
            assert done.returncode == 0, done.stderr
            dumps.append(re.sub(r"(?m)^.(un)?restrict \w+$", "", done.stdout))      # a random word of each run
        assert dumps[0] == dumps[1] and "CREATE TABLE app.people" in dumps[0] and "ann@example.com" in dumps[0]
