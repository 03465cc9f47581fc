# SPDX-License-Identifier: Apache-2.0
"""The compiled form of what every record passes gives what the pure one gives: the same bytes, leaves, trees, refusals and outcomes."""

from __future__ import annotations

import _hashlib
import asyncio
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from unittest import mock

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit import _record, inbox, record, standing, template
from gateway.audit.inbox import Entry
from gateway.audit.record import MAX_RECORD, Encoder
from gateway.audit.tree import Tree, leaf_hash
from gateway.recording.store import Samples

NOW = 1_800_000_000_000_000
NAMES = st.one_of(st.sampled_from(["text", "parameters", "rows", "session", "100%", "größe", 'a"b', "duration", "text_secret", "seq"]),
                  st.text(max_size=6))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-2**63, 2**63 - 1), st.floats(allow_nan=False), st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)), max_leaves=8)
PLAIN = st.lists(st.text(st.characters(min_codepoint=0x1F, max_codepoint=0x80), max_size=12), max_size=3)
QUOTED = st.text(st.sampled_from('"\\\\/bfnrtu0 x\n'), max_size=8).map(lambda inner: b'"%b"' % inner.encode())
LOOSE = st.one_of(QUOTED, st.binary(max_size=12), st.text(st.sampled_from('"[]{},:\\ \n1a'), max_size=8).map(str.encode))
VALUES = st.one_of(st.one_of(JSON, PLAIN).map(orjson.dumps), st.integers(0, 10**20).map(lambda n: b"%d" % n), LOOSE)
TIMES = st.one_of(st.integers(NOW - 10**7, NOW + 10**7), st.integers(0, 4 * 10**15))
KINDS = st.sampled_from(["command.begin", "command.end", "session.start", "session.end", "approval.requested", "a kind"])


@dataclass(frozen=True)
class Form:
    """One of the two."""

    Template: Any
    Ticket: Any
    Inbox: Any
    fill_many: Callable[..., int]
    follow_many: Callable[..., list[Any]]
    parted: Callable[..., Any]
    cost_of: Callable[..., int]

    @contextmanager
    def chosen(self) -> Iterator[None]:
        with (mock.patch.multiple(record, Template=self.Template, Ticket=self.Ticket), mock.patch.object(standing, "Ticket", self.Ticket),
              mock.patch.multiple(inbox, Ticket=self.Ticket)):
            yield


PURE = Form(template.PureTemplate, template.PureTicket, inbox.PureInbox, record.fill_many_pure, standing.follow_many_pure,
            inbox.parted_pure, inbox.cost_of_pure)
COMPILED = Form(_record.Template, _record.Ticket, _record.Inbox, _record.fill_many, _record.follow_many, _record.parted, _record.cost_of)


@dataclass(frozen=True)
class Planned:
    """A ticket or, without ``values``, an entry; for either form."""

    kind: str
    fields: dict[str, Any]
    holes: tuple[str, ...]
    values: tuple[bytes, ...] | None
    time: int
    recording: bytes | None = None

    def made(self, form: Form, encoder: Encoder) -> Any:
        if self.values is None:
            return Entry(None, [(self.kind, self.fields)], self.time, recording=self.recording)
        made = form.Template(encoder.head, self.kind, "segment", self.fields, self.holes)
        return form.Ticket(made, self.values, None, self.time, 0, recording=self.recording)


@st.composite
def planned(draw: st.DrawFn) -> Planned:
    kind = draw(KINDS)
    fields = draw(st.dictionaries(NAMES.filter(lambda name: name not in template._OWN), JSON, max_size=4))
    holes = draw(st.lists(st.sampled_from(["begin", "values", "status", "bytes", "rows"]), unique=True, max_size=3))
    values = tuple(draw(st.integers(0, 6).map(lambda n: b"%d" % n) if name == "begin" else VALUES) for name in holes)
    filled = draw(st.sampled_from([values, values, values[:1], None]))
    if filled is None and kind == "command.end":
        fields["begin"] = draw(st.one_of(st.integers(0, 6), JSON))
    fields = {name: value for name, value in fields.items() if filled is None or name not in holes}
    return Planned(kind, fields, tuple(holes), filled, draw(TIMES), draw(st.sampled_from([None, None, None, b"", b"sample"])))


def encoder_at(size: int, last: int) -> Encoder:
    """One that stands after ``size`` records."""
    encoder = Encoder("plant-a-1", "segment", b"k" * 32)
    encoder.tree = Tree(size, [sha256(b"%d" % bit).digest() for bit in range(size.bit_count())])
    encoder.prev, encoder.last = sha256(b"%d" % size).hexdigest()[:16], last
    return encoder


def told(form: Form, plans: Sequence[Planned], size: int, last: int) -> tuple[object, ...]:
    """Everything that ``form`` makes of them, entries and refusals included, and what is open afterwards."""
    encoder, commands = encoder_at(size, last), {number: (NOW + 7 * number**9, {"n": number}) for number in range(1, 5)}
    lines: list[bytes] = []
    samples = Samples("2026-11-22/000001.rec", last % 1000)
    with form.chosen():
        entries = [plan.made(form, encoder) for plan in plans]
        at = 0
        while (at := form.fill_many(encoder, entries, at, lines, commands, samples)) < len(entries):
            _slowly(encoder, entries[at], commands, lines, samples)
            at += 1
        rest = form.follow_many(commands, [entry for entry in entries if isinstance(entry, form.Ticket)])
    places = [entry.place if isinstance(entry, form.Ticket) else entry.value for entry in entries]
    return lines, places, encoder.mark(), commands, [ticket.record()[0] for ticket in rest], samples.parts, samples.end


def _slowly(encoder: Encoder, entry: Any, commands: Any, lines: list[bytes], samples: Samples) -> None:
    """What the journal does with what was left to it."""
    with suppress(ValueError, TypeError):
        if isinstance(entry, Entry):
            kind, fields = entry.records[0]
            begun = commands.get(fields.get("begin", 0)) if kind == "command.end" else None
            extra = None if begun is None else {"duration": max(0, entry.time - begun[0]) / 1e6}
            lines.append(encoder.encode(kind, fields, entry.time, extra))
            entry.value = encoder.tree.size
        else:
            lines.append(encoder.fill(entry, record.extra_of(entry, commands, samples)))
            entry.place = encoder.tree.size
            if entry.recording:
                samples.add(entry.recording)


@given(st.lists(planned(), max_size=8), st.one_of(st.integers(0, 70), st.integers(0, 2**62 - 100)), TIMES)
def test_the_same_records(plans: list[Planned], size: int, last: int) -> None:
    pure, compiled = told(PURE, plans, size, last), told(COMPILED, plans, size, last)
    assert compiled == pure


@given(st.lists(planned(), max_size=4), st.integers(0, 70), TIMES)
def test_the_same_records_where_openssl_cannot_be_called(plans: list[Planned], size: int, last: int) -> None:
    assert not _record.choose_hash(False)
    try:
        assert told(COMPILED, plans, size, last) == told(PURE, plans, size, last)
    finally:
        _record.choose_hash(True)


def test_openssl_is_called_where_hashlib_is_linked_with_it() -> None:
    linked = "libcrypto" in subprocess.run(["ldd", _hashlib.__file__], capture_output=True, text=True, check=True).stdout
    assert _record.choose_hash(True) or not linked


@given(st.lists(planned(), min_size=1, max_size=8), st.integers(0, 5))
def test_every_line_is_one_record_with_its_place_in_the_chain(plans: list[Planned], size: int) -> None:
    lines = told(COMPILED, plans, size, 0)[0]
    assert isinstance(lines, list)
    prev = encoder_at(size, 0).prev
    for number, line in enumerate(lines, size + 1):
        assert b"\n" not in line
        found = orjson.loads(line)
        assert (found["seq"], found["prev"], found["origin"]) == (number, prev, "plant-a-1")
        prev = leaf_hash(line)[:8].hex()


@given(st.one_of(st.integers(0, 2 * 10**6), st.integers(0, 2**62)))
def test_durations_are_written_as_the_encoder_of_json_writes_them(spent: int) -> None:
    encoder = encoder_at(5, 0)
    ticket = Planned("command.end", {}, ("begin",), (b"5",), NOW).made(COMPILED, encoder)
    lines: list[bytes] = []
    with COMPILED.chosen():
        _record.fill_many(encoder, [ticket], 0, lines, {5: (NOW - spent, {})}, Samples("", 0))
    assert lines[0].endswith(b',"duration":' + orjson.dumps(spent / 1e6) + b"}")


@pytest.mark.parametrize("form", [PURE, COMPILED], ids=["pure", "compiled"])
@pytest.mark.parametrize("size", [MAX_RECORD - 200, MAX_RECORD])
def test_huge_values(form: Form, size: int) -> None:
    plan = Planned("command.begin", {}, ("text",), (b'"%b"' % (b"x" * size),), NOW)
    lines, places, *_ = told(form, [plan, Planned("command.begin", {}, (), (), NOW)], 0, 0)
    assert isinstance(lines, list)
    assert [len(line) > MAX_RECORD - 200 for line in lines] == ([True, False] if size < MAX_RECORD else [False])
    assert places == ([1, 2] if size < MAX_RECORD else [0, 1])


@given(NAMES, st.dictionaries(NAMES, JSON, max_size=4), st.lists(NAMES, max_size=4))
def test_the_same_templates(kind: str, fields: dict[str, Any], holes: list[str]) -> None:
    def seen(form: Form) -> object:
        try:
            made = form.Template(b'{"origin":"o","seq":', kind, "s", fields, holes)
        except ValueError as error:
            return str(error)
        return made.kind, made.fields, made.holes, made.form, made.size, made.begin, made.base

    assert seen(COMPILED) == seen(PURE)


def test_what_is_no_record_at_all_is_left_to_be_refused() -> None:
    encoder, lines = encoder_at(0, 0), list[bytes]()
    for kind, fields in ((7, {}), ("x", {"a": object()}), ("x", {"seq": 1}), ("command.end", {"begin": []}), ("x", {"a": "\ud800"})):
        entry = Entry(None, [(kind, fields)], NOW)  # type: ignore[list-item]
        with COMPILED.chosen():
            assert _record.fill_many(encoder, [entry], 0, lines, {}, Samples("", 0)) == 0
    assert (lines, encoder.tree.size, encoder.last) == ([], 0, 0)


@given(st.integers(0, 3), st.lists(st.integers(0, 255)))
def test_a_tree_that_cannot_be_is_not_gone_on_with(count: int, junk: list[int]) -> None:
    encoder = encoder_at(count, 0)
    encoder.tree.peaks = [bytes(junk)]
    ticket = Planned("a kind", {}, (), (), NOW).made(COMPILED, encoder)
    if len(junk) != 32:
        with pytest.raises(ValueError, match="32"):
            _record.fill_many(encoder, [ticket], 0, [], {}, Samples("", 0))


# ---- between the event loop and the writer

class Waiter:
    def __init__(self, told: list[object], *, raises: bool = False) -> None:
        self._told, self._raises = told, raises

    def durable(self, ticket: Any) -> None:
        self._told.append((ticket.values, ticket.seq, ticket.failed, ticket.problem))
        if self._raises:
            raise RuntimeError("not supposed to")


STEP = st.one_of(
    st.tuples(st.sampled_from(["fill", "put"]), st.integers(0, 40), st.booleans()), st.tuples(st.just("settle"), st.just(0), st.booleans()),
    st.tuples(st.sampled_from(["refuse", "open", "close"]), st.just(0), st.just(True)))


def handed(form: Form, steps: list[tuple[str, int, bool]], *, strict: bool) -> list[object]:
    seen: list[object] = []
    box = form.Inbox(lambda: 12.5, lambda call, ticket: seen.append(("soon", ticket.problem)), strict=strict)
    box.refusal, box.limit = "", 12_000
    made = form.Template(b"{", "session.end", "s", {}, ("n",))
    number = 0
    with form.chosen():
        for what, size, flag in steps:
            if what == "fill":
                ticket = box.fill(made, (b"1" * size,), Waiter(seen, raises=flag), flag, b"r" if size == 7 else None)
                seen.append((ticket.failed, ticket.problem, ticket.lazy, ticket.time, ticket.cost, ticket.seq))
            elif what == "put" and not box.problem(size):
                box.put(Entry(None, [("x", {})], 0, cost=size, lazy=flag))
            elif what == "settle":
                taken = box.take(0)
                seen.append((form.cost_of(taken), [len(part) for part in form.parted(taken)[:3]], form.parted(taken)[3]))
                for entry in taken:
                    number += 1
                    if isinstance(entry, form.Ticket):
                        entry.place, entry.problem = number, "" if number % 3 else "refused"
                seen.append([entry.cost for entry in box.settle(taken)])
            elif what == "close":
                box.close()
            elif what != "put":
                box.refusal = "no room" if what == "refuse" else ""
            seen.append((box.pending, box.refusal, box.closing))
    return seen


@given(st.lists(STEP, max_size=30), st.booleans())
def test_the_same_outcomes(steps: list[tuple[str, int, bool]], strict: bool) -> None:
    assert handed(COMPILED, steps, strict=strict) == handed(PURE, steps, strict=strict)


@pytest.mark.parametrize("form", [PURE, COMPILED], ids=["pure", "compiled"])
async def test_whoever_sleeps_is_woken_and_nothing_is_lost(form: Form) -> None:
    box = form.Inbox(lambda: 0.0, asyncio.get_running_loop().call_soon, strict=False)
    box.refusal = ""
    made = form.Template(b"{", "x", "s", {}, ("n",))
    got: list[int] = []

    def writer() -> None:
        while not box.closing:
            got.extend(int(ticket.values[0]) for ticket in box.take(30.0))
        got.extend(int(ticket.values[0]) for ticket in box.take(0))

    with form.chosen():
        running = asyncio.create_task(asyncio.to_thread(writer))
        for number in range(3000):
            box.fill(made, (b"%d" % number,), None)
            if number % 7 == 0:
                await asyncio.sleep(0)
            if number % 500 == 0:
                await asyncio.sleep(0.002)
        box.close()
        await running
    assert got == list(range(3000))


@pytest.mark.parametrize("form", [PURE, COMPILED], ids=["pure", "compiled"])
def test_a_writer_that_sleeps_is_woken_once_for_all_that_the_loop_had_to_look_at(form: Form) -> None:
    later: list[Callable[[], None]] = []
    box = form.Inbox(lambda: 0.0, later.append, strict=False)
    box.refusal, box.limit = "", 2**40
    made = form.Template(b"{", "x", "s", {}, ("n",))
    number, batches = 0, list[list[int]]()
    with form.chosen():
        while not later:
            taking = threading.Thread(target=lambda: batches.append([int(ticket.values[0]) for ticket in box.take(600.0)]))
            taking.start()
            while not later and taking.is_alive():
                number += 1
                box.fill(made, (b"%d" % number,), None)
                time.sleep(0.001)
        for _ in range(4):
            number += 1
            box.fill(made, (b"%d" % number,), None)
        assert taking.is_alive()
        (rouse,) = later
        rouse()
        taking.join(60)
    assert [one for batch in batches for one in batch] == list(range(1, number + 1))
    assert batches[-1][-5:] == list(range(number - 4, number + 1))
