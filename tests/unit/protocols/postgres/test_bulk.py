# SPDX-License-Identifier: Apache-2.0
"""Long results past the loop: whatever the chunks, the caller gets the same bytes and the record says the same."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import TargetFault
from gateway.masking.rules import EMAIL, REDACT, keep_last
from gateway.protocols.postgres import _rows, bulk, copytext, messages, rows
from gateway.protocols.postgres.codec import FrameReader, frame
from gateway.protocols.postgres.copybinary import SIGNATURE
from gateway.protocols.postgres.copytext import stream_columns
from gateway.protocols.postgres.masking import ColumnMask, row_column
from gateway.protocols.postgres.messages import CommandComplete, CopyData, CopyDone, CopyResponse, DataRow, Field, RowDescription
from gateway.protocols.postgres.rows import Column, Passed
from gateway.testing.scripted import ScriptedTarget, encode, failure
from tests.unit.protocols.postgres.talk import Talk, demo_catalog, errors, grant, kinds, make_room, table, talking

SELECT = "select id, ssn, card, name from customers"
COPY = "copy customers (id, ssn, card, name) to stdout"
FIELDS = (Field("id", table("customers"), 1, 23), Field("ssn", table("customers"), 4), Field("card", table("customers"), 5),
          Field("name", table("customers"), 2))
READY = messages.ReadyForQuery("I").encode()
SSN = b"078-05-1120"
COUNT = 900


# the loops

RULES = [row_column(ColumnMask(rule), 1042, demo_catalog()) for rule in (REDACT, EMAIL, keep_last(4))]
COLUMNS = st.lists(st.sampled_from((None, *RULES, Column(change=lambda value: b"found" if b"a" in value else None))), max_size=4)
VALUES = st.one_of(st.none(), st.binary(max_size=30), st.text(max_size=30).map(str.encode), st.just(b"ann@example.org"), st.just(SSN))
CELLS = st.one_of(st.sampled_from((b"\\N", b"", b"\\.", b'"a""b"', b"a\\tb", b"ann@x.org", b"4111111111111111", b'"a,\n"', b"a\rb")),
                  st.text("ab1-\u00e9\x1f\\", max_size=40).map(str.encode))


def chosen(columns: Sequence[Column | None]) -> tuple[tuple[int, Column], ...]:
    return tuple((index, column) for index, column in enumerate(columns) if column is not None)


def outcome(form: Callable[..., Passed], *given: Any) -> object:
    try:
        return form(*given)
    except TargetFault as fault:
        return fault.code


def same(form: Callable[..., Passed], pure: Callable[..., Passed], stream: bytes, cuts: Sequence[int], *given: Any) -> None:
    """Chunk after chunk, each with what was left of those before it."""
    rest, began = b"", 0
    for cut in (*sorted(min(cut, len(stream)) for cut in cuts), len(stream)):
        found = outcome(pure, rest, stream[began:cut], *given)
        assert outcome(form, rest, stream[began:cut], *given) == found
        if not isinstance(found, tuple):
            return
        rest, began = found[3], cut


def spoiled(data: st.DataObject, stream: bytes) -> bytes:
    wire = bytearray(stream)
    for place in data.draw(st.lists(st.integers(0, max(len(wire) - 1, 0)), max_size=2)):
        if wire:
            wire[place] = data.draw(st.sampled_from((0, 1, 4, 5, 0x44, 0x43, 0x7F, 0xFF)))
    return bytes(wire)


@given(st.data(), COLUMNS, st.lists(st.integers(0, 400), max_size=4), st.sampled_from((4, 20, 1 << 16)))
def test_rows_in_any_chunks(data: st.DataObject, columns: list[Column | None], cuts: list[int], most: int) -> None:
    width = len(columns)
    lines = data.draw(st.lists(st.tuples(*[VALUES] * width), max_size=6))
    stream = b"".join(DataRow(line).encode() for line in lines)
    stream += data.draw(st.sampled_from((b"", b"C\0\0\0\x0bSELECT\0Z\0\0\0\5I", b"D\0")))
    for wire in (stream, spoiled(data, stream)):
        for wanted in (chosen(columns), ()):
            same(_rows.pass_rows, rows.pass_rows_pure, wire, cuts, 0x44, most, width, wanted)


@given(st.data(), COLUMNS, st.lists(st.integers(0, 300), max_size=4), st.booleans(), st.sampled_from((4, 20, 1 << 16)))
def test_lines_in_any_chunks(data: st.DataObject, columns: list[Column | None], cuts: list[int], as_csv: bool, most: int) -> None:
    width = max(len(columns), 1)
    lines = data.draw(st.lists(st.lists(CELLS, min_size=width, max_size=width), max_size=6))
    stream = b"".join(frame(b"d", (b"," if as_csv else b"\t").join(line) + b"\n") for line in lines)
    stream += data.draw(st.sampled_from((b"", b"c\0\0\0\4", b"d")))
    for wire in (stream, spoiled(data, stream)):
        same(_rows.pass_lines, copytext.pass_lines_pure, wire, cuts, most, width, stream_columns(chosen(columns), as_csv), as_csv)


def test_chunks_add_up_to_the_whole() -> None:
    column = row_column(ColumnMask(REDACT), 25, demo_catalog())
    stream = b"".join(DataRow((b"%d" % number, SSN)).encode() for number in range(50))
    for size in (1, 3, 7, 64, 1000):
        out, rest = b"", b""
        for at in range(0, len(stream), size):
            block, _, _, rest, more = rows.pass_rows(rest, stream[at:at + size], 0x44, rows.BEGUN, 2, ((1, column),))
            out += block
            assert more
        assert (out, rest) == (rows.mask_rows(stream, 2, ((1, column),))[0], b"")


# sessions


def line(number: int, generator: random.Random) -> tuple[bytes, ...]:
    return b"%d" % number, SSN, b"4111111111111111", b"x" * generator.randrange(120)


def result(generator: random.Random, count: int = COUNT) -> bytes:
    return RowDescription(FIELDS).encode() + b"".join(DataRow(line(number, generator)).encode() for number in range(count))


def copied(generator: random.Random, form: str, count: int = COUNT) -> bytes:
    lines = [line(number, generator) for number in range(count)]
    if form == "binary":
        tuples = [DataRow(one).encode()[5:] for one in lines]
        told = [CopyData(SIGNATURE + bytes(8) + tuples[0]), *map(CopyData, tuples[1:]), CopyData(b"\xff\xff")]
        return encode([CopyResponse("H", 1, (1,) * 4), *told])
    between = b"," if form == "csv" else b"\t"
    return encode([CopyResponse("H", 0, (0,) * 4), *(CopyData(between.join(one) + b"\n") for one in lines)])


def chunks(data: bytes, generator: random.Random) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        size = generator.choice((1, 4, 5, 100, 3000, 9000, 40_000))
        yield data[at:at + size]
        at += size


class Taken:
    """How many chunks went past the loop."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        take = bulk.Bulk.take

        def counted(one: bulk.Bulk, data: bytes) -> bool:
            taken = take(one, data)
            self.count += taken
            return taken

        monkeypatch.setattr(bulk.Bulk, "take", counted)


async def told(talk: Talk, text: str, parts: Sequence[bytes]) -> list[tuple[str, bytes]]:
    """What the caller gets when the target answers in these chunks, each of them read alone."""
    await talk.query("select 1 from orders")
    talk.pump = False
    found = await talk.query(text)
    for part in parts:
        talk.target_says(part)
        found += await talk.quiet()
    return found


def ends(talk: Talk) -> dict[str, Any]:
    """Of the last command."""
    fields: dict[str, Any] = dict(talk.audit.of("command.end")[-1])
    return {name: fields[name] for name in ("status", "rows", "bytes", "masked")}


@pytest.mark.parametrize("form", ["select", "text", "csv", "binary"])
@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("seed", range(3))
async def test_any_chunks_give_the_same_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, masks: bool, seed: int) -> None:
    taken, generator = Taken(monkeypatch), random.Random(seed)
    text = SELECT if form == "select" else COPY if form == "text" else f"{COPY} with (format {form})"
    answer = result(generator) if form == "select" else copied(generator, form)
    tail = b"" if form == "select" else CopyDone().encode()
    answer += tail + CommandComplete(f"{'SELECT' if form == 'select' else 'COPY'} {COUNT}").encode() + READY
    got = []
    for number, parts in enumerate(([answer], list(chunks(answer, generator)))):
        async with talking(make_room(tmp_path / str(number), grant(masks=masks)), ScriptedTarget()) as talk:
            got.append((await told(talk, text, parts), ends(talk)))
        assert (SSN.decode() in talk.audit.text()) == (not masks)
    assert got[0] == got[1] and taken.count > 2
    assert got[0][1]["status"] == "ok" and got[0][1]["rows"] >= COUNT
    assert all(SSN not in payload for _, payload in got[1][0]) == masks


async def test_a_notice_and_a_large_row_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken, generator = Taken(monkeypatch), random.Random(5)
    some = b"".join(DataRow(line(number, generator)).encode() for number in range(100))
    large = DataRow((b"1", SSN, b"4111111111111111", b"y" * 300_000)).encode()
    notice = messages.ErrorResponse({"S": "NOTICE", "V": "NOTICE", "C": "00000", "M": "said"}, notice=True).encode()
    answer = result(generator) + some + notice + some + large + some + CommandComplete("SELECT 1201").encode() + READY
    async with talking(make_room(tmp_path, grant(masks=True)), ScriptedTarget()) as talk:
        talk._reader = FrameReader(1 << 28, limits={})
        found = await told(talk, SELECT, [answer[at:at + 9000] for at in range(0, len(answer), 9000)])
        assert kinds(found) == "T" + "D" * (COUNT + 100) + "N" + "D" * 201 + "CZ" and taken.count > 10
        assert ends(talk) == {"status": "ok", "rows": COUNT + 301, "bytes": ends(talk)["bytes"], "masked": 2 * (COUNT + 301)}
    assert all(SSN not in payload for _, payload in found)


@pytest.mark.parametrize("broken", [
    DataRow((b"1", SSN, b"2")).encode(), b"D\0\0\0\x10\0\4\0\0\0\x7f" + SSN[:8], b"D\0\0\0\3", b"D\xff\xff\xff\xff", b"V\0\0\0\4",
    b"D\x7f\xff\xff\xff\0\4"])
async def test_t28_what_is_no_row_ends_the_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: bytes) -> None:
    taken, generator = Taken(monkeypatch), random.Random(7)
    answer = result(generator)
    async with talking(make_room(tmp_path, grant(masks=True)), ScriptedTarget()) as talk:
        found = await told(talk, SELECT, [answer[:50_000], answer[50_000:] + broken + DataRow((b"2", SSN, SSN, SSN)).encode() * 9])
        assert kinds(found)[-1] == "E" and errors(found) == ["08P01"] and taken.count + len(found)
        assert all(SSN not in payload for _, payload in found)
    assert ends(talk)["status"] != "ok"


async def test_t28_a_rule_that_fails_passes_nothing_of_its_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken, generator = Taken(monkeypatch), random.Random(8)
    answer = result(generator)
    async with talking(make_room(tmp_path, grant(masks=True)), ScriptedTarget()) as talk:
        found = await told(talk, SELECT, [answer[:40_000], answer[40_000:60_000]])
        assert taken.count == 1

        def broken(*_: object) -> tuple[bytes, int]:
            raise RuntimeError("broken")

        monkeypatch.setattr(bulk, "look_into", broken)
        monkeypatch.setattr("gateway.protocols.postgres.backend.mask_rows", broken)
        talk.target_says(answer[60_000:])
        last = await talk.quiet()
        assert kinds(last) == "E" and taken.count == 1
    assert all(SSN not in payload for _, payload in [*found, *last])


async def test_a_limit_of_rows_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken, generator = Taken(monkeypatch), random.Random(9)
    answer = result(generator)
    async with talking(make_room(tmp_path, grant(session={"rows": 700})), ScriptedTarget()) as talk:
        found = await told(talk, SELECT, list(chunks(answer, generator)))
        assert kinds(found) == "T" + "D" * 700 + "E" and errors(found) == ["53400"] and taken.count == 0


async def test_an_error_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken, generator = Taken(monkeypatch), random.Random(10)
    answer = result(generator) + encode(failure("57014", "canceling statement")) + READY
    async with talking(make_room(tmp_path, grant(masks=True)), ScriptedTarget()) as talk:
        found = await told(talk, SELECT, [answer[at:at + 7000] for at in range(0, len(answer), 7000)])
        assert kinds(found) == "T" + "D" * COUNT + "EZ" and taken.count > 3
        assert ends(talk)["status"] == "cancelled" and ends(talk)["rows"] == COUNT
        talk.pump = True
        assert kinds(await talk.query("select 1 from orders")) == "CZ"


async def test_a_caller_who_is_slow_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken, generator = Taken(monkeypatch), random.Random(11)
    answer = result(generator) + CommandComplete(f"SELECT {COUNT}").encode() + READY
    async with talking(make_room(tmp_path, grant(masks=True)), ScriptedTarget()) as talk:
        found = await told(talk, SELECT, [answer[:40_000], answer[40_000:50_000]])
        assert taken.count == 1
        talk.client.pause_writing()
        talk.target_says(answer[50_000:60_000])
        found += await talk.quiet()
        talk.target_says(answer[60_000:70_000])
        assert await talk.quiet() == [] and taken.count == 1 and talk.relay.target.stream.buffered == 10_000
        talk.client.resume_writing()
        found += await talk.quiet()
        talk.target_says(answer[70_000:80_000])
        found += await talk.quiet()
        assert taken.count == 2
        talk.target_says(answer[80_000:])
        found += await talk.quiet()
        assert kinds(found) == "T" + "D" * COUNT + "CZ" and ends(talk)["rows"] == COUNT


async def test_an_end_in_the_middle_of_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the caller is told last is not taken for a part of a row."""
    taken, generator = Taken(monkeypatch), random.Random(12)
    answer = result(generator)
    async with talking(make_room(tmp_path, grant(masks=True)), ScriptedTarget()) as talk:
        found = await told(talk, SELECT, [answer[:40_000], answer[40_000:50_001]])
        assert taken.count == 1
        talk.relay.end("the grant has ended")
        talk.target_says(answer[50_001:60_000])
        found += await talk.quiet()
        assert kinds(found).replace("D", "") == "TE" and errors(found) == ["57P01"] and taken.count == 1
    assert ends(talk)["status"] == "cancelled"
