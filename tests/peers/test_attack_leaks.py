# SPDX-License-Identifier: Apache-2.0
"""Attempts to see a masked value: each shows it when sent to the target, and nothing of it through the gateway."""

from __future__ import annotations

import pytest

from tests.peers.attack import Attacked, leaked, outcome
from tests.peers.attack_cases import LEAKS, Case


@pytest.mark.parametrize("case", LEAKS, ids=[case.what for case in LEAKS])
def test_leak(case: Case, attacks: Attacked) -> None:
    through = attacks.send(case.texts)
    assert leaked(through) == set()
    assert outcome(through, [] if case.outcome.startswith("refused") else attacks.directly(case.texts)) == case.outcome
