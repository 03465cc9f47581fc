# SPDX-License-Identifier: Apache-2.0
"""Packets and fields: whatever the splits, the same; wrong lengths are the sender's fault and cost no memory (T51)."""

from __future__ import annotations

import contextlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ClientFault, Fault, TargetFault
from gateway.protocols.ssh.sftp import messages as m
from gateway.protocols.ssh.sftp.codec import MAX_PACKET, U32, PacketReader, packet, string

PATHS = st.binary(max_size=60)
HANDLES = st.binary(min_size=1, max_size=20)
NUMBERS = st.integers(0, 2**32 - 1)
LONG = st.integers(0, 2**64 - 1)
PAIRS = st.tuples(NUMBERS, NUMBERS)
ATTRIBUTES = st.builds(m.Attributes, st.none() | LONG, st.none() | PAIRS, st.none() | NUMBERS, st.none() | PAIRS)
REQUESTS = st.one_of(
    st.builds(m.Open, PATHS, NUMBERS, ATTRIBUTES), st.builds(m.Read, HANDLES, LONG, NUMBERS),
    st.builds(m.Write, HANDLES, LONG, st.binary(max_size=200)), st.builds(m.Fsetstat, HANDLES, ATTRIBUTES), st.just(m.Limits()),
    st.builds(m.CopyData, HANDLES, LONG, LONG, HANDLES, LONG),
    *(st.builds(cls, PATHS) for cls in (m.Stat, m.Lstat, m.Opendir, m.Remove, m.Rmdir, m.Realpath, m.Readlink, m.Statvfs, m.ExpandPath)),
    *(st.builds(cls, HANDLES) for cls in (m.Close, m.Fstat, m.Readdir, m.Fstatvfs, m.Fsync)),
    *(st.builds(cls, PATHS, ATTRIBUTES) for cls in (m.Mkdir, m.Setstat, m.Lsetstat)),
    *(st.builds(cls, PATHS, PATHS) for cls in (m.Rename, m.PosixRename, m.Hardlink, m.Symlink)))
ENTRIES = st.builds(m.Entry, PATHS, PATHS, ATTRIBUTES)
ANSWERS = st.one_of(
    st.tuples(st.just(m.Close), st.builds(m.Status, st.integers(0, 8), st.binary(max_size=40), st.binary(max_size=8))),
    st.tuples(st.just(m.Open), st.builds(m.Handle, HANDLES)), st.tuples(st.just(m.Read), st.builds(m.Data, st.binary(max_size=200))),
    st.tuples(st.just(m.Readdir), st.builds(m.Names, st.lists(ENTRIES, max_size=5).map(tuple))),
    st.tuples(st.just(m.Stat), st.builds(m.Found, ATTRIBUTES)), st.tuples(st.just(m.Limits), st.builds(m.Reply, st.just(bytes(32)))))


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(places)]


@given(st.lists(st.tuples(NUMBERS, REQUESTS), max_size=12), st.lists(st.integers(0, 10_000), max_size=12))
def test_requests_survive_any_split(requests: list[tuple[int, m.Message]], cuts: list[int]) -> None:
    reader = PacketReader(ClientFault)
    found: list[tuple[int, m.Message]] = []
    for piece in pieces(b"".join(m.encode_request(*request) for request in requests), cuts):
        reader.feed(piece)
        while (place := reader.next()) is not None:
            found.append(m.parse_request(*place))
    assert found == requests
    assert reader.pending == 0


@given(ANSWERS, NUMBERS)
def test_answers_are_written_as_they_are_read(answer: tuple[type[m.Message], m.Message], number: int) -> None:
    written = m.encode_answer(number, answer[1])
    assert U32.unpack_from(written, 5)[0] == number
    assert m.parse_answer(answer[0], written, 0, len(written)) == answer[1]


@given(st.binary(min_size=1, max_size=120), st.sampled_from([m.Open, m.Read, m.Readdir, m.Stat, m.Limits, m.Close]))
def test_anything_is_a_message_or_a_fault(body: bytes, asked: type[m.Message]) -> None:
    data = packet(body[0], body[1:])
    for parse in (lambda: m.parse_request(data, 0, len(data)), lambda: m.parse_answer(asked, data, 0, len(data))):
        with contextlib.suppress(Fault):
            parse()


@pytest.mark.parametrize("length", [0, MAX_PACKET + 1, 2**31 - 1, 2**32 - 1])
def test_lengths_that_cannot_be_t51(length: int) -> None:
    for fault in (ClientFault, TargetFault):
        reader = PacketReader(fault)
        reader.feed(U32.pack(length))
        with pytest.raises(fault, match="packet"):
            reader.next()


def test_a_packet_in_pieces_is_not_joined_before_it_is_whole() -> None:
    reader = PacketReader(ClientFault)
    whole = packet(m.WRITE, bytes(100_000))
    for at in range(0, len(whole) - 1, 1000):
        reader.feed(whole[at:at + 1000] if at + 1000 < len(whole) else whole[at:-1])
        assert reader.next() is None
    reader.feed(whole[-1:])
    assert reader.next() is not None


def test_a_request_that_is_not_known_is_unknown() -> None:
    own = U32.pack(5)
    for data in (packet(99, own), packet(m.EXTENDED, own + string(b"root@example") + b"abc"),
                 packet(m.EXTENDED, own + string(b"\xff\x1b[2J")), packet(m.SETSTAT, own + string(b"/a") + U32.pack(1 << 31))):
        number, request = m.parse_request(data, 0, len(data))
        assert number == 5
        assert isinstance(request, m.Unknown)
        assert request.name.isprintable()


@pytest.mark.parametrize("body", [
    U32.pack(1) + string(b"/a") + b"more", U32.pack(1) + U32.pack(2**32 - 1) + b"/a", U32.pack(1), b"", U32.pack(1) + string(b"a" * 5000)])
def test_malformed_requests_are_the_callers_fault_t51(body: bytes) -> None:
    data = packet(m.REMOVE, body)
    with pytest.raises(ClientFault):
        m.parse_request(data, 0, len(data))


def test_answers_that_cannot_be_are_the_targets_fault() -> None:
    lies = [(m.Open, m.encode_answer(1, m.Status(m.OK))), (m.Open, m.encode_answer(1, m.Data(b"x"))),
            (m.Open, m.encode_answer(1, m.Handle(b"h" * 300))), (m.Close, m.encode_answer(1, m.Handle(b"h"))),
            (m.Readdir, packet(m.NAME, U32.pack(1) + U32.pack(2**31))), (m.Limits, m.encode_answer(1, m.Reply(b"short"))),
            (m.Close, packet(m.VERSION_ANSWER, U32.pack(3)))]
    for asked, data in lies:
        with pytest.raises(TargetFault):
            m.parse_answer(asked, data, 0, len(data))


def test_beginnings() -> None:
    hello = m.hello(m.INIT, {b"a": b"1"})
    assert m.parse_hello(hello, 0, len(hello), m.INIT, ClientFault) == (3, {b"a": b"1"})
    for wrong in (packet(m.INIT, U32.pack(2)), packet(m.OPEN, U32.pack(3)), packet(m.INIT, U32.pack(3) + string(b"a"))):
        with pytest.raises(ClientFault):
            m.parse_hello(wrong, 0, len(wrong), m.INIT, ClientFault)
