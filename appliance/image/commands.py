# SPDX-License-Identifier: Apache-2.0
"""Run programs, loudly when they fail; nothing goes through a shell."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


class CommandFailed(Exception):
    """A program ended with another status than 0. The message holds the end of what it said."""


def run(command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, cwd: Path | None = None, stdin: bytes = b"") -> str:
    """What the program printed. Raises ``CommandFailed``."""
    words = [str(word) for word in command]
    done = subprocess.run(words, env=env, cwd=cwd, input=stdin, capture_output=True, check=False)
    if done.returncode:
        said = (done.stdout + done.stderr).decode(errors="replace").strip().splitlines()[-30:]
        raise CommandFailed(f"{' '.join(words)}: exit status {done.returncode}\n" + "\n".join(said))
    return done.stdout.decode(errors="replace")


def run_visibly(command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
    """As ``run``, for long programs: what it says goes to standard error as it comes."""
    words = [str(word) for word in command]
    done = subprocess.run(words, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
    if done.returncode:
        raise CommandFailed(f"{' '.join(words)}: exit status {done.returncode}")
