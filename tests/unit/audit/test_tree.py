# SPDX-License-Identifier: Apache-2.0
"""The tree against RFC 6962 written down literally, and against its own examples of what must not verify."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.audit.tree import (
    EMPTY_ROOT,
    Tree,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)


def mth(entries: list[bytes]) -> bytes:
    """Section 2.1, MTH(D[n])."""
    if not entries:
        return sha256(b"").digest()
    if len(entries) == 1:
        return sha256(b"\x00" + entries[0]).digest()
    k = 1
    while k * 2 < len(entries):
        k *= 2
    return sha256(b"\x01" + mth(entries[:k]) + mth(entries[k:])).digest()


ENTRIES = st.lists(st.binary(max_size=6), min_size=1, max_size=70)


@given(ENTRIES)
def test_the_root_is_that_of_the_rfc(entries: list[bytes]) -> None:
    assert root_of([leaf_hash(entry) for entry in entries]) == mth(entries)


def test_the_empty_tree() -> None:
    assert Tree().root() == EMPTY_ROOT == mth([])


@settings(max_examples=60)
@given(ENTRIES, st.data())
def test_every_leaf_is_proved_and_no_other(entries: list[bytes], data: st.DataObject) -> None:
    leaves = [leaf_hash(entry) for entry in entries]
    index = data.draw(st.integers(0, len(leaves) - 1))
    proof, root = inclusion_proof(leaves, index), mth(entries)
    assert verify_inclusion(leaves[index], index, len(leaves), proof, root)
    assert not verify_inclusion(leaf_hash(b"another leaf"), index, len(leaves), proof, root)
    assert not verify_inclusion(leaves[index], index, len(leaves), [*proof, b"\x00" * 32], root)
    assert not verify_inclusion(leaves[index], len(leaves), len(leaves), proof, root)


@settings(max_examples=60)
@given(ENTRIES, st.data())
def test_every_earlier_tree_is_proved_and_no_other(entries: list[bytes], data: st.DataObject) -> None:
    leaves = [leaf_hash(entry) for entry in entries]
    old = data.draw(st.integers(1, len(leaves)))
    proof, root = consistency_proof(leaves, old), mth(entries)
    assert verify_consistency(old, len(leaves), mth(entries[:old]), root, proof)
    other = mth([*entries[:old - 1], b"another entry"])
    assert not verify_consistency(old, len(leaves), other, root, proof)
    if old < len(leaves):
        assert not verify_consistency(old, len(leaves), mth(entries[:old]), mth([*entries, b"more"]), proof)
        assert not verify_consistency(old, len(leaves), mth(entries[:old]), root, proof[:-1])


@given(ENTRIES, st.data())
def test_peaks_are_enough_to_go_on(entries: list[bytes], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(entries)))
    first = Tree()
    for entry in entries[:cut]:
        first.append(leaf_hash(entry))
    again = Tree(first.size, first.peaks)
    for entry in entries[cut:]:
        again.append(leaf_hash(entry))
    assert again.root() == mth(entries)


@pytest.mark.parametrize(("size", "peaks"), [(1, []), (3, [b"\x00" * 32]), (2, [b"short"]), (-1, [])])
def test_peaks_that_cannot_be(size: int, peaks: list[bytes]) -> None:
    with pytest.raises(ValueError, match="peaks"):
        Tree(size, peaks)
