# SPDX-License-Identifier: Apache-2.0
"""``docs/masking-matrix.md`` says what the attack tests see."""

from __future__ import annotations

from tests.peers.attack_cases import PAGE, render


def test_the_page_is_the_table() -> None:
    assert PAGE.read_text() == render(), "python -m tests.peers.attack_cases"
