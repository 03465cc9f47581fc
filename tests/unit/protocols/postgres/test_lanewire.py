# SPDX-License-Identifier: Apache-2.0
"""What the lane reads: exactly its own shapes, and the compiled form as the pure one whatever the bytes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.native import compiled
from gateway.protocols.postgres import lanewire, messages
from gateway.protocols.postgres.lanewire import BIND, MORE, OTHER, PARSE, ROWS, TYPED
from gateway.protocols.postgres.messages import Bind, Describe, Execute, Field, Parse, Query, Sync
from gateway.protocols.postgres.recorder import ROWS as SAMPLE_ROWS
from gateway.protocols.postgres.recorder import VALUE, Sample

fast = compiled("gateway.protocols.postgres._lanewire")
value = st.one_of(st.none(), st.binary(max_size=12), st.text(alphabet="ab 1\"\\\x7fü", max_size=8).map(str.encode), st.just(b"x" * 201))
values = st.lists(value, max_size=4).map(tuple)
name = st.sampled_from(["", "", "s", "pgbench_1"])
formats = st.lists(st.integers(0, 2), max_size=3).map(tuple)
group = st.builds(
    lambda parse, portal, name, formats, values, results, describe, rows, sync: b"".join([
        Parse("", "select 1", (23,)).encode() if parse else b"", Bind(portal, name, formats, values, results).encode(),
        Describe("P", "").encode() if describe else b"", Execute("", rows).encode(), Sync().encode() if sync else b""]),
    st.booleans(), st.sampled_from(["", "", "", "p"]), name, formats, values, formats, st.booleans(), st.sampled_from([0, 0, 0, 1]),
    st.sampled_from([True, True, True, False]))
query = st.text(max_size=12).map(lambda text: Query(text.replace("\0", "")).encode())
row = values.map(lambda values: messages.DataRow(values).encode())
P, B, N = b"1\0\0\0\4", b"2\0\0\0\4", b"n\0\0\0\4"
answered = st.builds(
    lambda opening, described, rows, tag, end: opening + (messages.RowDescription((Field("a"),)).encode() if described else b"")
    + b"".join(rows) + messages.CommandComplete(tag).encode() + end,
    st.sampled_from([b"", P, B, P + B, B + N, P + B + N]), st.booleans(), st.lists(row, max_size=4),
    st.sampled_from(["SELECT 1", "BEGIN", ""]), st.sampled_from([b"Z\0\0\0\5I", b"Z\0\0\0\5T", b"Z\0\0\0\5E", b"Z\0\0", b"N"]))
shape = st.sampled_from([0, ROWS, BIND, BIND | PARSE, BIND | TYPED, BIND | ROWS, BIND | TYPED | ROWS, BIND | PARSE | TYPED | ROWS])


def spoilt(whole: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """As it is, cut short, followed by more, or with one byte changed."""
    def change(data: bytes, at: int, byte: int, how: int) -> bytes:
        at = at % max(len(data), 1)
        return (data, data, data[:at], data + bytes([byte]), data[:at] + bytes([byte]) + data[at + 1:])[how]

    return st.builds(change, whole, st.integers(0, 200), st.integers(0, 255), st.integers(0, 4))


@pytest.mark.skipif(fast is None, reason="LOCKGATE_PURE: there is one form only")
@settings(max_examples=1500, deadline=None)
@given(spoilt(st.one_of(group, query, st.binary(max_size=60))))
def test_groups_compiled_and_pure(data: bytes) -> None:
    assert fast is not None
    found = lanewire.split_pure(data)
    assert fast.split(data) == found
    if found is not None and found[1:] != (0, 0, 0, 0):
        for hidden in (frozenset[int](), frozenset({1}), frozenset({2, 3})):
            assert fast.plain(data, found[2], found[3], hidden) == lanewire.plain_pure(data, found[2], found[3], hidden)


@pytest.mark.skipif(fast is None, reason="LOCKGATE_PURE: there is one form only")
@settings(max_examples=1500, deadline=None)
@given(spoilt(answered), shape)
def test_answers_compiled_and_pure(data: bytes, shape: int) -> None:
    assert fast is not None
    assert fast.answer(data, shape) == lanewire.answer_pure(data, shape)


@pytest.mark.skipif(fast is None, reason="LOCKGATE_PURE: there is one form only")
@settings(max_examples=800, deadline=None)
@given(spoilt(st.lists(row, max_size=25).map(b"".join)), st.sampled_from([0, 20, 4096]))
def test_recordings_compiled_and_pure(data: bytes, room: int) -> None:
    assert fast is not None
    head = b'{"columns":["a"],"rows":['
    assert fast.sample(data, head, room, SAMPLE_ROWS, VALUE) == lanewire.sample_pure(data, head, room, SAMPLE_ROWS, VALUE)


@settings(max_examples=400, deadline=None)
@given(st.lists(row, max_size=25), st.sampled_from([0, 20, 4096]))
def test_recordings_are_those_of_the_recorder(rows: list[bytes], room: int) -> None:
    sample = Sample((), room)
    sample.columns((Field("a", 0, 0, 25),))
    sample.rows(b"".join(rows))
    found = lanewire.sample(b"".join(rows), b'{"columns":["a"],"rows":[', room, SAMPLE_ROWS, VALUE)
    assert found is None or found == sample.close()


@given(values)
def test_plain_parameters_are_json(values: tuple[bytes | None, ...]) -> None:
    found = lanewire.split(Bind("", "s", (), values).encode() + lanewire.EXECUTE)
    assert found is not None
    shown = lanewire.plain(Bind("", "s", (), values).encode() + lanewire.EXECUTE, found[2], found[3], frozenset())
    if shown is not None:
        assert json.loads(shown) == [None if one is None else one.decode() for one in values]


@given(values, values, name)
def test_groups_that_differ_in_values_only_have_one_key(one: tuple[bytes | None, ...], other: tuple[bytes | None, ...], name: str) -> None:
    first, second = (lanewire.split(Bind("", name, (), values).encode() + lanewire.EXECUTE) for values in (one, other))
    assert first is not None and second is not None
    assert (first[0] == second[0]) is (len(one) == len(other))


@pytest.mark.parametrize("data", [
    b"", b"Q", Query("a").encode() + b"S", Bind("", "s").encode(), Bind("p", "s").encode() + lanewire.EXECUTE, Sync().encode(),
    Parse("x", "select 1").encode() + Bind("", "x").encode() + lanewire.EXECUTE, Bind("", "s").encode() + lanewire.EXECUTE * 2,
    Bind("", "s").encode() + Execute("", 5).encode() + Sync().encode()])
def test_other_groups_are_not_taken(data: bytes) -> None:
    assert lanewire.split(data) is None


def test_an_answer_is_recognised_only_whole() -> None:
    whole = b"2\0\0\0\4" + messages.RowDescription((Field("a"),)).encode() + messages.DataRow((b"1",)).encode() + (
        messages.CommandComplete("SELECT 1").encode() + b"Z\0\0\0\5I")
    for cut in range(len(whole)):
        assert lanewire.answer(whole[:cut], BIND | TYPED | ROWS) == MORE
    found = lanewire.answer(whole, BIND | TYPED | ROWS)
    assert isinstance(found, tuple)
    assert (whole[found[2]:found[3]], found[4], chr(found[6])) == (messages.DataRow((b"1",)).encode(), 1, "I")
    assert lanewire.answer(whole, BIND | ROWS) == OTHER
    assert lanewire.answer(whole + b"N", BIND | TYPED | ROWS) == OTHER
