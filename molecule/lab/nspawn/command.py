# SPDX-License-Identifier: Apache-2.0
"""Running the system's programs."""

from __future__ import annotations

import subprocess

from .names import LabError


def run(*argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a program; where it fails, its own words are the error."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if check and done.returncode != 0:
        raise LabError(f"{' '.join(argv)}: exit {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return done
