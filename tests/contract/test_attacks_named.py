# SPDX-License-Identifier: Apache-2.0
"""Every attack of the list that concerns what this gateway speaks today has a test that carries its number.

T1 to T16 are Identity, T17 to T36 PostgreSQL, T57 to T61 Approvals, T62 to T70 Recording and the appliance.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

ELSEWHERE = {
    15: "single sign-on in a browser: comes with the web console",
}
"""What this gateway does not have yet, so that there is nothing to attack."""

CONCERNED = [number for number in (*range(1, 37), *range(46, 54), *range(57, 71)) if number not in ELSEWHERE]


def named() -> set[int]:
    found: set[int] = set()
    for path in TESTS.rglob("test_*.py"):
        for name in re.findall(r"def (test_\w+)", path.read_text()):
            found |= {int(number) for number in re.findall(r"_t(\d+)(?=_|$)", name)}
    return found


@pytest.mark.parametrize("number", CONCERNED)
def test_the_attack_has_a_named_test(number: int) -> None:
    assert number in named(), f"no test carries _t{number:02d} in its name"
