# SPDX-License-Identifier: Apache-2.0
"""The cache of compiled statements is bounded by what they take, not by how long their texts are."""

from __future__ import annotations

from gateway.protocols.postgres.targets import CACHED_BYTES, CACHED_STATEMENTS, CompiledCache


def test_old_entries_go_when_the_new_ones_are_heavy() -> None:
    cache = CompiledCache()
    for number in range(100):
        cache.put(number, number, CACHED_BYTES // 20)
    assert [number for number in range(100) if cache.get(number) is not None] == list(range(80, 100))


def test_what_is_very_large_is_not_kept_and_pushes_nothing_out() -> None:
    cache = CompiledCache()
    cache.put("small", 1, 100)
    cache.put("large", 2, CACHED_BYTES)
    assert (cache.get("small"), cache.get("large")) == (1, None)


def test_an_entry_that_is_put_again_counts_once() -> None:
    cache = CompiledCache()
    for _ in range(100):
        cache.put("same", 1, CACHED_BYTES // 20)
    cache.put("other", 2, 100)
    assert (cache.get("same"), cache.get("other")) == (1, 2)


def test_their_number_is_bounded() -> None:
    cache = CompiledCache()
    for number in range(CACHED_STATEMENTS + 10):
        cache.put(number, number, 1)
    assert cache.get(9) is None and cache.get(10) == 10


def test_what_is_equal_has_one_number_and_no_number_comes_again() -> None:
    cache = CompiledCache()
    first = cache.number(("a", 1))
    assert cache.number(("a", 1)) == first
    seen = {cache.number(("other", number)) for number in range(2 * CACHED_STATEMENTS)}
    assert len(seen) == 2 * CACHED_STATEMENTS and first not in seen
    assert cache.number(("a", 1)) not in seen | {first}
