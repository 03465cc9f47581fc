# SPDX-License-Identifier: Apache-2.0
"""What tools and applications send every day comes back byte for byte, masks or not."""

from __future__ import annotations

import pytest

from tests.peers.attack import Attacked, outcome
from tests.peers.attack_cases import BENIGN, Case


@pytest.mark.parametrize("case", BENIGN, ids=[case.what for case in BENIGN])
def test_benign(case: Case, attacks: Attacked) -> None:
    assert outcome(attacks.send(case.texts), attacks.directly(case.texts)) == case.outcome
