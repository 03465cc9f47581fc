# SPDX-License-Identifier: Apache-2.0
"""COPY both ways through a session."""

from __future__ import annotations

from pathlib import Path

from gateway.protocols.postgres import messages
from gateway.protocols.postgres.messages import Bind, CopyData, CopyDone, CopyFail, CopyResponse, Execute, Parse, Query, Sync
from gateway.testing.scripted import Answer, ScriptedTarget, failure
from tests.unit.protocols.postgres.talk import DENIED, errors, grant, kinds, make_room, status, talking

IN, OUT, MASKED = "copy orders from stdin", "copy orders to stdout", "copy customers (id, ssn) to stdout"
BEGINS_IN = [CopyResponse("G", 0, (0, 0, 0))]
LINES = [CopyData(b"1\t1\t1\n"), CopyData(b"2\t1\t1\n")]


async def test_copy_in(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path), ScriptedTarget({IN: BEGINS_IN})) as talk:
        assert kinds(await talk.query(IN)) == "G"
        answer = await talk.say(*LINES, CopyDone())
        assert (kinds(answer), answer[0][1]) == ("CZ", b"COPY 2\0")
        assert talk.target.copied == [line.data for line in LINES]
    assert (talk.target.committed, talk.ended()) == ([IN], ["ok"])


async def test_copy_in_that_waits_for_nothing(tmp_path: Path) -> None:
    """Everything at once: what comes behind the Query waits until the target takes it."""
    async with talking(make_room(tmp_path), ScriptedTarget({IN: BEGINS_IN})) as talk:
        answer = await talk.say(Query(IN), *LINES, CopyDone(), Query("select 1 from orders"))
        assert kinds(answer) == "GCZCZ"


async def test_copy_in_by_the_extended_protocol_with_a_sync_inside(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path), ScriptedTarget({IN: BEGINS_IN})) as talk:
        answer = await talk.run(Parse("", IN), Bind("", ""), Execute(""))
        assert kinds(answer) == "12G"
        answer = await talk.say(*LINES, Sync(), CopyDone(), Sync())
        assert kinds(answer) == "CZ"
    assert talk.target.committed == [IN]


async def test_copy_fail(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path), ScriptedTarget({IN: BEGINS_IN})) as talk:
        await talk.query(IN)
        answer = await talk.say(*LINES, CopyFail("no more"))
        assert (kinds(answer), errors(answer), status(answer)) == ("EZ", ["57014"], "I")
        assert kinds(await talk.query("select 1 from orders")) == "CZ"
    assert talk.target.committed == ["select 1 from orders"]
    assert talk.ended() == ["cancelled", "ok"]


async def test_copy_in_that_the_target_refuses(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path), ScriptedTarget({IN: failure("42501", "permission denied")})) as talk:
        answer = await talk.say(Query(IN), *LINES, CopyDone())
        assert (kinds(answer), status(answer)) == ("EZ", "I")
        assert talk.target.copied == []
        assert kinds(await talk.query("select 1 from orders")) == "CZ"


async def test_copy_in_that_the_policy_refuses(tmp_path: Path) -> None:
    rules = [{"name": "read", "allow": {"sql": {"verbs": ["select", "copy-to"], "relations": ["public.*"]}}}]
    async with talking(make_room(tmp_path, grant(rules))) as talk:
        answer = await talk.say(Query(IN), *LINES, CopyDone())
        assert (kinds(answer), errors(answer)) == ("EZ", ["42501"])
        assert talk.target.received == []
        answer = await talk.say(Parse("", IN), Bind("", ""), Execute(""), *LINES, CopyDone(), Sync())
        assert (kinds(answer), errors(answer)) == ("EZ", ["42501"])
        assert talk.target.received == []


async def test_an_error_in_the_middle_of_copy_in(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path), ScriptedTarget({IN: BEGINS_IN})) as talk:
        await talk.query(IN)
        await talk.say(LINES[0])
        talk.target._copying = ""
        talk.target_says(*failure("22P04", "extra data after last expected column"), messages.ReadyForQuery("I"))
        assert kinds(await talk.quiet()) == "EZ"
        assert kinds(await talk.say(LINES[1], CopyDone())) == ""
        assert kinds(await talk.query("select 1 from orders")) == "CZ"
    assert talk.ended() == ["error", "ok"]


async def test_another_message_during_copy_in_ends_the_session(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path), ScriptedTarget({IN: BEGINS_IN})) as talk:
        await talk.query(IN)
        assert errors(await talk.query(DENIED)) == ["08P01"]
    assert talk.target.committed == []


async def test_copy_out(tmp_path: Path) -> None:
    answer: Answer = [CopyResponse("H", 0, (0, 0, 0)), *LINES, CopyDone(), messages.CommandComplete("COPY 2")]
    async with talking(make_room(tmp_path), ScriptedTarget({OUT: answer})) as talk:
        assert kinds(await talk.query(OUT)) == "HddcCZ"
        assert kinds(await talk.run(Parse("", OUT), Bind("", ""), Execute(""))) == "12HddcCZ"
    assert [end["rows"] for end in talk.audit.of("command.end")] == [2, 0, 2]          # the second is the Parse


async def test_copy_out_is_masked(tmp_path: Path) -> None:
    """T28."""
    lines = [CopyData(b"1\t078-05-1120\n"), CopyData(b"2\t\\N\n")]
    answer: Answer = [CopyResponse("H", 0, (0, 0)), *lines, CopyDone(), messages.CommandComplete("COPY 2")]
    async with talking(make_room(tmp_path, grant(masks=True)), ScriptedTarget({MASKED: answer})) as talk:
        got = await talk.query(MASKED)
        assert b"".join(payload for kind, payload in got if kind == "d") == b"1\t****\n2\t\\N\n"
    assert talk.audit.of("command.end")[0]["masked"] == 1
    assert "078-05-1120" not in talk.audit.text()


async def test_t28_binary_copy_of_masked_columns_is_masked(tmp_path: Path) -> None:
    text = f"{MASKED} with (format binary)"
    row = b"\0\2\0\0\0\4\0\0\0\1\0\0\0\x0b078-05-1120"
    answer: Answer = [CopyResponse("H", 1, (1, 1)), CopyData(b"PGCOPY\n\xff\r\n\0" + bytes(8) + row), CopyData(row), CopyData(b"\xff\xff"),
                      CopyDone(), messages.CommandComplete("COPY 2")]
    async with talking(make_room(tmp_path, grant(masks=True)), ScriptedTarget({text: answer})) as talk:
        got = await talk.query(text)
        assert kinds(got) == "HdddcCZ" and all(b"078" not in payload for _, payload in got)
        assert sum(payload.count(b"\0\0\0\4****") for _, payload in got) == 2
    assert "078-05-1120" not in talk.audit.text()


async def test_t28_a_copy_in_another_format_than_asked_for(tmp_path: Path) -> None:
    """The target's word on the format does not decide how its rows are read."""
    answer: Answer = [CopyResponse("H", 1, (1, 1)), CopyData(b"1\t078-05-1120\n"), CopyDone(), messages.CommandComplete("COPY 1")]
    async with talking(make_room(tmp_path, grant(masks=True)), ScriptedTarget({MASKED: answer})) as talk:
        got = await talk.query(MASKED)
        assert "d" not in kinds(got) and all(b"078" not in payload for _, payload in got)


async def test_t28_copy_with_other_options_is_refused(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path, grant(masks=True))) as talk:
        assert errors(await talk.query("copy customers to stdout with (format csv, encoding 'LATIN1')")) == ["42501"]
        assert errors(await talk.query("copy customers to stdout with (null '-')")) == ["42501"]
        assert talk.target.received == []


async def test_copy_out_over_the_row_limit(tmp_path: Path) -> None:
    answer: Answer = [CopyResponse("H", 0, (0, 0, 0)), *LINES * 5, CopyDone(), messages.CommandComplete("COPY 10")]
    async with talking(make_room(tmp_path, grant(session={"rows": 4})), ScriptedTarget({OUT: answer})) as talk:
        got = await talk.query(OUT)
        assert (kinds(got), errors(got)) == ("HddddE", ["53400"])


async def test_t28_a_copy_that_nobody_asked_for_ends_the_session(tmp_path: Path) -> None:
    """T34, T28 (CopyBothResponse)."""
    text = "select 1 from orders"
    told: Answer = (CopyResponse("G", 0, ()), CopyResponse("H", 0, ()), b"W\0\0\0\7\0\0\0")
    for number, one in enumerate(told):
        async with talking(make_room(tmp_path / str(number)), ScriptedTarget({text: [one]})) as talk:
            assert errors(await talk.query(text)) == ["08P01"]
