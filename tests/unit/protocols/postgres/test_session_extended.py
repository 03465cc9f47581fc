# SPDX-License-Identifier: Apache-2.0
"""The extended query protocol: pipelines, named statements and portals, row limits, and refusals anywhere in them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.config.schema import Limits
from gateway.protocols.postgres import messages
from gateway.protocols.postgres.messages import Bind, Close, Describe, Execute, Flush, Parse, Query, Sync
from gateway.testing.scripted import ScriptedTarget, failure, rows
from tests.unit.protocols.postgres.talk import DENIED, Talk, errors, grant, kinds, make_room, status, table, talking, values

SELECT = "select id, total from orders where id = $1"
INSERT = "insert into orders values (99, 1, 1)"
OTHER = "insert into orders values (98, 1, 1)"
ANSWERS = {SELECT: rows(["id", "total"], ("1", "10"), ("2", "20"), ("3", "30"))}


def once(text: str, *parameters: bytes | None, statement: str = "", portal: str = "", limit: int = 0) -> list[messages.Message]:
    return [Parse(statement, text), Bind(portal, statement, (), parameters), Describe("P", portal), Execute(portal, limit)]


async def test_parse_bind_describe_execute(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path), ScriptedTarget(dict(ANSWERS))) as talk:
        answer = await talk.run(*once(SELECT, b"1"))
        assert (kinds(answer), values(answer)[0], status(answer)) == ("12TDDDCZ", ("1", "10"), "I")
    assert talk.begun() == [(SELECT, "allow")]
    assert [tuple(begin["parameters"]) for begin in talk.audit.of("command.begin")] == [("1",)]
    assert talk.ended() == ["ok"]


async def test_describe_of_a_statement_then_bind_of_it_twice(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path), ScriptedTarget(dict(ANSWERS))) as talk:
        assert kinds(await talk.run(Parse("s", SELECT, (23,)), Describe("S", "s"))) == "1tTZ"
        for number in (b"1", b"2"):
            assert kinds(await talk.run(Bind("", "s", (), (number,)), Execute(""))) == "2DDDCZ"
        assert kinds(await talk.run(Close("S", "s"))) == "3Z"
        assert errors(await talk.run(Bind("", "s", (), (b"1",)), Execute(""))) == ["26000"]
    assert [begin["parameters"] for begin in talk.audit.of("command.begin")[:2]] == [["1"], ["2"]]


async def test_row_limits_suspend_the_portal(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path), ScriptedTarget(dict(ANSWERS))) as talk:
        await talk.query("begin")
        assert kinds(await talk.run(*once(SELECT, b"1", portal="p", limit=2))) == "12TDDsZ"
        assert talk.ended() == ["ok"]                     # the BEGIN; the portal is still open
        assert kinds(await talk.run(Execute("p", 2))) == "DCZ"
        await talk.query("commit")
    ends = [(end["status"], end["rows"]) for end in talk.audit.of("command.end")]
    assert ends == [("ok", 0), ("ok", 3), ("ok", 0)]


async def test_a_portal_that_was_never_run_to_its_end_is_recorded(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path), ScriptedTarget(dict(ANSWERS))) as talk:
        await talk.query("begin")
        await talk.run(*once(SELECT, b"1", portal="p", limit=2))
        await talk.query("commit")
    assert sorted((end["status"], end["rows"]) for end in talk.audit.of("command.end")) == [("ok", 0), ("ok", 0), ("ok", 2)]


async def test_a_bind_that_is_never_executed_is_recorded_as_withdrawn(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path), ScriptedTarget(dict(ANSWERS))) as talk:
        await talk.run(Parse("", SELECT), Bind("", "", (), (b"1",)))
    assert talk.ended() == ["withdrawn"]


async def test_flush_brings_the_answers_so_far(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path), ScriptedTarget(dict(ANSWERS))) as talk:
        assert kinds(await talk.say(*once(SELECT, b"1"), Flush())) == "12TDDDC"
        assert kinds(await talk.say(Sync())) == "Z"


async def test_a_refusal_while_idle_at_parse(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path), ScriptedTarget(dict(ANSWERS))) as talk:
        await talk.run(*once(SELECT, b"1"))
        talk.target.received.clear()
        answer = await talk.run(*once(DENIED))
        assert (kinds(answer), errors(answer), status(answer)) == ("EZ", ["42501"], "I")
        assert talk.target.received == []
        assert kinds(await talk.run(*once(SELECT, b"1"))) == "12TDDDCZ"


async def test_t33_a_refusal_in_a_pipeline_skips_to_sync_and_rolls_back(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path), ScriptedTarget(dict(ANSWERS))) as talk:
        answer = await talk.run(*once(INSERT), *once(DENIED), *once(OTHER))
        assert (kinds(answer), errors(answer), status(answer)) == ("12nCEZ", ["42501"], "I")
        assert talk.target.ran == [INSERT]
        assert talk.target.committed == []
        assert kinds(await talk.run(*once(OTHER))) == "12nCZ"
        assert talk.target.committed == [OTHER]
    assert [effect for _, effect in talk.begun()] == ["allow", "allow", "deny", "allow", "allow"]


async def test_t33_a_refusal_in_a_pipeline_inside_a_transaction(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path)) as talk:
        await talk.query("begin")
        answer = await talk.run(*once(INSERT), *once(DENIED), *once(OTHER))
        assert (errors(answer), status(answer)) == (["42501"], "E")
        answer = await talk.query("commit")
        assert answer[0] == ("C", b"ROLLBACK\0")
    assert talk.target.committed == []
    assert OTHER not in talk.target.ran


async def test_two_pipelines_at_once_the_first_refused(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path)) as talk:
        answer = await talk.say(*once(INSERT), *once(DENIED), Sync(), *once(OTHER), Sync())
        assert (kinds(answer), errors(answer)) == ("12nCEZ12nCZ", ["42501"])
    assert talk.target.committed == [OTHER]


async def test_pipelines_that_overtake_each_other_keep_their_portals(tmp_path: Path) -> None:
    """The portal of the second pipeline is bound before the first one's ReadyForQuery has come."""
    async with talking(make_room(tmp_path), ScriptedTarget(dict(ANSWERS))) as talk:
        talk.pump = False
        await talk.query("select 1 from orders")
        await talk.say(*once(SELECT, b"1"), Sync(), Parse("", SELECT), Bind("", "", (), (b"2",)))
        talk.pump = True
        for data in (bytes(talk.to_target),):
            talk.target_says(talk.target.feed(data))
        await talk.quiet()
        answer = await talk.run(Execute(""))
        assert errors(answer) == []
        assert kinds(answer).endswith("CZ")
    assert "withdrawn" not in talk.ended()


async def test_an_error_of_the_target_in_a_pipeline(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path), ScriptedTarget({INSERT: failure("23505", "duplicate key")})) as talk:
        answer = await talk.run(*once(OTHER), *once(INSERT), *once(OTHER))
        assert (kinds(answer), errors(answer), status(answer)) == ("12nC12nEZ", ["23505"], "I")
    assert talk.target.committed == []
    assert sorted(talk.ended()) == ["error", "error", "error", "ok", "ok", "ok"]


async def test_names_are_taken_back_after_an_error(tmp_path: Path) -> None:
    """Close and Parse of the same name behind an error never happened: the statement is the old one."""
    answers = ANSWERS | {INSERT: failure("23505", "duplicate key")}
    async with talking(make_room(tmp_path), ScriptedTarget(answers)) as talk:
        await talk.run(Parse("s", SELECT, (23,)))
        answer = await talk.run(*once(INSERT), Close("S", "s"), Parse("s", "select 1 from orders"))
        assert errors(answer) == ["23505"]
        assert kinds(await talk.run(Bind("", "s", (), (b"1",)), Execute(""))) == "2DDDCZ"
    assert talk.begun()[-1] == (SELECT, "allow")


async def test_names_are_taken_back_after_a_refusal(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path), ScriptedTarget(dict(ANSWERS))) as talk:
        await talk.run(Parse("s", SELECT, (23,)))
        assert errors(await talk.run(*once(DENIED), Close("S", "s"))) == ["42501"]
        assert kinds(await talk.run(Bind("", "s", (), (b"1",)), Execute(""))) == "2DDDCZ"


async def test_a_parse_that_the_target_refuses_leaves_no_name(tmp_path: Path) -> None:
    bad = "select id from orders where id = $1"
    async with talking(make_room(tmp_path), ScriptedTarget({"parse " + bad: failure("42P18", "could not determine data type")})) as talk:
        assert errors(await talk.run(Parse("s", bad))) == ["42P18"]
        assert errors(await talk.run(Bind("", "s", (), (b"1",)), Execute(""))) == ["26000"]


async def test_parse_of_a_name_that_is_taken_keeps_the_old_statement(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path), ScriptedTarget(dict(ANSWERS))) as talk:
        await talk.run(Parse("s", SELECT, (23,)))
        assert errors(await talk.run(Parse("s", INSERT))) == ["42P05"]
        assert kinds(await talk.run(Bind("", "s", (), (b"1",)), Execute(""))) == "2DDDCZ"
    assert talk.begun()[-1] == (SELECT, "allow")


async def test_several_statements_in_one_parse_are_refused_and_recorded(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path)) as talk:
        assert errors(await talk.run(*once(f"{INSERT}; {OTHER}"))) == ["42601"]
        assert talk.target.received == []
    assert [end["status"] for end in talk.audit.of("command.end")] == ["refused"]


async def test_names_of_the_gateways_own_are_refused(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path)) as talk:
        for part in (Parse("lockgate_1", INSERT), Bind("lockgate_1", ""), Describe("S", "lockgate_1"), Execute("lockgate_1"),
                     Close("S", "lockgate_1")):
            assert errors(await talk.run(part)) == ["42602"]
        assert talk.target.received == []


async def test_portals_and_statements_that_do_not_exist(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path)) as talk:
        assert errors(await talk.run(Execute("nowhere"))) == ["34000"]
        assert errors(await talk.run(Describe("P", "nowhere"))) == ["34000"]
        assert errors(await talk.run(Describe("S", "nowhere"))) == ["26000"]
        assert errors(await talk.run(Bind("", "nowhere"))) == ["26000"]
        assert errors(await talk.run(Close("P", "nowhere"))) == []


async def test_too_many_names_are_refused(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path), limits=Limits(statements=3)) as talk:
        for number in range(3):
            assert errors(await talk.run(Parse(f"s{number}", SELECT))) == []
        assert errors(await talk.run(Parse("s3", SELECT))) == ["53400"]


async def reloaded(talk: Talk, tmp_path: Path, *grants: dict[str, object]) -> None:
    room = make_room(tmp_path / "new", *grants)
    talk.room.folder, talk.room.policy = room.folder, room.policy


READ_ONLY = [{"name": "read", "allow": {"sql": {"verbs": ["select"], "relations": ["public.orders"]}}}]


async def test_t25_parsed_under_one_policy_bound_under_another(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path)) as talk:
        await talk.run(Parse("s", INSERT))
        await reloaded(talk, tmp_path, grant(READ_ONLY))
        talk.target.received.clear()
        assert errors(await talk.run(Bind("", "s"), Execute(""))) == ["42501"]
        assert talk.target.received == []
    assert talk.target.ran == []


async def test_t25_bound_under_one_policy_executed_under_another(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path)) as talk:
        await talk.query("begin")
        await talk.run(Parse("s", INSERT), Bind("p", "s"))
        await reloaded(talk, tmp_path, grant([*READ_ONLY, {"name": "tx", "allow": {"sql": {"verbs": ["begin", "commit", "rollback"]}}}]))
        answer = await talk.run(Execute("p"))
        assert (errors(answer), status(answer)) == (["42501"], "E")
    assert INSERT not in talk.target.ran
    assert [end["status"] for end in talk.audit.of("command.end")].count("refused") == 1


async def test_t25_masks_that_came_with_a_new_policy_hide_what_was_prepared_before(tmp_path: Path) -> None:
    text = "select ssn from customers"
    target = ScriptedTarget({text: rows([messages.Field("ssn", table("customers"), 4)], ("078-05-1120",))})
    async with talking(make_room(tmp_path), target) as talk:
        await talk.run(Parse("s", text))
        assert values(await talk.run(Bind("", "s"), Execute(""))) == [("078-05-1120",)]
        await reloaded(talk, tmp_path, grant(masks=True))
        answer = await talk.run(Bind("", "s"), Execute(""))
        assert (values(answer), kinds(answer)) == ([("****",)], "2DCZ")


@pytest.mark.parametrize("described", [True, False])
async def test_t25_masks_that_came_with_a_new_policy_hide_what_was_bound_before(tmp_path: Path, described: bool) -> None:
    text = "select ssn from customers"
    target = ScriptedTarget({text: rows([messages.Field("ssn", table("customers"), 4)], ("078-05-1120",))})
    async with talking(make_room(tmp_path), target) as talk:
        await talk.query("begin")
        await talk.run(Parse("s", text), Bind("p", "s"), *([Describe("P", "p")] if described else []))
        await reloaded(talk, tmp_path, grant(masks=True))
        answer = await talk.run(Execute("p"))
        assert values(answer) == [("****",)]


@pytest.mark.parametrize("described", [True, False])
async def test_masks_with_and_without_describe(tmp_path: Path, described: bool) -> None:
    """Without Describe the gateway asks by itself, and the caller sees nothing of that."""
    text = "select ssn from customers"
    target = ScriptedTarget({text: rows([messages.Field("ssn", table("customers"), 4)], ("078-05-1120",))})
    async with talking(make_room(tmp_path, grant(masks=True)), target) as talk:
        answer = await talk.run(Parse("", text), Bind("", ""), *([Describe("P", "")] if described else []), Execute(""))
        assert kinds(answer) == ("12TDCZ" if described else "12DCZ")
        assert values(answer) == [("****",)]
        assert talk.target.kinds.count("D") == 1


async def test_the_second_lock_holds_for_a_prepared_statement_without_rows(tmp_path: Path) -> None:
    """T34: the target sends a row for a statement that has none."""
    text = "set application_name = 'x'"
    target = ScriptedTarget({text: [messages.DataRow((b"078-05-1120",)), messages.CommandComplete("SET")]})
    async with talking(make_room(tmp_path, grant(masks=True)), target) as talk:
        answer = await talk.run(Parse("", text), Bind("", ""), Execute(""))
        assert "078-05-1120" not in repr(answer)
        assert len(errors(answer)) == 1


async def test_sql_and_protocol_names_are_one_namespace(tmp_path: Path) -> None:
    """T25: a name prepared by message, forgotten and prepared anew by SQL is decided as what it is now."""
    async with talking(make_room(tmp_path), ScriptedTarget(dict(ANSWERS))) as talk:
        await talk.run(Parse("s", SELECT, (23,)))
        await talk.query("deallocate s")
        talk.target._statements.pop("s")
        assert errors(await talk.run(Bind("", "s", (), (b"1",)), Execute(""))) == ["26000"]
        await talk.query(f"prepare s as {INSERT}")
        talk.target._statements["s"] = INSERT
        assert errors(await talk.run(Bind("", "s"), Execute(""))) == []
    assert talk.begun()[-1] == (INSERT, "allow")


async def test_deallocate_all_and_discard_all_forget_what_messages_prepared(tmp_path: Path) -> None:
    for text in ("deallocate all", "discard all"):
        async with talking(make_room(tmp_path / text), ScriptedTarget(dict(ANSWERS))) as talk:
            await talk.run(Parse("s", SELECT, (23,)))
            await talk.query(text)
            assert errors(await talk.run(Bind("", "s", (), (b"1",)), Execute(""))) == ["26000"]


async def test_deallocate_that_fails_forgets_nothing(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path), ScriptedTarget(ANSWERS | {"deallocate all": failure("XX000", "no")})) as talk:
        await talk.run(Parse("s", SELECT, (23,)))
        assert errors(await talk.query("deallocate all")) == ["XX000"]
        assert kinds(await talk.run(Bind("", "s", (), (b"1",)), Execute(""))) == "2DDDCZ"


async def test_execute_of_what_a_message_prepared(tmp_path: Path) -> None:
    """EXECUTE is decided as what was prepared, by whichever way."""
    async with talking(make_room(tmp_path)) as talk:
        await talk.run(Parse("s", INSERT))
        await reloaded(talk, tmp_path, grant([*READ_ONLY, {"name": "x", "allow": {"sql": {"verbs": ["execute"]}}}]))
        assert errors(await talk.query("execute s")) == ["42501"]
        assert errors(await talk.query("execute nothing")) == ["26000"]


async def test_cursors_by_sql_and_by_message_are_one_namespace(tmp_path: Path) -> None:
    fetch = rows(["id", "total"], ("1", "2"))
    target = ScriptedTarget({"fetch 1 from c": fetch})
    async with talking(make_room(tmp_path), target) as talk:
        await talk.query("begin")
        await talk.query("declare c cursor for select id, total from orders")
        assert values(await talk.query("fetch 1 from c")) == [("1", "2")]
        assert errors(await talk.query("close c")) == []
        assert errors(await talk.query("fetch 1 from c")) == ["34000"]


async def test_statements_over_their_time_are_cancelled_only_while_they_run(tmp_path: Path) -> None:
    """A Bind that nobody executes must not cancel what runs later on the same session."""
    room = make_room(tmp_path, grant(statement={"time": "10ms"}))
    target = ScriptedTarget(dict(ANSWERS))
    async with talking(room, target) as talk:
        await talk.query("begin")
        await talk.run(Parse("s", SELECT), Bind("p", "s", (), (b"1",)))
        cancelled: list[bool] = []
        talk.relay.commands.cancel_target = lambda: cancelled.append(True)  # type: ignore[method-assign]
        await asyncio.sleep(0.05)
        assert cancelled == []


async def test_error_in_an_aborted_transaction_stays_25p02(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path), ScriptedTarget({INSERT: failure("23505", "duplicate key")})) as talk:
        await talk.query("begin")
        await talk.query(INSERT)
        answer = await talk.run(*once(SELECT, b"1"))
        assert (errors(answer), status(answer)) == (["25P02"], "E")
        answer = await talk.run(*once("rollback"))
        assert (errors(answer), status(answer)) == ([], "I")


async def test_a_simple_query_may_end_a_pipeline(tmp_path: Path) -> None:
    """PostgreSQL takes it as it takes Sync; asyncpg sends its COPY so, behind the Flush of a Describe."""
    async with talking(make_room(tmp_path), ScriptedTarget(dict(ANSWERS))) as talk:
        answer = await talk.say(Parse("s", SELECT, (23,)), Describe("S", "s"), Flush(), Query(OTHER))
        assert (kinds(answer), status(answer)) == ("1tTCZ", "I")
        assert kinds(await talk.query(INSERT)) == "CZ"
    assert talk.target.committed == [OTHER, INSERT]


async def test_a_denied_simple_query_takes_its_pipeline_with_it(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path), ScriptedTarget(dict(ANSWERS))) as talk:
        answer = await talk.say(*once(INSERT), Query(DENIED))
        assert (errors(answer), status(answer)) == (["42501"], "I")
    assert talk.target.committed == []


async def test_a_simple_query_behind_an_error_is_skipped(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path), ScriptedTarget({INSERT: failure("23505", "duplicate key")})) as talk:
        answer = await talk.say(*once(INSERT), Query(OTHER), Sync())
        assert (errors(answer), status(answer)) == (["23505"], "I")
    assert talk.target.committed == []
    assert OTHER not in [text for text, _ in talk.begun()]


async def test_names_behind_an_error_are_taken_back_in_order(tmp_path: Path) -> None:
    """Parse of a taken name fails; what the same pipeline did to that name behind it never happened either."""
    async with talking(make_room(tmp_path), ScriptedTarget(dict(ANSWERS))) as talk:
        await talk.run(Parse("s", SELECT, (23,)))
        answer = await talk.run(Parse("s", INSERT), Close("S", "s"), Parse("s", OTHER))
        assert errors(answer) == ["42P05"]
        assert kinds(await talk.run(Bind("", "s", (), (b"1",)), Execute(""))) == "2DDDCZ"
    assert talk.begun()[-1] == (SELECT, "allow")


async def test_t25_an_error_does_not_bring_back_a_name_that_a_later_pipeline_has_changed(tmp_path: Path) -> None:
    """Both pipelines are on their way before the first error comes back."""
    async with talking(make_room(tmp_path), ScriptedTarget(dict(ANSWERS))) as talk:
        await talk.run(Parse("s", SELECT, (23,)))
        answer = await talk.say(Parse("s", INSERT), Sync(), Close("S", "s"), Parse("s", OTHER), Sync())
        assert errors(answer) == ["42P05"]
        assert talk.target._statements["s"] == OTHER
        await talk.run(Bind("", "s"), Execute(""))
    assert talk.begun()[-1] == (OTHER, "allow")


async def test_t25_names_of_a_text_that_failed_somewhere_mean_nothing(tmp_path: Path) -> None:
    """PREPARE and DEALLOCATE are not undone by the rollback of the text they stood in."""
    text = f"deallocate s; prepare s as {OTHER}; select 1 from orders"
    async with talking(make_room(tmp_path), ScriptedTarget({text: failure("22012", "division by zero")})) as talk:
        await talk.query(f"prepare s as {INSERT}")
        assert errors(await talk.query(text)) == ["22012"]
        talk.target._statements["s"] = OTHER
        assert errors(await talk.query("execute s")) == ["26000"]
        assert errors(await talk.run(Bind("", "s"), Execute(""))) == ["26000"]


async def test_cursors_end_with_their_transaction_unless_they_hold(tmp_path: Path) -> None:
    """A function might open another cursor of that name later: nothing may be believed of it."""
    fetch = rows(["id", "total"], ("1", "2"))
    target = ScriptedTarget({"fetch 1 from c": fetch, "fetch 1 from h": fetch})
    async with talking(make_room(tmp_path), target) as talk:
        await talk.query("begin")
        await talk.query("declare c cursor for select id, total from orders")
        await talk.query("declare h cursor with hold for select id, total from orders")
        await talk.query("commit")
        assert errors(await talk.query("fetch 1 from c")) == ["34000"]
        assert values(await talk.query("fetch 1 from h")) == [("1", "2")]


async def test_running_a_finished_portal_again_is_another_command(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path), ScriptedTarget(dict(ANSWERS))) as talk:
        await talk.query("begin")
        await talk.run(*once(SELECT, b"1", portal="p"))
        await talk.run(Execute("p"))
    assert [text for text, _ in talk.begun()] == ["begin", SELECT, SELECT]


async def test_what_follows_sync_in_the_same_segment_is_answered_after_an_error(tmp_path: Path) -> None:
    """The error came before the Sync was read; the Sync and the next query come together."""
    async with talking(make_room(tmp_path), ScriptedTarget(dict(ANSWERS))) as talk:
        assert kinds(await talk.say(*once(INSERT), Describe("S", "nothing"), Flush())) == "12nCE"
        assert kinds(await talk.say(Sync(), Query("select 1 from orders"))) == "ZCZ"
        assert kinds(await talk.say(*once(INSERT), Describe("S", "nothing"), Flush())) == "12nCE"
        assert kinds(await talk.say(Sync(), Query(DENIED))) == "ZEZ"


async def test_the_gateways_own_question_that_fails_in_a_pipeline_is_the_callers_error(tmp_path: Path) -> None:
    """In an aborted transaction the target answers it with 25P02 and skips to Sync: the caller is told, once."""
    async with talking(make_room(tmp_path)) as talk:
        await talk.run(Parse("x", "rollback"))
        await talk.query("begin")
        await talk.query(DENIED)
        answer = await talk.run(Bind("", "x"), Parse("", SELECT), Bind("", ""), Execute(""))
        assert (kinds(answer), errors(answer), status(answer)) == ("2EZ", ["25P02"], "E")


async def test_a_portal_replaced_before_its_transaction_was_over_is_recorded(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path), ScriptedTarget(dict(ANSWERS))) as talk:
        await talk.say(Parse("s", SELECT), Bind("p", "s", (), (b"1",)), Sync(), Bind("p", "s", (), (b"2",)), Sync())
    assert talk.ended() == ["withdrawn", "withdrawn"]
