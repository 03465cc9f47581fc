# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.bench --seconds 4 --rounds 3 --out build``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.bench import chart, plan, report, ssh
from tests.bench.peers import NAMES, ground
from tests.bench.plan import Sample


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description="direct, pgbouncer and Lockgate in one interleaved run; "
                                     "then SSH the same way: direct, through a jump host and through Lockgate")
    parser.add_argument("--seconds", type=float, default=4.0, help="of one pgbench run (whole seconds, at least 1)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("build"))
    parser.add_argument("--peers", default=",".join(NAMES), help="which ways to measure; direct is always one")
    parser.add_argument("--protocol", choices=("postgres", "ssh", "both"), default="both")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rounds = f"\nmedians of {options.rounds} interleaved rounds\n"
    if options.protocol != "ssh":
        with ground(options.peers.split(",")) as peers:
            taken = _shown(plan.samples(peers, options.seconds, options.rounds))
        lines = report.lines(taken)
        report.write(lines, options.out / "bench.json")
        (options.out / "bench.svg").write_text(chart.draw(lines))
        print(f"{rounds}{report.table(taken)}\n\n{options.out}/bench.json  {options.out}/bench.svg")
    if options.protocol != "postgres":
        taken = _shown(ssh.samples(Path("/var/tmp"), options.seconds, options.rounds))
        report.write(report.lines(taken), options.out / "bench-ssh.json")
        print(f"{rounds}{report.ways(taken, ssh.WAYS, ('direct', 'jump'))}\n\n{options.out}/bench-ssh.json")
    return 0


def _shown(samples: Iterable[Sample]) -> list[Sample]:
    """All of them, each printed as it comes."""
    taken = []
    for sample in samples:
        print(f"  {sample.name:34}{sample.peer:>12}{sample.value:14.1f} {sample.unit}", flush=True)
        taken.append(sample)
    return taken


sys.exit(main())
