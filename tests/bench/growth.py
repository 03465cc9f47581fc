# SPDX-License-Identifier: Apache-2.0
"""How the gateway's cost grows: ``python -m tests.bench.growth --seconds 3 --out build``, part of ``make bench``.

One thing at a time: clients, columns of a result, masked columns, rules, identities, targets, workers, and a disk whose syncs take 5 ms
longer (``slow_vfs``). Each step is a gateway of its own where its folder differs; the figure is the CPU of all its processes for one
transaction, which a busy machine changes less than anything else.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.testing.appliance import Appliance
from tests.bench import measure, report
from tests.bench.peers import DATABASE, ROLE, Ground, Peer, appliance, ground, way_through
from tests.bench.plan import Sample

CLIENTS = (1, 8, 32, 100, 300, 1000)
COLUMNS = (1, 10, 100, 1000)
MASKED = (0, 1, 10, 100)
RULES = (10, 100, 1000, 10_000)
IDENTITIES = (10, 100, 1000, 10_000)
TARGETS = (1, 10, 100)
WORKERS = (1, 2)
CONNECTED = 30
"""Clients that are connected in a second at least: pgbench's time runs meanwhile."""
SETTLING = 60.0
IDLE = 0.03
"""Seconds that a gateway gets to read its catalogs, and seconds of CPU in one below which it has."""
SYNC = "0.005"
SLOW_CLIENTS = (1, 8, 32)
Change = Callable[[Appliance], None]


class _Slow(Appliance):
    """Serves with syncs that take longer."""

    def command(self, *words: str, config: bool = True) -> list[str]:
        found = super().command(*words, config=config)
        return [found[0], "-m", "tests.bench.slow_vfs", SYNC, *found[3:]] if words[0] == "serve" else found

    def variables(self) -> dict[str, str]:
        found = super().variables()
        return found | {"PYTHONPATH": f"{found['PYTHONPATH']}:{Path(__file__).parents[2]}"}


@dataclass(frozen=True, slots=True)
class Growth:
    """What every step needs."""

    ground: Ground
    seconds: float
    rounds: int

    @contextmanager
    def gateway(self, change: Change = lambda made: None, kind: type[Appliance] = Appliance) -> Iterator[Peer]:
        """A gateway of this step's own."""
        with tempfile.TemporaryDirectory(prefix="growth-", dir=self.ground.state) as root:
            made = appliance(Path(root) / "lockgate", self.ground.server, kind)
            change(made)
            with made:
                yield way_through(made)

    def run(self, name: str, peer: Peer, *arguments: str, clients: int = 8, rates: bool = False) -> Iterator[Sample]:
        """pgbench through it, ``rounds`` times."""
        for _ in range(self.rounds):
            latency = rates and clients == 1
            seconds = self.seconds + clients / CONNECTED
            got = measure.pgbench(self.ground.server, peer, *arguments, clients=clients, seconds=seconds, latency=latency)
            if rates:
                yield Sample(f"{name} tps", got.tps, "tx/s", peer.name)
            if got.latency is not None:
                yield Sample(f"{name} p50", got.latency, "µs", peer.name, higher=False)
            if got.cpu is not None:
                yield Sample(f"{name} cpu", got.cpu, "µs/tx", peer.name, higher=False)

    def script(self, name: str, peer: Peer, text: str, *arguments: str) -> Iterator[Sample]:
        """A statement of one's own, prepared, at 8 clients."""
        with tempfile.NamedTemporaryFile("w", suffix=".sql", prefix="growth-") as file:
            file.write(text + "\n")
            file.flush()
            yield from self.run(name, peer, "-M", "prepared", "-f", file.name, *arguments)


def samples(growth: Growth) -> Iterator[Sample]:
    """Everything, one thing after the other."""
    _make_wide(growth)
    with growth.gateway() as peer:
        for clients in CLIENTS:
            yield from growth.run(f"clients {clients}", peer, "-S", "-M", "prepared", clients=clients, rates=True)
        for columns in COLUMNS:
            yield from growth.script(f"columns {columns}", peer, f"select * from wide_{columns}")
    for masked in MASKED:
        with growth.gateway(_masked(masked)) as peer:
            yield from growth.script(f"masked columns {masked} of 100", peer, "select * from wide_100")
    for rules in RULES:
        with growth.gateway(_rules(rules)) as peer:
            yield from growth.run(f"rules {rules} prepared", peer, "-S", "-M", "prepared")
            yield from growth.run(f"rules {rules} unique texts", peer, "-S", "-M", "simple")
            yield _memory(f"rules {rules}", peer)
    for identities in IDENTITIES:
        with growth.gateway(_identities(identities)) as peer:
            yield from growth.run(f"identities {identities} new connection", peer, "-S", "-C", clients=4)
            yield _memory(f"identities {identities}", peer)
    for targets in TARGETS:
        with growth.gateway(_targets(targets, growth.ground.server.address)) as peer:
            _settled(peer)
            yield from growth.run(f"targets {targets} unique texts", peer, "-S", "-M", "simple")
            yield _memory(f"targets {targets}", peer)
    for workers in WORKERS:
        with growth.gateway(_workers(workers)) as peer:
            yield from growth.run(f"workers {workers}", peer, "-S", "-M", "prepared", clients=32, rates=True)
            yield _memory(f"workers {workers}", peer)
    with growth.gateway(kind=_Slow) as peer:
        for clients in SLOW_CLIENTS:
            yield from growth.run(f"syncs of 5 ms, select, {clients} clients", peer, "-S", "-M", "prepared", clients=clients, rates=True)
        yield from growth.run("syncs of 5 ms, update, 8 clients", peer, "-N", "-M", "prepared", rates=True)


def _settled(peer: Peer) -> None:
    """Wait until it has nothing more to do: every catalog has been read. At most ``SETTLING`` seconds."""
    before, until = measure.cpu_seconds(peer.pid or 0), time.monotonic() + SETTLING
    while time.monotonic() < until:
        time.sleep(1.0)
        now = measure.cpu_seconds(peer.pid or 0)
        if now - before < IDLE:
            return
        before = now


def _memory(name: str, peer: Peer) -> Sample:
    return Sample(f"{name} memory", measure.resident_bytes(peer.pid or 0) / 2**20, "MiB", peer.name, higher=False)


def _make_wide(growth: Growth) -> None:
    for columns in COLUMNS:
        names = ", ".join(f"column_{number} int default {number}" for number in range(1, columns + 1))
        growth.ground.server.execute(f'set role "{ROLE}"; create table wide_{columns} ({names}); insert into wide_{columns} default values',
                                     DATABASE)


def _masked(count: int) -> Change:
    def change(made: Appliance) -> None:
        columns = ", ".join(f"public.wide_100.column_{number}: {{value: 0}}" for number in range(1, count + 1))
        made.rewrite("policy/bench.yaml", {"columns: {": f"columns: {{{columns}{', ' if columns else ''}"})
    return change


def _rules(count: int) -> Change:
    def change(made: Appliance) -> None:
        more = "\n".join(f"      - {{name: more-{number}, allow: {{sql: {{verbs: [select], relations: [other.table_{number}]}}}}}}"
                         for number in range(count - 3))
        made.rewrite("policy/bench.yaml", {"    rules:\n": f"    rules:\n{more}\n"})
    return change


def _identities(count: int) -> Change:
    def change(made: Appliance) -> None:
        more = "\n".join(f"  - {{name: robot-{number}, issuer: ci, match: {{sub: \"service:robot-{number}\"}}, owner: dana}}"
                         for number in range(count - 2))
        (made.folder / "policy" / "robots.yaml").write_text(f"identities:\n{more}\n")
    return change


def _targets(count: int, address: str) -> Change:
    def change(made: Appliance) -> None:
        more = "".join(f'  - {{name: bench-{number}, protocol: postgres, address: "{address}", database: bench, tls: {{mode: disable}}, '
                       "credential: bench}\n" for number in range(1, count))
        made.rewrite("policy/bench.yaml", {"resources:\n": f"resources:\n{more}"})
    return change


def _workers(count: int) -> Change:
    return lambda made: made.rewrite("gateway.yaml", {"segment:": f"workers: {count}\nsegment:"})


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.growth", description="how the gateway's cost grows")
    parser.add_argument("--seconds", type=float, default=3.0, help="of one pgbench run (whole seconds, at least 2)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("build"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    taken = []
    with ground(["direct"], connections=max(CLIENTS) + 200) as here:
        for sample in samples(Growth(here, max(2.0, options.seconds), options.rounds)):
            print(f"  {sample.name:44}{sample.value:14.1f} {sample.unit}", flush=True)
            taken.append(sample)
    lines = report.lines(taken)
    report.write(lines, options.out / "growth.json")
    print(f"\nmedians of {options.rounds} rounds\n" + "\n".join(f"{line.name:44}{line.value:14.1f} {line.unit}" for line in lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
