# SPDX-License-Identifier: Apache-2.0
"""Answers of a hostile target against the maskers: a masked column never comes through, however the bytes are cut or broken."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from pathlib import Path

from gateway.errors import GatewayFault, TargetFault
from gateway.masking.model import MaskSet
from gateway.masking.rules import MaskRule, keep_last
from gateway.protocols.postgres import messages
from gateway.protocols.postgres.catalog import Catalog
from gateway.protocols.postgres.catalog.offline import from_json
from gateway.protocols.postgres.codec import FrameReader, frame
from gateway.protocols.postgres.copybinary import SIGNATURE, TRAILER
from gateway.protocols.postgres.copyout import copy_masker
from gateway.protocols.postgres.masking import MaskPlan, check_row_description, mask_rows, plan
from gateway.protocols.postgres.sql.analyze import analyze
from gateway.protocols.postgres.statement import Context

SCHEMA = Path(__file__).parents[2] / "appliance" / "gateway" / "config" / "demo" / "orders-db.schema.json"
MASKS = MaskSet({"public.customers.ssn": MaskRule("redact"), "public.customers.card": keep_last(4)}, (),
                {"payment-card": keep_last(4), "jwt": MaskRule("redact")})
_WIDTH, _SSN, _CARD = 6, 3, 4
_ROW = b"1\tAlice Archer\talice@example.com\t078-05-1120\t4111111111111111\t{}\n"


@functools.cache
def catalog() -> Catalog:
    """The demo's tables."""
    return from_json(json.loads(SCHEMA.read_text()))


@functools.cache
def _plan(text: str) -> MaskPlan:
    statement, = analyze(text, Context(path=("pg_catalog", "public"), user="ci"), catalog())
    return plan(statement, MASKS, catalog())


def copy_rows(data: bytes) -> None:
    """The first byte says into how long CopyData messages the rest is cut."""
    if not data:
        return
    whole, cut = _copied(data[1:], len(data)), _copied(data[1:], data[0] % 13 + 1)
    assert whole == cut
    if whole is not None:
        for row in whole.split(b"\n"):
            fields = row.split(b"\t")
            if len(fields) == _WIDTH:
                assert fields[_SSN] in (b"****", rb"\N"), fields
                assert _kept(fields[_CARD]) <= 4 or fields[_CARD] == rb"\N" or b"\\" in fields[_CARD], fields


def _kept(value: bytes) -> int:
    """Characters that are no stars."""
    return len(value.decode("utf-8", "replace").replace("*", ""))


def copy_csv(data: bytes) -> None:
    """Likewise of the csv format, whose rows may hold newlines in quotes."""
    if not data:
        return
    whole, cut = _copied(data[1:], len(data), "csv"), _copied(data[1:], data[0] % 13 + 1, "csv")
    assert whole == cut
    for row in _csv_rows(whole or b""):
        if len(row) == _WIDTH:
            assert row[_SSN] in (b"****", b""), row
            assert _kept(row[_CARD].strip(b'"')) <= 4 or b'"' in row[_CARD][1:-1], row


def _csv_rows(stream: bytes) -> Iterable[list[bytes]]:
    """Fields as they are written, by a reader that knows nothing but quotes."""
    row, field, quoted = list[bytes](), bytearray(), False
    for byte in stream:
        if byte == 0x22:
            quoted = not quoted
        if not quoted and byte in b",\n":
            row.append(bytes(field))
            field.clear()
            if byte == 0x0A:
                yield row
                row = []
        else:
            field.append(byte)


def copy_binary(data: bytes) -> None:
    """Likewise of the binary format. What comes before the first tuple is made here where the first byte is odd."""
    if not data:
        return
    stream = (SIGNATURE + bytes(8) if data[0] & 1 else b"") + data[1:] + (TRAILER if data[0] & 2 else b"")
    whole, cut = _copied(stream, len(stream) or 1, "binary"), _copied(stream, data[0] % 13 + 1, "binary")
    assert whole == cut
    if whole is None:
        return
    at = len(SIGNATURE) + 8 + int.from_bytes(whole[len(SIGNATURE) + 4:len(SIGNATURE) + 8])
    while whole[at:at + 2] != TRAILER:
        assert whole[at:at + 2] == _WIDTH.to_bytes(2)
        values, at = _values(whole, at + 2, _WIDTH)
        assert values[_SSN] in (b"****", None), values
        assert _kept(values[_CARD] or b"") <= 4, values
    assert at + 2 == len(whole)


_COPY = {form: f"copy customers to stdout (format {form})" for form in ("text", "csv", "binary")}


def _copied(stream: bytes, step: int, form: str = "text") -> bytes | None:
    """What a caller receives, without its framing; ``None`` where the COPY is refused."""
    masker = copy_masker(_plan(_COPY[form]), _WIDTH, binary=form == "binary")
    out = b""
    try:
        for at in range(0, len(stream), step):
            out += masker.feed(frame(b"d", stream[at:at + step]))
        out += masker.close()
    except (TargetFault, GatewayFault):
        return None
    reader = FrameReader(1 << 24)
    reader.feed(out)
    return b"".join(payload for _, payload in reader)


def data_rows(data: bytes) -> None:
    """Bytes as the payload of one DataRow, after a good one."""
    good = messages.DataRow((b"1", b"Alice", b"a@b.c", b"078-05-1120", b"4111111111111111", b"{}")).encode()
    fields = [messages.Field(name, type_oid=oid) for name, oid in
              (("id", 23), ("name", 25), ("email", 25), ("ssn", 25), ("card", 25), ("notes", 3802))]
    made = check_row_description(_plan("select * from customers"), fields, (), catalog(), MASKS)
    try:
        out, count = mask_rows(made, good + frame(b"D", data))
    except (TargetFault, GatewayFault):
        return
    assert count >= 2
    reader = FrameReader(1 << 24)
    reader.feed(out)
    for _, payload in reader:
        values = _up_to(payload, _CARD + 1)
        assert values[_SSN] in (b"****", None), values
        assert _kept(values[_CARD] or b"") <= 4, values


def _up_to(payload: bytes, count: int) -> list[bytes | None]:
    """The first values of a DataRow: what comes after the last masked one is the client's to judge."""
    return _values(payload, 2, count)[0]


def _values(payload: bytes, at: int, count: int) -> tuple[list[bytes | None], int]:
    """The values of a row from ``at`` on, and where they end."""
    found: list[bytes | None] = []
    for _ in range(count):
        size = int.from_bytes(payload[at:at + 4], signed=True)
        at += 4
        found.append(payload[at:at + size] if size >= 0 else None)
        at += max(size, 0)
    return found, at


def copy_seeds() -> Iterable[bytes]:
    yield b"\x05" + _ROW * 2
    yield b"\x02" + _ROW.replace(b"078-05-1120", rb"\N") + rb"\.".join([b"", b"\n"])
    yield b"\x09" + _ROW.replace(b"Alice Archer", rb"tab\tand\nnewline \x41\101")


def csv_seeds() -> Iterable[bytes]:
    row = _ROW.replace(b"\t", b",").replace(b"{}", b'"{""a"": 1}"')
    yield b"\x05" + row * 2
    yield b"\x03" + row.replace(b"Alice", b'"Alice, ""the\n first"""').replace(b"078-05-1120", b"").replace(b"Archer", b"")
    yield b"\x0b" + row.replace(b"4111111111111111", b'"4111,\n1111"')


def binary_seeds() -> Iterable[bytes]:
    good = messages.DataRow((b"\0\0\0\1", b"Alice", b"a@b.c", b"078-05-1120", b"4111111111111111", b"\1{}")).encode()[5:]
    nothing = messages.DataRow((None,) * _WIDTH).encode()[5:]
    yield b"\x03" + good + good
    yield b"\x07" + nothing + good
    yield b"\x02" + SIGNATURE + bytes(4) + b"\0\0\0\3ext" + good
    yield b"\x01" + good + TRAILER


def row_seeds() -> Iterable[bytes]:
    yield messages.DataRow((b"2", None, b"", b"1", b"4", None)).encode()[5:]
    yield messages.DataRow((b"2", b"4111 1111 1111 1111", b"", None, None, b'{"a": "4111111111111111"}')).encode()[5:]
