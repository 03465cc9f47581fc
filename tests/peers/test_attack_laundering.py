# SPDX-License-Identifier: Apache-2.0
"""Attempts to move a masked value to where it can be read: none of them is sent to the target."""

from __future__ import annotations

import pytest

from tests.peers.attack import Attacked, leaked, outcome
from tests.peers.attack_cases import LAUNDERING, Case


@pytest.mark.parametrize("case", LAUNDERING, ids=[case.what for case in LAUNDERING])
def test_laundering(case: Case, attacks: Attacked) -> None:
    through = attacks.send(case.texts)
    assert leaked(through) == set()
    assert outcome(through, []) == case.outcome
