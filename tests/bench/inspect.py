# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.bench.inspect``: what it costs to understand a text that was never seen before, in µs of CPU, and where it goes.

No server, no socket, no disk: texts that differ in their literals go through ``SessionContext.compile``, the policy and the fields of
the record. Medians of many rounds of this process's own CPU time, so that a busy machine shows little; ``least`` is the smallest of them,
what is left of it on a machine with nothing else to do. ``pure`` is the same of a process that uses nothing compiled (``--pure``).
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from gateway import native
from gateway.govern import Gate, begin_fields
from gateway.masking.model import MaskSet
from gateway.model import Identity, Session
from gateway.policy.policy import Policy, compile_policy
from gateway.protocols.postgres.catalog.model import Catalog, Column, Objects, Relation
from gateway.protocols.postgres.catalog.offline import shipped_builtin
from gateway.protocols.postgres.context import SessionContext
from gateway.protocols.postgres.masking import plan
from gateway.protocols.postgres.shown import shown_text
from gateway.protocols.postgres.sql import parse
from gateway.protocols.postgres.sql.analyze import analyze
from gateway.protocols.postgres.statement import Context
from gateway.protocols.postgres.targets import CompiledCache, SharedTarget
from tests.unit.identity.folder import make_folder, new_issuers

INT, BIGINT, TEXT, CHAR, TIMESTAMP, NUMERIC, BOOL, JSONB = 23, 20, 25, 1042, 1114, 1700, 16, 3802
WIDE = tuple(f"field_{number:02}" for number in range(1, 21))
TABLES = {
    "pgbench_accounts": {"aid": INT, "bid": INT, "abalance": INT, "filler": CHAR},
    "pgbench_tellers": {"tid": INT, "bid": INT, "tbalance": INT, "filler": CHAR},
    "pgbench_branches": {"bid": INT, "bbalance": INT, "filler": CHAR},
    "pgbench_history": {"tid": INT, "bid": INT, "aid": INT, "delta": INT, "mtime": TIMESTAMP, "filler": CHAR},
    "customers": {"id": INT, "name": TEXT, "email": TEXT, "ssn": TEXT, "card": TEXT, "notes": JSONB, "created": TIMESTAMP},
    "orders": {"id": INT, "customer_id": INT, "total": NUMERIC, "status": TEXT, "placed": TIMESTAMP},
    "order_lines": {"id": INT, "order_id": INT, "sku": TEXT, "quantity": INT, "price": NUMERIC},
    "wide": dict.fromkeys(WIDE, TEXT) | {"id": BIGINT},
}
POLICY: dict[str, Any] = {
    "grants": [{"name": "bench", "to": ["ci-bot"], "targets": ["orders-db"], "masks": ["hidden"], "rules": [
        {"name": "data", "allow": {"sql": {"verbs": ["select", "insert", "update", "delete"], "relations": ["public.*"]}}},
        {"name": "catalog", "allow": {"sql": {"verbs": ["select"], "relations": ["pg_catalog.*"]}}},
        {"name": "session", "allow": {"sql": {"verbs": ["begin", "commit", "rollback", "set", "show"]}}},
        {"name": "never", "deny": {"sql": {"verbs": ["create", "drop", "truncate", "alter"]}}}]}],
    "masks": [{"name": "hidden", "columns": {"public.customers.ssn": "redact", "public.customers.card": {"keep_last": 4},
                                             "public.customers.email": "email", "public.wide.field_07": "redact"},
               "detect": {"private-key": "redact", "aws-access-key": "redact", "jwt": "redact", "payment-card": {"keep_last": 4}}}],
}
ANALYTIC = """with recent as (
  select
    o.id,
    o.customer_id,
    o.total,
    o.placed,
    row_number() over (partition by o.customer_id order by o.placed desc) as place
  from orders o
  where o.placed > now() - interval '{} days'
    and o.status in ('paid', 'sent', 'closed')
),
spent as (
  select
    r.customer_id,
    count(*) as orders,
    sum(r.total) as total,
    avg(r.total) as mean,
    max(r.placed) as latest
  from recent r
  where r.place <= 50
  group by r.customer_id
),
goods as (
  select
    o.customer_id,
    l.sku,
    sum(l.quantity * l.price) as value
  from order_lines l
  join orders o on o.id = l.order_id
  where l.quantity > 0
  group by o.customer_id, l.sku
)
select
  c.id,
  upper(c.name) as name,
  c.email,
  s.orders,
  round(s.total, 2) as total,
  s.mean,
  coalesce(g.value, 0) as best,
  case when s.total > 1000 then 'large' when s.total > 100 then 'medium' else 'small' end as class,
  to_char(s.latest, 'YYYY-MM-DD') as latest
from customers c
join spent s on s.customer_id = c.id
left join goods g on g.customer_id = c.id
where s.orders > 3
  and exists (select 1 from orders x where x.customer_id = c.id and x.status = 'paid')
order by s.total desc, c.id
limit 100"""
ORM = ", ".join(f'"w"."{name}" AS "w_{name}"' for name in WIDE)
TEXTS = {
    "select (pgbench -S)": "SELECT abalance FROM pgbench_accounts WHERE aid = {};",
    "update (pgbench)": "UPDATE pgbench_accounts SET abalance = abalance + 137 WHERE aid = {};",
    "insert (pgbench)": "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (7, 1, {}, -412, CURRENT_TIMESTAMP);",
    "delete": "DELETE FROM orders WHERE id = {} AND status = 'open'",
    "insert, returning": "INSERT INTO orders (customer_id, total, status) VALUES ({}, 10.5, 'new') RETURNING id",
    "insert, 10 rows": "INSERT INTO order_lines (order_id, sku, quantity, price) VALUES "
                       + ", ".join(f"({{0}}, 'sku-{number}', {number}, {number}.5)" for number in range(10)),
    "begin": "BEGIN /* {} */",
    "2-table join, masked": "select c.id, c.name, c.email, o.total from customers c join orders o on o.customer_id = c.id "
                            "where o.id = {} and c.ssn = '078-05-1120'",
    "3-table join, masked": "select c.name, c.card, o.id, o.placed, l.sku, l.quantity * l.price as value from customers c "
                            "join orders o on o.customer_id = c.id left join order_lines l on l.order_id = o.id "
                            "where o.status = 'paid' and o.total > {} order by o.placed desc limit 20",
    "group by": "select status, count(*), sum(total) from orders where customer_id = {} group by status order by 2 desc",
    "sub-query": "select id from customers where id in (select customer_id from orders where total > {}) and name like 'a%'",
    "20 columns": f"select {', '.join(WIDE)} from wide where id = {{}}",
    "20 columns (ORM)": f'SELECT {ORM} FROM "wide" AS "w" WHERE "w"."id" = {{}} LIMIT 1',
    "analytic, 47 lines": ANALYTIC,
}
STEPS = ("parser", "decode", "walk", "plan", "shown", "rest", "decide, fields", "together", "least")


@dataclass(frozen=True, slots=True)
class Desk:
    """What ``SessionContext`` asks of a gateway."""

    policy: Policy

    def now(self) -> float:
        return 1_790_000_000.0


class Fixed(SharedTarget):
    """A catalog that never changes, and a cache in which nothing is found."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self.compiled = CompiledCache()

    async def catalog(self, *, fresh: bool = False) -> Catalog:
        assert self._catalog is not None
        return self._catalog


def tables() -> Catalog:
    made = [Relation(20000 + number, "public", name, "r", tuple(Column(column, place, oid) for place, (column, oid) in
            enumerate(columns.items(), 1))) for number, (name, columns) in enumerate(TABLES.items())]
    return Catalog("one", 150008, "bench", shipped_builtin(15), Objects(schemas=frozenset({"public"}), relations=tuple(made)))


class Bench:
    """One session with everything but its sockets."""

    def __init__(self, root: Path) -> None:
        keys = {name: issuer.jwks() for name, issuer in new_issuers().items()}
        self.policy = compile_policy(make_folder(root, POLICY, keys))
        who = Identity("ci-bot", "ci", "project:payments/api:ref:main", frozenset({"robots"}), session_until=4e9, expires=4e9)
        self.session = Session("s1", who, "orders-db", "postgres", "127.0.0.1:1", 1_790_000_000.0, "app", "orders")
        self.catalog = tables()
        self.names = Context(("pg_catalog", "public"), user="app")
        gate = cast(Gate, Desk(self.policy))
        self.context = SessionContext(self.session, gate, Fixed(self.catalog), self._ask, lambda: False, ("app-password-1",), 65536)
        self.context.stale = False
        self.context._context = self.names
        self.masks: MaskSet = self.context.masks()

    async def _ask(self, sql: str) -> list[tuple[str | None, ...]]:
        raise AssertionError(sql)

    def whole(self, text: str) -> None:
        """Compile, decide, make the record's fields."""
        compiling = self.context.compile(text)
        try:
            compiling.send(None)
        except StopIteration as done:
            compiled = done.value
        command = self.context.command(compiled)
        decision = self.policy.decide(self.session.identity, "orders-db", command.operations, 1_790_000_000.0)
        begin_fields(self.session, self.policy, command, decision)

    def compile(self, text: str) -> Any:
        try:
            self.context.compile(text).send(None)
        except StopIteration as done:
            return done.value

    def decide(self, compiled: Any) -> None:
        command = self.context.command(compiled)
        decision = self.policy.decide(self.session.identity, "orders-db", command.operations, 1_790_000_000.0)
        begin_fields(self.session, self.policy, command, decision)


def cpu(run: Callable[[Any], object], inputs: list[Any]) -> float:
    """µs of process CPU time of one call."""
    gc.collect()
    started = time.process_time_ns()
    for one in inputs:
        run(one)
    return (time.process_time_ns() - started) / len(inputs) / 1000


def split(bench: Bench, form: str, count: int, rounds: int) -> dict[str, float]:
    """Each step's median."""
    seen: dict[str, list[float]] = {step: [] for step in STEPS}
    number = 100_000
    for _ in range(rounds):
        texts = [form.format(number + place) for place in range(3 * count)]
        number += 3 * count
        library = cpu(_library, [text.encode() for text in texts[:count]])
        parsed = cpu(parse.parse, texts[:count])
        analyzed = cpu(lambda text: analyze(text, bench.names, bench.catalog), texts[:count])
        understood = [(text, analyze(text, bench.names, bench.catalog)) for text in texts[:count]]
        planned = cpu(lambda one: [plan(s, bench.masks, bench.catalog) for s in one[1]], understood)
        shown = cpu(lambda one: shown_text(one[0], one[1], bench.masks, ("app-password-1",)), understood)
        together = cpu(bench.whole, texts[count:2 * count])
        compiled = cpu(bench.compile, texts[2 * count:])
        decided = cpu(bench.decide, [bench.compile(text) for text in texts[count:2 * count]])
        rest = compiled - analyzed - planned - shown
        values = (library, parsed - library, analyzed - parsed, planned, shown, rest, decided, together, together)
        for step, value in zip(STEPS, values, strict=True):
            seen[step].append(value)
    return {step: statistics.median(values) if step != "least" else min(values) for step, values in seen.items()}


def _library(data: bytes) -> None:
    parse._free(parse._parse(data))


def without_compiled_parts(names: list[str], count: int, rounds: int) -> dict[str, dict[str, float]]:
    """The same of a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "pure.json"
        command = [sys.executable, "-m", "tests.bench.inspect", "--count", str(count), "--rounds", str(rounds), "--out", str(out), *names]
        subprocess.run(command, env=os.environ | {"LOCKGATE_PURE": "1"}, stdout=subprocess.DEVNULL, check=True)
        found: dict[str, dict[str, float]] = json.loads(out.read_text())
        return found


def as_the_gateway_does() -> None:
    """Its collector of cycles (``cli.serve``)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.inspect", description=__doc__)
    parser.add_argument("--count", type=int, default=400, help="texts in one round of one step")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--pure", action="store_true", help="also in a process without the compiled parts")
    parser.add_argument("--out", type=Path, help="a JSON file for the numbers")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(TEXTS)}; all without one")
    options = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    names = options.names or list(TEXTS)
    pure = without_compiled_parts(names, max(options.count // 4, 1), options.rounds) if options.pure and not native.PURE else {}
    with tempfile.TemporaryDirectory() as root:
        bench = Bench(Path(root))
        as_the_gateway_does()
        print(f"{'µs of CPU a text':22}" + "".join(f"{step:>11.11}" for step in STEPS) + ("       pure" if pure else ""))
        for name in names:
            found[name] = split(bench, TEXTS[name], options.count, options.rounds)
            if name in pure:
                found[name]["pure"] = pure[name]["together"]
            print(f"{name:22}" + "".join(f"{value:11.1f}" for value in found[name].values()), flush=True)
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
