# SPDX-License-Identifier: Apache-2.0
"""A record filled from a template is the one that ``record()`` gives; its waiter is told once, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import apsw
import orjson
import pytest

from gateway.audit.log import AuditLog
from gateway.audit.template import Template, Ticket
from gateway.errors import AuditUnavailable
from gateway.testing import FailingAudit, MemoryAudit
from tests.unit.audit.failing_vfs import failing_disk
from tests.unit.audit.log_folder import BASE, begin, end, lines, open_log, records, settings, verify
from tests.unit.audit.test_failing_disk import until_open

ENDED = ("begin", "status", "rows", "bytes", "masked", "error")


class Told:
    """A waiter that keeps what it was told."""

    def __init__(self) -> None:
        self.tickets: list[Ticket] = []
        self._more = asyncio.Event()

    def durable(self, ticket: Ticket) -> None:
        self.tickets.append(ticket)
        self._more.set()

    async def until(self, count: int) -> list[Ticket]:
        while len(self.tickets) < count:
            self._more.clear()
            await self._more.wait()
        return self.tickets


def ending(log: AuditLog | MemoryAudit) -> Template:
    return log.template("command.end", BASE, ENDED)


def end_values(seq: int) -> tuple[bytes, ...]:
    return b"%d" % seq, b'"ok"', b"1", b"10", b"0", b'""'


async def test_fields_as_the_values_of_a_template(tmp_path: Path) -> None:
    log, told = open_log(tmp_path), Told()
    fields = {"text": "SELECT 'é'\n\\", "text_secret": "SELECT 1", "decision": {"effect": "allow"}, "parameters": [None, "x"]}
    template = log.template("command.begin", BASE, ("text_digest", "decision", "text", "parameters"))
    log.fill(template, log.values(template, fields), told)
    del fields["parameters"]
    log.fill(template, (*log.values(template, fields), b"[]"), told)
    await log.record("command.begin", {**BASE, **fields, "parameters": [None, "x"]})
    for bad in ({**fields, "more": 1}, {"text": "x"}, {"text_digest": "x", "text": "x"}, {**fields, "text": "\ud800"}):
        with pytest.raises(AuditUnavailable):
            log.values(template, bad)
    await log.close()
    first, second, third = [record for record in records(tmp_path) if record["kind"] == "command.begin"]
    shown = ("text", "text_digest", "decision", "parameters")
    assert [first[name] for name in shown] == [third[name] for name in shown]
    assert second["parameters"] == [] and second["text_digest"] == first["text_digest"] != ""
    assert verify(tmp_path).status == 0


async def test_the_same_record_byte_for_byte(tmp_path: Path) -> None:
    log, told = open_log(tmp_path, clock=lambda: 1_800_000_000.25), Told()
    fields = begin("SELECT '100%' AS \"größe\"")
    same = {key: fields[key] for key in fields if key != "parameters"} | {"percent": "%b %d %%"}
    template = log.template("command.begin", same, ("parameters",))
    parameters = ["a\n\"b\"", None, "é\u2028"]
    log.fill(template, (orjson.dumps(parameters),), told)
    first = (await told.until(1))[0]
    second = await log.record("command.begin", {**same, "parameters": parameters})
    log.fill(ending(log), end_values(first.seq), told)
    third = (await told.until(2))[1]
    fourth = await log.record("command.end", end(second))
    await log.close()
    kept = records(tmp_path)
    for ours, theirs in ((first.seq, second), (third.seq, fourth)):
        left, right = kept[ours - 1], kept[theirs - 1]
        assert {key: left[key] for key in left if key not in ("seq", "prev", "begin")} == \
               {key: right[key] for key in right if key not in ("seq", "prev", "begin")}
    assert kept[third.seq - 1]["duration"] == 0
    assert list(kept[third.seq - 1]) == list(kept[fourth - 1])
    assert verify(tmp_path).status == 0


async def test_they_keep_their_order_and_their_tickets_say_which(tmp_path: Path) -> None:
    log, told = open_log(tmp_path), Told()
    template = log.template("command.begin", BASE, ("text",))
    tickets, futures = [], []
    for number in range(300):
        if number % 3:
            tickets.append(log.fill(template, (b'"%d"' % number,), told))
        else:
            futures.append(log.record("command.begin", {**BASE, "text": str(number)}))
    await told.until(200)
    seqs = await asyncio.gather(*futures)
    assert told.tickets == tickets
    await log.close()
    kept = records(tmp_path)
    assert [kept[ticket.seq - 1]["text"] for ticket in tickets] == [str(n) for n in range(300) if n % 3]
    assert [kept[seq - 1]["text"] for seq in seqs] == [str(n) for n in range(300) if not n % 3]
    assert [record["text"] for record in kept if record["kind"] == "command.begin"] == [str(n) for n in range(300)]


async def test_lazy_ends_are_not_late_for_the_session_and_close_their_commands(tmp_path: Path) -> None:
    log, told = open_log(tmp_path), Told()
    template, over = log.template("command.begin", begin(), ()), ending(log)
    await log.record("session.start", dict(BASE))
    begun = [log.fill(template, (), told) for _ in range(5)]
    await told.until(5)
    for ticket in begun[:4]:
        log.fill(over, end_values(ticket.seq), None, lazy=True)
    await log.record("session.end", {**BASE, "reason": "client closed"})
    await log.close()
    kept = records(tmp_path)
    kinds = [record["kind"] for record in kept]
    assert kinds.index("session.end") > max(n for n, record in enumerate(kept) if record.get("status") == "ok")
    assert [record["begin"] for record in kept if record.get("status") == "orphaned"] == [begun[4].seq]
    assert next(record for record in kept if record.get("status") == "orphaned")["identity"] == "ci-bot"


async def test_a_sample_goes_with_its_record(tmp_path: Path) -> None:
    log, told = open_log(tmp_path), Told()
    log.fill(log.template("command.end", BASE, ENDED), end_values(1), told, lazy=True, recording=b"[1]")
    await told.until(1)
    await log.close()
    kept = [record for record in records(tmp_path) if record["kind"] == "command.end"]
    assert kept[0]["recording"]["length"] == 3
    assert verify(tmp_path).status == 0


@pytest.mark.parametrize("fields", [{"seq": 7}, {"prev": "0"}, {"duration": 1}, {"x": object()}])
async def test_no_template_for_what_the_log_writes_itself(tmp_path: Path, fields: Mapping[str, Any]) -> None:
    log = open_log(tmp_path)
    with pytest.raises(AuditUnavailable):
        log.template("command.begin", fields, ("text",))
    await log.close()


@pytest.mark.parametrize("holes", [("seq",), ("text_secret",), ("text", "text"), ("session",), ("recording",)])
async def test_no_hole_for_a_secret_or_for_what_is_there(tmp_path: Path, holes: tuple[str, ...]) -> None:
    """A text that must not be kept could not become a digest there."""
    log = open_log(tmp_path)
    with pytest.raises(AuditUnavailable):
        log.template("command.begin", BASE, holes)
    await log.close()


@pytest.mark.parametrize("values", [
    (b'1,"kind":"session.end"',), (b'"a"}\n{"origin":"x"',), (b"[1,\n2]",), (b"",), (b"01",), (b"\xff",), (b'"\xff"',), (b"-",),
    (b"1", b"2"), (),
])
async def test_a_value_cannot_close_the_record(tmp_path: Path, values: tuple[bytes, ...]) -> None:
    log, told = open_log(tmp_path), Told()
    template = log.template("command.begin", BASE, ("text",))
    bad, good = log.fill(template, values, told), log.fill(template, (b'"good"',), told)
    assert await told.until(2) == [bad, good]
    await log.close()
    assert bad.failed and not bad.seq and bad.problem
    assert good.seq and not good.failed
    assert not any(line.count(b'"kind"') != 1 for line in lines(tmp_path))
    assert verify(tmp_path).status == 0


async def test_an_end_has_to_name_a_number(tmp_path: Path) -> None:
    log, told = open_log(tmp_path), Told()
    log.fill(log.template("command.end", BASE, ("begin",)), (b"[]",), told)
    assert (await told.until(1))[0].failed
    await log.record("command.begin", begin())
    await log.close()


async def test_a_template_of_another_log_is_refused(tmp_path: Path) -> None:
    one, other, told = open_log(tmp_path / "a"), open_log(tmp_path / "b"), Told()
    one.fill(other.template("command.begin", BASE, ()), (), told)
    assert (await told.until(1))[0].failed
    await one.close()
    await other.close()


async def test_too_large_and_too_many_are_refused_later_not_at_once(tmp_path: Path) -> None:
    log, told = open_log(tmp_path), Told()
    template = log.template("command.begin", BASE, ("text",))
    large = log.fill(template, (b'"%s"' % (b"x" * 17 * 2**20),), told)
    assert large.failed and not told.tickets
    many = [log.fill(template, (b'"%s"' % (b"x" * 10 * 2**20),), told) for _ in range(4)]
    assert [ticket.failed for ticket in many] == [False, False, False, True]
    await told.until(5)
    assert [bool(ticket.seq) for ticket in many] == [True, True, True, False]
    await log.close()
    assert log.pending == 0
    closed = log.fill(template, (b"1",), told)
    await told.until(6)
    assert closed.failed


async def test_a_failing_disk_fails_the_tickets_and_ends_that_were_due_come_later(tmp_path: Path) -> None:
    told = Told()
    with failing_disk("template-failing") as disk:
        log = open_log(tmp_path, settings(), vfs="template-failing")
        template, over = log.template("command.begin", begin(), ()), ending(log)
        log.fill(template, (), told)
        (begun,) = await told.until(1)
        disk.fail("sync", 1, apsw.IOError)
        log.fill(over, end_values(begun.seq), told)
        assert (await told.until(2))[1].failed
        disk.mend()
        await until_open(log)
        await log.close()
    ends = [record for record in records(tmp_path) if record["kind"] == "command.end"]
    assert [record["begin"] for record in ends] == [begun.seq]
    assert verify(tmp_path).status == 0


@pytest.mark.parametrize("make", [MemoryAudit, lambda: FailingAudit(2)], ids=["memory", "failing"])
async def test_the_fakes_keep_the_same_promise(make: Callable[[], MemoryAudit]) -> None:
    audit, told = make(), Told()
    template = audit.template("command.begin", {**BASE, "text_secret": "x"}, ("text",))
    one, bad, two = (audit.fill(template, (value,), told) for value in (b'"1"', b"}", b'"2"'))
    assert not told.tickets
    await told.until(3)
    assert one.seq == 1 and bad.failed
    assert (two.seq, two.failed) == ((2, False) if type(audit) is MemoryAudit else (0, True))
    assert audit.records[0].fields["text"] == "1" and "text_secret" not in audit.records[0].fields
    assert audit.values(audit.template("command.begin", BASE, ("text", "rows")), {"text": "x"}) == (b'"x"',)
    with pytest.raises(AuditUnavailable):
        audit.template("command.begin", {}, ("text_secret",))
    with pytest.raises(AuditUnavailable):
        audit.values(template, {"rows": 1})
