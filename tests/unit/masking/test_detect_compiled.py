# SPDX-License-Identifier: Apache-2.0
"""The compiled prefilter sees a candidate exactly where the pattern of hints does, and no detector finds anything without one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.masking import _detect, detect
from gateway.masking.detect import NAMES, Detectors
from gateway.masking.rules import REDACT

PIECES = st.sampled_from(
    [
        b"PRIVATE KEY",
        b"PRIVATE KE",
        b"RIVATE KEY",
        b"AKIAQ",
        b"ASIA1",
        b"AKIA",
        b"AXIAQ",
        b"eyJabcdef",
        b"eyJ-_9aZ0",
        b"eyJabcde",
        b"yJabcdef",
        b"\\u00",
        b"\\u0",
        b"\\u0041",
        b"4111111111111111",
        b"411111111111",
        b"1234567890123",
        b"4111 1111-1111 1",
        b"1  2",
        b"- -",
        b"-",
        b" ",
        b"1",
        b"22",
        b"333",
        b"V",
        b"I",
        b"J",
        b"\\",
        b"x",
        b"\0",
        b"\n",
        b"12345678901  23",
        b"1-2-3-4-5-6-7-8-9-0-1-2-3",
        b"1-2-3-4-5-6-7-8-9-0-1-2",
    ]
)
BLOCKS = st.one_of(
    st.lists(PIECES, max_size=12).map(b"".join), st.binary(max_size=60), st.text("0123456789 -x", max_size=60).map(str.encode)
)


@given(BLOCKS, st.sets(st.sampled_from(NAMES), min_size=1))
def test_candidates(block: bytes, names: set[str]) -> None:
    detectors = Detectors(dict.fromkeys(names, REDACT))
    kinds = sum(detect._KINDS[name] for name in names)
    expected = [match.start() for match in detectors._hint.finditer(block)]
    assert _detect.candidate(block, kinds) == bool(expected)
    found = _detect.places(block, kinds)
    assert bool(found) == bool(expected) and found == sorted(found)


@given(st.lists(BLOCKS, max_size=6), st.sets(st.sampled_from(NAMES), min_size=1))
def test_every_row_with_a_candidate_has_a_place(rows: list[bytes], names: set[str]) -> None:
    """Rows are apart by the bytes of their lengths, which no candidate goes over."""
    detectors = Detectors(dict.fromkeys(names, REDACT))
    apart = [row.replace(b"\0", b"x") for row in rows]
    block = b"\0".join(apart)
    starts = [sum(len(row) + 1 for row in apart[:number]) for number in range(len(apart))]
    kinds = sum(detect._KINDS[name] for name in names)
    places = _detect.places(block, kinds)
    for start, row in zip(starts, apart, strict=True):
        assert any(start <= place < start + len(row) for place in places) == (detectors._hint.search(row) is not None)


@pytest.mark.parametrize("size", range(40))
def test_a_card_number_anywhere(size: int) -> None:
    block = b"x" * size + b"4111111111111" + b"y" * (40 - size)
    assert _detect.candidate(block, 8) and _detect.places(block, 8) == [size]
    assert not _detect.candidate(block, 7) and _detect.places(block.replace(b"4", b"z"), 8) == []


def test_patterns_of_ones_own() -> None:
    detectors = Detectors({"s.ticket": REDACT, "jwt": REDACT}, {"s.ticket": "TKT-[0-9]{6}"})
    assert detectors.candidates(b"a TKT-123456") and not detectors.candidates(b"a TKT-12345")
    assert detectors.places(b"eyJabcdef TKT-123456") == [0, 10]
    assert detectors.text(b"a TKT-123456 b TKT-000000") == b"a **** b ****" and detectors.text(b"nothing") is None
    assert detectors.json(rb'{"a": "TKT-\u00312\u0033456", "b": "x"}') == b'{"a": "****", "b": "x"}'
    slashed = Detectors({"s.path": REDACT}, {"s.path": "a/b"})
    assert slashed.candidates(rb'{"x": "a\/b"}') and slashed.json(rb'{"x": "a\/b"}') == b'{"x": "****"}'
    with pytest.raises(ValueError, match="unknown"):
        Detectors({"s.ticket": REDACT})
