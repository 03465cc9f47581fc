# SPDX-License-Identifier: Apache-2.0
"""Whatever a caller sends, and however it is cut into segments: through the gateway it looks as if the target itself had answered, and had
refused what the policy refuses."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocols.postgres import messages
from gateway.protocols.postgres.codec import FrameReader
from gateway.protocols.postgres.messages import Bind, Close, Describe, Execute, Flush, Parse, Query, Sync
from gateway.testing import MemoryAudit
from gateway.testing.scripted import Answer, ScriptedTarget, failure, rows
from tests.unit.protocols.postgres.talk import DENIED, Frame, Room, make_room, talking

SELECT = "select id, total from orders"
INSERT = "insert into orders values (99, 1, 1)"
FAILS = "insert into orders values (1, 1, 1)"
TEXTS = [SELECT, INSERT, FAILS, DENIED, "begin", "commit", "rollback", "savepoint a"]
REFUSED = failure("42501", "denied")
ANSWERS: dict[str, Answer] = {SELECT: rows(["id", "total"], ("1", "10"), ("2", "20")), FAILS: failure("23505", "duplicate key")}

text = st.sampled_from(TEXTS)
statement, portal = st.sampled_from(["", "s", "t"]), st.sampled_from(["", "p"])
part = st.one_of(
    st.builds(Parse, statement, text),
    st.builds(lambda p, s: Bind(p, s), portal, statement),
    st.builds(Describe, st.just("S"), statement),
    st.builds(Describe, st.just("P"), portal),
    st.builds(Execute, portal, st.sampled_from([0, 1])),
    st.builds(Close, st.sampled_from(["S", "P"]), statement),
    st.just(Flush()),
)
pipeline = st.lists(part, max_size=8).map(lambda parts: [*parts, Sync()])
simple = st.builds(lambda one: [Query(one)], text)
series = st.lists(st.one_of(simple, pipeline), min_size=1, max_size=8)


@lru_cache(maxsize=1)
def room() -> Room:
    return make_room(Path(mkdtemp()))


def direct(parts: list[messages.Message]) -> tuple[list[Frame], list[str]]:
    """What a target that refuses by itself would say, and commit."""
    target = ScriptedTarget(ANSWERS | {DENIED: REFUSED, "parse " + DENIED: REFUSED})
    reader = FrameReader(1 << 28)
    reader.feed(target.feed(b"".join(one.encode() for one in parts)))
    return [(chr(kind), payload) for kind, payload in reader], target.committed


async def through(segments: list[bytes]) -> tuple[list[Frame], list[str], MemoryAudit]:
    where = room()
    audit = where.audit = MemoryAudit()
    target = ScriptedTarget(ANSWERS)
    async with talking(where, target) as talk:
        for segment in segments:
            talk.client.data_received(segment)
            if len(segment) % 3:                   # now and then the next segment comes before anything has moved
                await talk.quiet()
        await talk.quiet()
        return list(talk.sent), target.committed, audit


def plain(frames: list[Frame]) -> list[Frame]:
    """Of errors only that there is one: a refusal in an aborted transaction says 42501 where a server says 25P02."""
    return [(kind, b"" if kind == "E" else payload) for kind, payload in frames]


@settings(max_examples=150)
@given(series, st.data())
def test_the_gateway_answers_as_the_target_would(turns: list[list[messages.Message]], data: st.DataObject) -> None:
    parts = [one for turn in turns for one in turn]
    stream = b"".join(one.encode() for one in parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=4)))
    segments = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True) if b > a]
    seen, committed, audit = asyncio.run(through(segments))
    expected, expected_commits = direct(parts)
    assert plain(seen) == plain(expected)
    assert committed == expected_commits
    assert DENIED not in committed
    begun = [record.seq for record in audit.records if record.kind == "command.begin"]
    ended = [record.fields["begin"] for record in audit.records if record.kind == "command.end"]
    assert sorted(begun) == sorted(ended)
