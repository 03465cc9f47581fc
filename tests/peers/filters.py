# SPDX-License-Identifier: Apache-2.0
"""Two databases of tests/corpus/filters.sql: one behind a gateway with row filters, one whose own row security has the same conditions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.testing.postgres import PostgresServer
from tests.peers.gateway import Appliance, running
from tests.peers.wire import Wire

CORPUS = Path(__file__).parent.parent / "corpus"
POLICY = (CORPUS / "filters.yaml").read_text()
GATED, ORACLE, READER, PASSWORD = "filtered", "filtered_oracle", "filtered_reader", "reader-of-a-throwaway-server"
CONDITIONS = {
    "orders": "customer_id = 7", "events": "tenant = 'a'", "events_a": "tenant = 'a'", "events_b": "tenant = 'a'", "cats": "indoor",
    "docs": "(owner = 'ann' or open) and day >= '2026-01-01' and kind in ('memo', 'note')",
}
KEPT = ("orders", "events", "cats", "docs", "lines", "customers")
MARK = b"HIDDEN"


def make(server: PostgresServer) -> None:
    """Both databases; in the oracle's the conditions are the server's own policies."""
    server.execute(f"drop database if exists {ORACLE} with (force)")
    server.execute(f"drop role if exists {READER}")
    server.create_role(READER, PASSWORD)
    for name in (GATED, ORACLE):
        server.execute(f"drop database if exists {name} with (force)")
        server.create_database(name)
        server.execute((CORPUS / "filters.sql").read_text(), name)
        saved = "; ".join(f"create table saved.{table} as select * from public.{table}" for table in KEPT)
        server.execute(f"create schema saved; {saved}", name)
    policies = "; ".join(f"alter table {table} enable row level security; create policy own on {table} using ({condition})"
                         for table, condition in CONDITIONS.items())
    server.execute(f"{policies}; grant all on schema public, alt to {READER}; grant all on all tables in schema public, alt to {READER}; "
                   f"grant temporary on database {ORACLE} to {READER}", ORACLE)


def restore(server: PostgresServer, name: str) -> None:
    """Every table as it was."""
    again = "; ".join(f"delete from public.{table}; insert into public.{table} select * from saved.{table}" for table in KEPT[:5])
    server.execute(f"{again}; update customers c set name = s.name from saved.customers s where s.id = c.id", name)


def everything(server: PostgresServer, name: str) -> list[Any]:
    return [server.execute(f"select t::text from public.{table} t order by 1", name)[-1].rows for table in KEPT]


@dataclass(slots=True)
class Pair:
    """A caller of the gateway, and the reader that row security is for."""

    server: PostgresServer
    appliance: Appliance
    gated: Wire
    oracle: Wire

    def fresh(self) -> None:
        """Whatever the case before left of session and connection is gone."""
        if self.gated.closed:
            self.gated = caller(self.appliance)
        for wire in (self.gated, self.oracle):
            for text in ("rollback", "deallocate all", "reset search_path"):
                wire.query(text)


def caller(appliance: Appliance) -> Wire:
    return Wire.connect(appliance.port, "ci-bot", appliance.token("ci-bot"), "orders-db", ca=appliance.ca)


def put(appliance: Appliance, policy: str = POLICY) -> None:
    """The folder's policy: the demo's identities and resources, and these masks and grants."""
    for path in ("grants", "tests"):
        for file in (appliance.folder / "policy" / path).glob("*.yaml"):
            file.unlink()
    (appliance.folder / "policy" / "masks.yaml").write_text(policy)


@contextmanager
def gated(root: Path, server: PostgresServer, policy: str = POLICY, more: Callable[[Appliance], None] | None = None) -> Iterator[Appliance]:
    """A gateway with that policy in front of the first of the databases."""
    def change(appliance: Appliance) -> None:
        appliance.rewrite("policy/resources.yaml", {"database: orders ": f"database: {GATED} "})
        put(appliance, policy)
        if more is not None:
            more(appliance)

    with running(root, server, change=change) as appliance:
        yield appliance


@contextmanager
def both(root: Path, server: PostgresServer) -> Iterator[Pair]:
    """The gateway, and the reader whom row security shows the same."""
    make(server)
    with gated(root, server) as appliance, Wire.connect(server.port, READER, PASSWORD, ORACLE) as oracle:
        pair = Pair(server, appliance, caller(appliance), oracle)
        yield pair
        pair.gated.close()
