# SPDX-License-Identifier: Apache-2.0
"""docs/hardening.md is what the registers and waivers say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_page_is_up_to_date() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "tools" / "hardening.py"), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
