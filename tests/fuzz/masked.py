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
                assert len(fields[_CARD].replace(b"*", b"")) <= 4 or fields[_CARD] == rb"\N" or b"\\" in fields[_CARD], fields


def _copied(stream: bytes, step: int) -> bytes | None:
    masker = copy_masker(_plan("copy customers to stdout"), _WIDTH)
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
        assert len((values[_CARD] or b"").replace(b"*", b"")) <= 4, values


def _up_to(payload: bytes, count: int) -> list[bytes | None]:
    """The first values of a DataRow: what comes after the last masked one is the client's to judge."""
    found: list[bytes | None] = []
    at = 2
    for _ in range(count):
        size = int.from_bytes(payload[at:at + 4], signed=True)
        at += 4
        found.append(payload[at:at + size] if size >= 0 else None)
        at += max(size, 0)
    return found


def copy_seeds() -> Iterable[bytes]:
    yield b"\x05" + _ROW * 2
    yield b"\x02" + _ROW.replace(b"078-05-1120", rb"\N") + rb"\.".join([b"", b"\n"])
    yield b"\x09" + _ROW.replace(b"Alice Archer", rb"tab\tand\nnewline \x41\101")


def row_seeds() -> Iterable[bytes]:
    yield messages.DataRow((b"2", None, b"", b"1", b"4", None)).encode()[5:]
    yield messages.DataRow((b"2", b"4111 1111 1111 1111", b"", None, None, b'{"a": "4111111111111111"}')).encode()[5:]
