# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.fuzz --seconds 60``: every target for its share of the time. Exit status 1 and the input's file on a find."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from tests.fuzz.targets import TARGETS


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz")
    parser.add_argument("--seconds", type=float, default=60.0, help="for all targets together")
    parser.add_argument("--out", type=Path, default=Path("build/fuzz"), help="where what was found, and the corpus, is kept")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(TARGETS)}; all without one")
    options = parser.parse_args()
    names = options.names or list(TARGETS)
    share = max(1, int(options.seconds / len(names)))
    found = [name for name in names if not _quiet(name, share, options.out.absolute())]
    outcome = f"finds in {', '.join(found)}, under {options.out}" if found else "nothing found"
    print(f"{len(names)} targets, {share} seconds each: {outcome}")
    return 1 if found else 0


def _quiet(name: str, seconds: int, out: Path) -> bool:
    """Run one target; True when it found nothing."""
    (out / name).mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tests.fuzz.one", name, f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2048",
               "-max_len=4096", "-print_final_stats=1", f"-artifact_prefix={out}/{name}-", str(out / name)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds + 600, check=False)
    lines = done.stdout.splitlines()
    executed = next((line.split()[-1] for line in lines if "number_of_executed_units" in line), "?")
    print(f"  {name:10} {executed:>10} inputs  {'ok' if done.returncode == 0 else 'FOUND'}", flush=True)
    if done.returncode:
        print("\n".join(lines[-40:]))
    return done.returncode == 0


sys.exit(main())
