# SPDX-License-Identifier: Apache-2.0
"""Parts of a program's recording: what goes in comes out, in bounded memory, and beyond the limit sizes and a digest alone."""

from __future__ import annotations

import os
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocols.ssh.recorder import PART, ChannelRecorder, Part
from gateway.recording.terminal import KINDS, LARGEST_PART, Event, decode, encoded, listed, packed, unlisted


def parts(recorder: ChannelRecorder) -> list[Part]:
    found = []
    while (part := recorder.take()) is not None:
        found.append(part)
    return found


def test_a_program_on_a_terminal() -> None:
    recorder = ChannelRecorder(1000, 50.0, ("xterm", 80, 24))
    recorder.output(b"$ ", stderr=False, at=50.1)
    recorder.input(b"ls\r", 50.15)
    recorder.resized(100, 30, 50.2)
    recorder.signal("INT", 50.3)
    recorder.env("LANG", "C", 50.3)
    recorder.output(b"oops", stderr=True, at=50.4)
    assert recorder.take() is None
    recorder.exit(130, 50.5)
    part, = parts(recorder)
    assert decode(part) == [
        Event(0, "b", b'{"term": "xterm", "cols": 80, "rows": 24}'), Event(100_000, "o", b"$ "), Event(150_000, "I", b"3"),
        Event(200_000, "r", b"100x30"), Event(300_000, "s", b"INT"), Event(300_000, "v", b"LANG=C"), Event(400_000, "e", b"oops"),
        Event(500_000, "x", b"130")]
    assert part.fields == {"part": 0, "first": 0.0, "last": 0.5, "bytes": 6}


def test_a_part_is_due_after_a_second_and_each_can_be_read_alone() -> None:
    recorder = ChannelRecorder(1000, 0.0)
    assert ChannelRecorder(1000, 3.0).due == 4.0
    recorder.output(b"a", stderr=False, at=0.5)
    assert recorder.take() is None
    recorder.output(b"b", stderr=False, at=1.25)
    first = recorder.take()
    assert first is not None
    assert recorder.due is None
    recorder.output(b"c", stderr=False, at=7)
    recorder.exit(0, 7)
    second = recorder.take()
    assert second is not None
    assert [event.at for event in decode(second)] == [7_000_000, 7_000_000]
    quiet = ChannelRecorder(1000, 0.0)
    assert quiet.take(0.9) is None
    assert quiet.take(1.0) is not None
    assert (second.fields["part"], second.fields["first"]) == (1, 7.0)


def test_typed_input_is_kept_where_that_is_wanted() -> None:
    recorder = ChannelRecorder(1000, 0.0, keep_input=True)
    recorder.input(b"ls\r", 0.1)
    recorder.exit(0, 1)
    assert [(event.kind, event.data) for event in decode(parts(recorder)[0])][1] == ("i", b"ls\r")


def test_beyond_the_limit_only_sizes_and_a_digest_go_on() -> None:
    recorder = ChannelRecorder(10, 0.0)
    recorder.output(b"0123456", stderr=False, at=0.1)
    recorder.output(b"789secret", stderr=False, at=0.2)
    recorder.output(b"more", stderr=True, at=3)
    recorder.exit(0, 4)
    events = [event for part in parts(recorder) for event in decode(part)]
    assert [(event.kind, event.data) for event in events] == [
        ("b", b""), ("o", b"0123456"), ("o", b"789"), ("c", b""), ("z", b"10"), ("h", b"10 " + sha256(b"secretmore").hexdigest().encode()),
        ("x", b"0")]


def test_memory_is_one_part_and_a_part_stays_below_a_quarter_of_a_mebibyte() -> None:
    recorder, taken = ChannelRecorder(2**30, 0.0), []
    data = [os.urandom(32768) for _ in range(64)]
    for turn, block in enumerate(data):
        recorder.output(block, stderr=False, at=turn / 1000)
        assert len(recorder._body) <= PART + 33_000
        taken += parts(recorder)
    recorder.exit(0, 1)
    taken += parts(recorder)
    assert max(map(len, taken)) <= 256 * 2**10
    assert b"".join(event.data for part in taken for event in decode(part) if event.kind == "o") == b"".join(data)


EVENTS = st.lists(st.tuples(st.integers(0, 10**12), st.sampled_from(sorted(KINDS)), st.binary(max_size=40)), max_size=20)


@settings(deadline=None)
@given(st.integers(0, 2**50), EVENTS)
def test_what_is_packed_is_read(start: int, given_events: list[tuple[int, str, bytes]]) -> None:
    body, at, want = bytearray(), start, []
    for delta, kind, data in given_events:
        body += encoded(delta, kind, data)
        at += delta
        want.append(Event(at, kind, data))
    assert decode(packed(start, bytes(body))) == want
    some = [Event(event.at % 10**9, event.kind, event.data) for event in want]
    assert unlisted(listed(some)) == some


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(0, 100))
def test_what_is_broken_is_refused(noise: bytes, place: int) -> None:
    part = packed(5, encoded(1, "o", b"text") + encoded(1, "x", b"0"))
    for broken in (noise, b"LGT1" + noise, part[:place % len(part)], packed(0, noise)):
        try:
            decode(broken)
        except ValueError:
            continue
    with pytest.raises(ValueError, match="size"):
        decode(packed(0, encoded(0, "o", bytes(LARGEST_PART))))
    wrongs: list[object] = [{}, [1], [[1, "q", "x"]], [[1, "o!", "\u20ac"]]]
    for wrong in wrongs:
        with pytest.raises(ValueError, match="not an event"):
            unlisted(wrong)
