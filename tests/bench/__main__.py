# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.bench --seconds 4 --rounds 3 --out build``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.bench import chart, plan, report
from tests.bench.peers import NAMES, ground


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description="direct, pgbouncer and Lockgate in one interleaved run")
    parser.add_argument("--seconds", type=float, default=4.0, help="of one pgbench run (whole seconds, at least 1)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("build"))
    parser.add_argument("--peers", default=",".join(NAMES), help="which ways to measure; direct is always one")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    taken = []
    with ground(options.peers.split(",")) as peers:
        for sample in plan.samples(peers, options.seconds, options.rounds):
            print(f"  {sample.name:34}{sample.peer:>12}{sample.value:14.1f} {sample.unit}", flush=True)
            taken.append(sample)
    lines = report.lines(taken)
    report.write(lines, options.out / "bench.json")
    (options.out / "bench.svg").write_text(chart.draw(lines))
    print(f"\nmedians of {options.rounds} interleaved rounds\n{report.table(taken)}\n\n{options.out}/bench.json  {options.out}/bench.svg")
    return 0


sys.exit(main())
