# SPDX-License-Identifier: Apache-2.0
"""Simple queries through a session: what passes, what is refused, and what the target learns of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.protocols.postgres import messages
from gateway.testing.scripted import CONTEXT, Answer, ScriptedTarget, done, failure, rows
from tests.unit.protocols.postgres.talk import DENIED, error, errors, grant, kinds, make_room, status, table, talking, values

SELECT = "select id, total from orders where id = 1"
INSERT = "insert into orders values (99, 1, 1)"


async def test_a_select_passes_and_is_recorded(tmp_path: Path) -> None:
    target = ScriptedTarget({SELECT: rows(["id", "total"], ("1", "1.5"))})
    async with talking(make_room(tmp_path), target) as talk:
        answer = await talk.query(SELECT)
        assert (kinds(answer), values(answer), status(answer)) == ("TDCZ", [("1", "1.5")], "I")
    assert talk.begun() == [(SELECT, "allow")]
    assert [(end["status"], end["rows"]) for end in talk.audit.of("command.end")] == [("ok", 1)]
    assert talk.audit.of("session.end")[0]["reason"] == "closed by the caller"


async def test_what_was_asked_at_the_login_is_not_asked_again(tmp_path: Path) -> None:
    target = ScriptedTarget({SELECT: rows(["id", "total"], ("1", "1.5"))})
    async with talking(make_room(tmp_path), target) as talk:
        talk.relay.context.begin(CONTEXT)
        assert values(await talk.query(SELECT)) == [("1", "1.5")]
        assert b"current_schemas" not in talk.to_target


@pytest.mark.parametrize("row", [CONTEXT[:5], ("nothing", *CONTEXT[1:]), (*CONTEXT[:6], "off", *CONTEXT[7:])])
async def test_what_cannot_be_used_of_it_is_asked_again(tmp_path: Path, row: tuple[str, ...]) -> None:
    target = ScriptedTarget({SELECT: rows(["id", "total"], ("1", "1.5"))})
    async with talking(make_room(tmp_path), target) as talk:
        talk.relay.context.begin(row)
        assert talk.relay.context.stale
        assert values(await talk.query(SELECT)) == [("1", "1.5")]
        assert b"current_schemas" in talk.to_target


async def test_a_refusal_while_idle_sends_the_target_nothing(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path)) as talk:
        await talk.query(SELECT)
        talk.target.received.clear()
        answer = await talk.query(DENIED)
        assert (kinds(answer), errors(answer), status(answer)) == ("EZ", ["42501"], "I")
        assert talk.target.received == []
        assert status(await talk.query(SELECT)) == "I"
    assert talk.begun() == [(SELECT, "allow"), (DENIED, "deny"), (SELECT, "allow")]
    assert talk.ended() == ["ok", "refused", "ok"]


async def test_a_refusal_in_a_transaction_aborts_it(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path)) as talk:
        assert status(await talk.query("begin")) == "T"
        await talk.query(INSERT)
        answer = await talk.query(DENIED)
        assert (errors(answer), status(answer)) == (["42501"], "E")
        answer = await talk.query(INSERT)
        assert (errors(answer), status(answer)) == (["25P02"], "E")
        answer = await talk.query("commit")
        assert (answer[0], status(answer)) == (("C", b"ROLLBACK\0"), "I")
    assert talk.target.committed == []
    assert DENIED not in talk.target.ran


async def test_rollback_to_a_savepoint_after_a_refusal(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path)) as talk:
        await talk.query("begin")
        await talk.query(INSERT)
        await talk.query("savepoint a")
        assert status(await talk.query(DENIED)) == "E"
        assert status(await talk.query("rollback to a")) == "T"
        assert status(await talk.query("commit")) == "I"
    assert INSERT in talk.target.committed


async def test_one_denied_statement_refuses_the_whole_text(tmp_path: Path) -> None:
    """T24."""
    async with talking(make_room(tmp_path)) as talk:
        answer = await talk.query(f"{SELECT}; {DENIED}")
        assert (errors(answer), status(answer)) == (["42501"], "I")
        assert talk.target.received == []


async def test_what_cannot_be_parsed_is_refused_and_recorded_without_its_literals(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path)) as talk:
        answer = await talk.query("selec 'a secret thing'")
        assert (errors(answer), kinds(answer)) == (["42601"], "EZ")
        assert talk.target.received == []
    assert "a secret thing" not in talk.audit.text()


async def test_an_unknown_name_gets_the_targets_own_code(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path)) as talk:
        assert errors(await talk.query("select 1 from nowhere")) == ["42P01"]
        assert errors(await talk.query("select nothing from orders")) == ["42703"]
        assert talk.target.received == []
    assert [effect for _, effect in talk.begun()] == ["deny", "deny"]


async def test_empty_text_passes_and_is_recorded_as_empty(tmp_path: Path) -> None:
    target = ScriptedTarget({"": [messages.EMPTY_QUERY_RESPONSE]})
    async with talking(make_room(tmp_path), target) as talk:
        assert kinds(await talk.query("")) == "IZ"
    assert talk.audit.of("command.begin")[0]["verb"] == "empty"


async def test_an_error_of_the_target_passes_and_ends_the_command(tmp_path: Path) -> None:
    target = ScriptedTarget({INSERT: failure("23505", "duplicate key value", D="Key (id)=(99) already exists.")})
    async with talking(make_room(tmp_path), target) as talk:
        answer = await talk.query(INSERT)
        assert error(answer)["D"] == "Key (id)=(99) already exists."
    assert [(end["status"], end["error"]) for end in talk.audit.of("command.end")] == [("error", "23505")]


async def test_pipelined_simple_queries_are_answered_in_order(tmp_path: Path) -> None:
    target = ScriptedTarget({SELECT: rows(["id", "total"], ("1", "2"))})
    async with talking(make_room(tmp_path), target) as talk:
        answer = await talk.say(*(messages.Query(text) for text in ("begin", INSERT, DENIED, "commit", SELECT)))
        assert errors(answer) == ["42501"]
        assert kinds(answer) == "CZCZEZCZTDCZ"
        assert [payload for kind, payload in answer if kind == "Z"] == [b"T", b"T", b"E", b"I", b"I"]
    assert INSERT not in talk.target.committed


async def test_a_function_call_message_is_refused(tmp_path: Path) -> None:
    """T26: nothing decides on the fastpath, so nothing of it passes."""
    async with talking(make_room(tmp_path)) as talk:
        answer = await talk.say(messages.FunctionCall(b"\0\0\4\1\0\0\0\0\0\0"))
        assert errors(answer) == ["0A000"]
        assert talk.target.received in ([], [("X", b"")])
    assert talk.audit.of("session.end")[0]["reason"].startswith("client:")


async def test_an_unknown_message_ends_the_session(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path)) as talk:
        assert errors(await talk.say(b"y\0\0\0\4")) == ["08P01"]
        assert talk.target.received in ([], [("X", b"")])


async def test_notices_pass_and_are_scrubbed_with_masks_in_force(tmp_path: Path) -> None:
    text = "select name from customers"
    told = messages.notice("value 078-05-1120 seen")
    for masks in (False, True):
        target = ScriptedTarget({text: [told, *rows(["name"])]})
        async with talking(make_room(tmp_path / str(masks), grant(masks=masks)), target) as talk:
            answer = await talk.query(text)
            assert kinds(answer) == "NTCZ"
            assert (b"078-05-1120" in answer[0][1]) is not masks


async def test_notifications_show_no_payload_with_masks_in_force(tmp_path: Path) -> None:
    for masks in (False, True):
        async with talking(make_room(tmp_path / str(masks), grant(masks=masks))) as talk:
            talk.target_says(messages.Notification(7, "news", "078-05-1120"))
            answer = await talk.quiet()
            assert kinds(answer) == "A"
            assert (b"078-05-1120" in answer[0][1]) is not masks
            assert b"news" in answer[0][1]


async def test_a_pinned_setting_changed_by_the_target_ends_the_session(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path)) as talk:
        talk.target_says(messages.ParameterStatus("application_name", "x"))
        assert kinds(await talk.quiet()) == "S"
        talk.target_says(messages.ParameterStatus("standard_conforming_strings", "off"))
        assert errors(await talk.quiet()) == ["42501"]


async def test_what_the_caller_sent_before_its_goodbye_still_runs(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path)) as talk:
        await talk.say(messages.Query(INSERT), messages.Terminate())
    assert talk.target.committed == [INSERT]
    assert talk.ended() == ["ok"]


async def test_denials_end_the_session_at_the_limit(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path, grant(session={"denials": 2}))) as talk:
        assert errors(await talk.query(DENIED)) == ["42501"]
        assert errors(await talk.query(DENIED)) == ["42501", "57P01"]
    assert talk.audit.of("session.end")[0]["denials"] == 2


async def test_statement_text_over_the_limit_is_refused(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path)) as talk:
        answer = await talk.query("select " + "1" * 70_000)
        assert errors(answer) == ["54000"]
        assert talk.target.received == []


async def test_an_identity_over_its_rate_is_refused(tmp_path: Path) -> None:
    room = make_room(tmp_path)
    async with talking(room) as talk:
        room.allowed = False
        assert errors(await talk.query(SELECT)) == ["42501"]
        room.allowed = True
        assert errors(await talk.query(SELECT)) == []


async def test_the_policy_ends_a_live_session_at_its_next_operation(tmp_path: Path) -> None:
    room = make_room(tmp_path, grant(session={"max": "1h"}))
    async with talking(room) as talk:
        await talk.query(SELECT)
        room.clock.advance(3601)
        assert errors(await talk.query(SELECT)) == ["57P01"]
    assert talk.ended() == ["ok"]
    assert "longest" in talk.audit.of("session.end")[0]["reason"]


async def test_rows_over_the_session_limit(tmp_path: Path) -> None:
    target = ScriptedTarget({SELECT: rows(["id", "total"], *[(str(n), "1") for n in range(10)])})
    async with talking(make_room(tmp_path, grant(session={"rows": 4})), target) as talk:
        answer = await talk.query(SELECT)
        assert (kinds(answer), errors(answer)) == ("TDDDDE", ["53400"])
    assert talk.audit.of("session.end")[0]["rows"] == 4


async def test_rows_over_the_statement_limit(tmp_path: Path) -> None:
    target = ScriptedTarget({SELECT: rows(["id", "total"], *[(str(n), "1") for n in range(10)])})
    async with talking(make_room(tmp_path, grant(statement={"rows": 10})), target) as talk:
        assert errors(await talk.query(SELECT)) == []
    async with talking(make_room(tmp_path / "b", grant(statement={"rows": 9})), target) as talk:
        answer = await talk.query(SELECT)
        assert (len(values(answer)), kinds(answer)[-2:], errors(answer)) == (9, "DE", ["53400"])


async def test_bytes_over_the_session_limit_cut_at_a_message(tmp_path: Path) -> None:
    target = ScriptedTarget({SELECT: rows(["id", "total"], *[("x" * 90, "1") for _ in range(100)])})
    async with talking(make_room(tmp_path, grant(session={"bytes": "1KiB"})), target) as talk:
        answer = await talk.query(SELECT)
        assert errors(answer) == ["53400"]
        sent = sum(len(payload) + 5 for kind, payload in answer if kind != "E")
        assert 900 < sent <= 1024
    assert talk.audit.of("session.end")[0]["bytes"] == sent


async def test_the_second_lock_on_a_simple_query(tmp_path: Path) -> None:
    """The target's own description names a masked column where the plan has none."""
    text = "select name from customers"
    customers = table("customers")
    lying = rows([messages.Field("name", customers, 4)], ("078-05-1120",))
    async with talking(make_room(tmp_path, grant(masks=True)), ScriptedTarget({text: lying})) as talk:
        answer = await talk.query(text)
        assert errors(answer) == ["XX000"]
        assert "078-05-1120" not in repr(talk.sent)


async def test_a_masked_column(tmp_path: Path) -> None:
    text = "select ssn, card from customers"
    customers = table("customers")
    answer = rows([messages.Field("ssn", customers, 4), messages.Field("card", customers, 5)], ("078-05-1120", "4111111111111111"))
    async with talking(make_room(tmp_path, grant(masks=True)), ScriptedTarget({text: answer})) as talk:
        assert values(await talk.query(text)) == [("****", "************1111")]
    assert talk.audit.of("command.end")[0]["masked"] == 2
    assert "078-05-1120" not in talk.audit.text()


async def test_unnamed_work_of_a_caller_that_vanishes_is_recorded_as_cancelled(tmp_path: Path) -> None:
    target = ScriptedTarget(silent={"update orders set total = 1 where id = 1"})
    async with talking(make_room(tmp_path), target) as talk:
        await talk.query("update orders set total = 1 where id = 1")
        talk.client.connection_lost(None)
        await talk.quiet()
    assert talk.ended() == ["cancelled"]
    assert talk.audit.of("session.end")[0]["reason"] == "the caller disconnected"


async def test_a_second_description_or_a_row_out_of_place_ends_the_session(tmp_path: Path) -> None:
    """T34."""
    good = rows(["id", "total"], ("1", "2"))
    wrong: list[Answer] = [[good[1], *done("SELECT 1")], [good[0], good[0], *done("SELECT 1")], [messages.ReadyForQuery("I")],
                           [messages.PARSE_COMPLETE], [messages.COPY_DONE], [messages.CopyData(b"x")]]
    for number, answer in enumerate(wrong):
        async with talking(make_room(tmp_path / str(number)), ScriptedTarget({SELECT: answer})) as talk:
            answer_seen = await talk.query(SELECT)
            assert errors(answer_seen) == ["08P01"]
            assert values(answer_seen) == []


async def test_a_target_that_ends_the_connection_in_an_answer_is_told_once(tmp_path: Path) -> None:
    target = ScriptedTarget({INSERT: [messages.ErrorResponse({"S": "FATAL", "V": "FATAL", "C": "57P01", "M": "terminating connection"})]})
    async with talking(make_room(tmp_path), target) as talk:
        answer = await talk.query(INSERT)
        talk.relay.target.stream.eof_received()
        assert errors([*answer, *await talk.quiet()]) == ["57P01"]
    assert talk.ended() == ["error"]
    assert talk.audit.of("session.end")[0]["reason"].startswith("target:")


async def test_a_session_asked_to_end_before_it_began_ends(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path)) as talk:
        talk.relay.end("ended by dana")
        assert errors(await talk.query(SELECT)) == ["57P01"]
        assert talk.target.ran == []
    assert talk.audit.of("session.end")[0]["reason"] == "ended by dana"
