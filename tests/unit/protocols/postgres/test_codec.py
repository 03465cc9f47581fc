# SPDX-License-Identifier: Apache-2.0
"""Framing: whatever the splits, the same messages; wrong lengths are the sender's fault and cost no memory (T23)."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ClientFault, TargetFault
from gateway.protocols.postgres.codec import (
    COPY_DATA,
    DATA_ROW,
    PASSWORD_LIMIT,
    STREAM_ABOVE,
    FrameReader,
    RunReader,
    frame,
    kind_name,
    startup_length,
)

MESSAGES = st.lists(st.tuples(st.sampled_from(b"QPBTDDDDdddCZ"), st.binary(max_size=40)), max_size=30)


def wire(messages: list[tuple[int, bytes]]) -> bytes:
    return b"".join(frame(bytes([kind]), payload) for kind, payload in messages)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(places)]


@given(MESSAGES, st.lists(st.integers(0, 10_000), max_size=12))
def test_frames_survive_any_split(messages: list[tuple[int, bytes]], cuts: list[int]) -> None:
    reader = FrameReader(1000, limits={})
    found: list[tuple[int, bytes]] = []
    for piece in pieces(wire(messages), cuts):
        reader.feed(piece)
        found += reader
    assert found == messages
    assert reader.pending == 0


@given(MESSAGES, st.lists(st.integers(0, 10_000), max_size=12), st.booleans())
def test_runs_are_the_same_bytes_in_the_same_order(messages: list[tuple[int, bytes]], cuts: list[int], stream: bool) -> None:
    reader = RunReader(1000, stream)
    blocks: list[tuple[int, bytes, int]] = []
    for piece in pieces(wire(messages), cuts):
        reader.feed(piece)
        blocks += reader
    assert b"".join(block for _, block, _ in blocks) == wire(messages)
    assert sum(count for _, _, count in blocks) == len(messages)
    assert all(block[0] == kind for kind, block, _ in blocks)
    assert all(count == 1 for kind, _, count in blocks if kind not in (DATA_ROW, COPY_DATA))


def test_a_run_is_one_slice() -> None:
    rows = frame(b"D", b"\0\0") * 5
    reader = RunReader(1000)
    reader.feed(frame(b"T", b"\0\0") + rows + frame(b"C", b"SELECT 5\0"))
    assert list(reader) == [(0x54, frame(b"T", b"\0\0"), 1), (DATA_ROW, rows, 5), (0x43, frame(b"C", b"SELECT 5\0"), 1)]


def test_a_received_chunk_of_rows_is_not_copied() -> None:
    rows = frame(b"D", b"\0\0") * 5
    reader = RunReader(1000)
    reader.feed(rows)
    assert next(iter(reader))[1] is rows


@pytest.mark.parametrize("length", [0, 1, 2, 3, -1, -(2**31), 1005, 2**31 - 1])
@pytest.mark.parametrize("kind", [b"Q", b"D", b"d", b"\x00", b"\xff"])
def test_impossible_lengths(kind: bytes, length: int) -> None:
    head = kind + length.to_bytes(4, "big", signed=True)
    client, target = FrameReader(1000, limits={}), RunReader(1000)
    client.feed(head)
    target.feed(head)
    with pytest.raises(ClientFault, match="length"):
        client.next()
    with pytest.raises(TargetFault, match=r"length|limit"):
        target.next()


def test_an_impossible_length_behind_good_rows() -> None:
    reader = RunReader(1000)
    reader.feed(frame(b"D", b"\0\0") * 2 + b"D\0\0\0\3")
    assert reader.next() == (DATA_ROW, frame(b"D", b"\0\0") * 2, 2)
    with pytest.raises(TargetFault):
        reader.next()


def test_small_messages_have_a_small_limit() -> None:
    reader = FrameReader(1 << 26)
    reader.feed(b"S" + (20_000).to_bytes(4, "big"))
    with pytest.raises(ClientFault):
        reader.next()


def test_a_large_row_passes_in_pieces_when_it_may() -> None:
    row = frame(b"D", b"x" * (STREAM_ABOVE + 10))
    reader = RunReader(64 << 20, stream=True)
    counts, total, most = [], b"", 0
    for at in range(0, len(row), 65536):
        reader.feed(row[at : at + 65536])
        for _, block, count in reader:
            counts.append(count)
            total += block
        most = max(most, reader.pending)
    reader.feed(frame(b"Z", b"I"))
    assert (total, sum(counts), most) == (row, 1, 0)
    assert not reader.inside
    assert reader.next() == (0x5A, frame(b"Z", b"I"), 1)


def test_a_large_row_that_has_to_be_masked_is_collected() -> None:
    row = frame(b"D", b"x" * (STREAM_ABOVE + 10))
    reader = RunReader(64 << 20)
    for at in range(0, len(row), 65536):
        assert list(reader) == []
        reader.feed(row[at : at + 65536])
    assert list(reader) == [(DATA_ROW, row, 1)]


def test_a_row_over_the_limit_is_refused_before_it_is_collected() -> None:
    reader = RunReader(STREAM_ABOVE * 2)
    reader.feed(b"D" + (STREAM_ABOVE * 3).to_bytes(4, "big") + b"x" * 100)
    with pytest.raises(TargetFault):
        list(reader)


def test_streaming_has_no_limit_but_the_protocols() -> None:
    reader = RunReader(1000, stream=True)
    reader.feed(b"d" + (0x3FFFFFFF).to_bytes(4, "big") + b"xx")
    assert reader.next() == (COPY_DATA, b"d\x3f\xff\xff\xffxx", 1)
    assert reader.inside


@pytest.mark.parametrize("length", [0, 3, 7, -1, 10_001, 2**31 - 1])
def test_startup_lengths(length: int) -> None:
    with pytest.raises(ClientFault):
        startup_length(length.to_bytes(4, "big", signed=True))


def test_a_startup_length_counts_itself() -> None:
    assert startup_length((8).to_bytes(4, "big")) == 4
    assert PASSWORD_LIMIT == 65536


def test_the_remainder_goes_to_the_next_reader() -> None:
    reader = FrameReader(1000, limits={})
    reader.feed(frame(b"Q", b"a") + b"Q\0\0")
    assert reader.next() == (0x51, b"a")
    reader.feed(b"\0\6b")
    assert reader.remainder() == b"Q\0\0\0\6b"
    assert reader.next() is None


def test_type_bytes_are_shown_safely() -> None:
    assert (kind_name(0x51), kind_name(0x1B), kind_name(0xFF)) == ("'Q'", "0x1b", "0xff")
