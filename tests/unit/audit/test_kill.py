# SPDX-License-Identifier: Apache-2.0
"""T62: kill -9 at any moment. Whatever was acknowledged is there, what was open is closed, and the log still verifies."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from tests.unit.audit.log_folder import open_log, records, verify

ROUNDS = 8


def run_and_kill(state: Path, seconds: float) -> list[int]:
    """Seqs that the process said were on disk."""
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(root / "appliance"), str(root)))}
    command = [sys.executable, "-m", "tests.unit.audit.recording_process", str(state)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, cwd=root) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(seconds)
        process.kill()
        rest = process.stdout.read()
        process.wait(30)
    assert process.returncode == -signal.SIGKILL
    return [int(line) for line in (first + rest).decode().splitlines(keepends=True) if line.endswith("\n")]


async def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    chance = random.Random(20261122)
    acknowledged: set[int] = set()
    for _ in range(ROUNDS):
        acknowledged.update(run_and_kill(tmp_path, chance.uniform(0.0, 0.3)))
        assert verify(tmp_path).status == 0, "before anybody mends anything"
        assert acknowledged <= {record["seq"] for record in records(tmp_path) if record["kind"] == "command.begin"}
    assert len(acknowledged) > 100
    await open_log(tmp_path).close()
    assert verify(tmp_path).status == 0
    kept = records(tmp_path)
    begun = [record["seq"] for record in kept if record["kind"] == "command.begin"]
    ends = Counter(record["begin"] for record in kept if record["kind"] == "command.end")
    assert ends == Counter(begun), "each command ended once"
    assert any(record["status"] == "orphaned" for record in kept if record["kind"] == "command.end")
    started = Counter(record["session"] for record in kept if record["kind"] == "session.start")
    stopped = Counter(record["session"] for record in kept if record["kind"] == "session.end")
    assert started == stopped
    assert all(record["reason"] == "gateway stopped" for record in kept if record["kind"] == "session.end")
