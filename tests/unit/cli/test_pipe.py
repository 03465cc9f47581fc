# SPDX-License-Identifier: Apache-2.0
"""``lockgate … | head``: who reads may leave."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.unit.cli.log_folder import make


def test_a_reader_that_has_left_is_no_traceback(tmp_path: Path) -> None:
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as nobody:
        command = [sys.executable, "-m", "gateway.cli", "sessions", "list", "--config", str(make(tmp_path))]
        done = subprocess.run(command, stdout=nobody, stderr=subprocess.PIPE, timeout=60, check=False, env=buffered)
    assert (done.returncode, done.stderr) == (1, b"")
