# SPDX-License-Identifier: Apache-2.0
"""Every fuzz target holds on its seeds, on their prefixes, and on a handful of random bytes; the long run is ``make fuzz``."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name: str) -> None:
    seeds = list(TARGETS[name].seeds())
    assert seeds
    for seed in seeds:
        TARGETS[name].run(seed)


@pytest.mark.parametrize("name", [name for name in TARGETS if name != "sql"])
def test_every_prefix(name: str) -> None:
    for seed in TARGETS[name].seeds():
        for end in range(len(seed)):
            TARGETS[name].run(seed[:end])


@given(st.sampled_from(sorted(TARGETS)), st.binary(max_size=64))
def test_random_bytes(name: str, data: bytes) -> None:
    TARGETS[name].run(data)
