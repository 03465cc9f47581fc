# SPDX-License-Identifier: Apache-2.0
"""The compiled parts against their pure twins: of any bytes the same result, or the same refusal.

Only Python is instrumented, so it is the pure twin that leads the engine into new places. Both run in one process; of analysis the pure
form is a second copy of its modules.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType

import orjson

from gateway import native
from gateway.errors import GatewayFault, TargetFault
from gateway.masking import detect
from gateway.masking.rules import EMAIL, GONE, MaskRule, keep_first, keep_last
from gateway.protocols.postgres import copytext, lanewire, messages, rows
from gateway.protocols.postgres.codec import frame
from gateway.protocols.postgres.copybinary import whole_tuples_pure
from gateway.protocols.postgres.copytext import mask_lines_pure, stream_columns
from gateway.protocols.postgres.rows import Column
from gateway.protocols.postgres.sql import _walk, analyze, rawtree
from gateway.protocols.postgres.sql.parse import answer_of
from gateway.protocols.postgres.statement import SqlFault
from gateway.protocols.postgres.typed import column_of
from tests.unit.protocols.postgres.sql import shop
from tests.unit.protocols.postgres.sql.twin import CATALOGS, CONTEXTS, shown

_SQL = "gateway.protocols.postgres.sql"
_DEEP = "nested too deeply"


def _of_analysis() -> dict[str, ModuleType]:
    return {name: module for name, module in sys.modules.items() if name == _SQL or name.startswith(f"{_SQL}.")}


@contextmanager
def _in_place(modules: dict[str, ModuleType]) -> Iterator[None]:
    """These modules are the ones of their names, and no others of the package are there."""
    package = sys.modules["gateway.protocols.postgres"]
    before = _of_analysis()
    for name in before:
        del sys.modules[name]
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in _of_analysis().items():
            modules[name] = module
            del sys.modules[name]
        sys.modules.update(before)
        package.sql = before[_SQL]      # type: ignore[attr-defined]


def _pure_copy() -> dict[str, ModuleType]:
    """Analysis once more, without anything compiled."""
    found: dict[str, ModuleType] = {}
    chosen, native.PURE = native.PURE, True
    try:
        with _in_place(found):
            importlib.import_module(f"{_SQL}.analyze")
    finally:
        native.PURE = chosen
    return found


_PURE = _pure_copy()


def _said(form: ModuleType, text: str, catalog: str, context: int) -> str:
    try:
        return shown(form.analyze(text, CONTEXTS[context], CATALOGS[catalog]))
    except SqlFault as fault:
        return repr((fault.code, str(fault), fault.position, fault.hint))


def walk(data: bytes) -> None:
    """The first byte says in which catalog and context the rest, a text, is understood."""
    if not data:
        return
    text = data[1:].decode("utf-8", "ignore").replace("\0", "")
    catalog, context = sorted(CATALOGS)[data[0] & 1], data[0] >> 1 & 1
    compiled = _said(analyze, text, catalog, context)
    with _in_place(_PURE):
        pure = _said(_PURE[f"{_SQL}.analyze"], text, catalog, context)
    assert compiled == pure or _DEEP in compiled or _DEEP in pure, (compiled, pure)


SHAPES = (
    "select a.id, b.total from customers a left join orders b on a.id = b.customer_id where a.ssn in ('x', $1) order by 2 desc limit 3",
    "insert into orders (id, customer_id, total) values (1, default, $1), (2, (select 3), 4) returning id, total as t",
    "insert into orders select * from orders on conflict (id) do update set total = excluded.total + 1 where orders.id > 3",
    "update orders o set total = c.id, (id, customer_id) = (1, 2) from customers c where c.id = o.customer_id and c.ssn like '0%'",
    "delete from orders using customers c where customer_id = c.id or exists (select 1 from orders x where x.id = c.id)",
    "with recursive r(n, s) as (select 1, ssn from customers union all select n + 1, s from r where n < 3) select * from r, r z",
    "select count(*) filter (where id > 1) over w, max(upper(ssn)) from customers group by rollup (1, name) having true "
    "window w as (partition by id order by ssn rows 1 preceding)",
    "select case name when 'a' then ssn else 'b' end::varchar(3), array(select 1), (select row(c.*)), nullif(id, 2) from customers c",
    "select coalesce(a.x, '1') from (select distinct on (id) id as x from orders) a natural join lateral (select a.x) b union values (1)",
    "merge into orders a using customers b on a.id = b.id when matched and a.id > 1 then update set total = 1 when not matched then "
    "insert (id) values (b.id)",
)


def walk_seeds() -> Iterable[bytes]:
    for number, text in enumerate((*SHAPES, *shop_texts())):
        yield bytes([number % 4]) + text.encode()


def shop_texts() -> Iterable[str]:
    """Selects over every relation of the catalog the twins are compared with."""
    for relation in shop.CATALOG.user.relations:
        yield f"select *, ctid from {relation.schema}.{relation.name} where ssn = 'x'"


# --- rows, lines of COPY, tuples ---


def _look(value: bytes) -> bytes | None:
    return GONE if value[:1] == b"g" else b"found" + value if b"a" in value else None


RULES = (MaskRule(), MaskRule("null"), EMAIL, keep_last(0), keep_last(4), keep_first(3), MaskRule("value", text='a,"\t'))


@functools.cache
def _columns(width: int, choice: int) -> tuple[tuple[int, Column], ...]:
    found = []
    for index in range(width):
        chosen, choice = choice % 11, choice // 11 + index * 7
        if chosen < len(RULES):
            found.append((index, column_of(RULES[chosen], (25, 1042, 23)[choice % 3], 0, shop.CATALOG)))
        elif chosen == len(RULES):
            found.append((index, Column(change=_look)))
    return tuple(found)


def _outcome(form: Callable[..., object], *given: object) -> object:
    try:
        return form(*given)
    except (TargetFault, GatewayFault) as fault:
        return type(fault), str(fault)


def _kind(found: object) -> object:
    """Of a refusal what it is: which fault of a chunk is found first is its reader's."""
    return found[0] if isinstance(found, tuple) and isinstance(found[0], type) else found


def kernels(data: bytes) -> None:
    """Two bytes choose columns and rules; the rest is messages, or what one message holds."""
    if len(data) < 3:
        return
    width, choice, wire = data[0] % 5, data[1], data[2:]
    columns = _columns(width, choice)
    for block in (wire, frame(b"D", wire), frame(b"D", wire) * 2):
        assert _outcome(rows.mask_rows, block, width, columns) == _outcome(rows.mask_rows_pure, block, width, columns)
        for end in {len(block), len(block) * data[1] // 255}:
            assert rows.scan_run(block, 0, end, 0x44) == rows.scan_run_pure(block, 0, end, 0x44)
            parted = (block[:end], block[end:], 0x44, 4096, width, columns)
            assert _kind(_outcome(rows.pass_rows, *parted)) == _kind(_outcome(rows.pass_rows_pure, *parted))
    for block in (wire, frame(b"d", wire), frame(b"d", wire + b"\n") * 2):
        assert _outcome(_whole_tuples, block, 0, width) == _outcome(whole_tuples_pure, block, 0, width)
        for csv in (False, True):
            lines = stream_columns(columns, csv)
            given = (block, 0, max(width, 1), lines, csv)
            assert _outcome(copytext.mask_lines, *given) == _outcome(mask_lines_pure, *given)
            half = len(block) * data[1] // 255
            cut = (block[:half], block[half:], 4096, max(width, 1), lines, csv)
            assert _outcome(copytext.pass_lines, *cut) == _outcome(copytext.pass_lines_pure, *cut)


def _whole_tuples(block: bytes, at: int, width: int) -> int:
    from gateway.protocols.postgres import copybinary

    return copybinary.whole_tuples(block, at, width)


def kernel_seeds() -> Iterable[bytes]:
    row = messages.DataRow((b"1", "Zoë".encode(), b"4111111111111111", b"ann@example.org ")).encode()[5:]
    for choice in (0, 5, 17, 99, 200):
        yield bytes([4, choice]) + row
        yield bytes([4, choice]) + b'1\t\\N\tab\\tc\t4111111111111111\n2\t\t"x"\t\\.\n'
        yield bytes([3, choice]) + b'1,"two\nlines, ""quoted""",ann@example.org\n,"",\n'
    yield b"\2\1" + messages.DataRow((b"abc", None)).encode() * 3


# --- the lane's bytes ---


def lane_bytes(data: bytes) -> None:
    """The first byte is the shape of the answer that the rest may be."""
    if not data:
        return
    shape, wire = data[0] & 15, data[1:]
    found = lanewire.split_pure(wire)
    assert lanewire.split(wire) == found
    if found is not None and found[1:] != (0, 0, 0, 0):
        for hidden in (frozenset[int](), frozenset({1, 3})):
            assert lanewire.plain(wire, found[2], found[3], hidden) == lanewire.plain_pure(wire, found[2], found[3], hidden)
    whole = lanewire.answer_pure(wire, shape)
    assert lanewire.answer(wire, shape) == whole
    for block in {wire, wire[whole[2]:whole[3]] if isinstance(whole, tuple) else b""}:
        for room, most in ((0, 3), (4096, 20)):
            given = (block, b'{"rows":[', room, most, 200)
            assert lanewire.sample(*given) == lanewire.sample_pure(*given)


def lane_byte_seeds() -> Iterable[bytes]:
    bind = messages.Bind("", "s", (), (b"1", None, b'a"b'), (0, 1)).encode()
    for opening in (b"", messages.Parse("", "select $1", (23,)).encode()):
        for tail in lanewire.TAILS:
            yield b"\0" + opening + bind + tail
    yield b"\0" + messages.Query("select 1").encode()
    row = messages.DataRow((b"1", None, b"x y")).encode()
    described = messages.RowDescription((messages.Field("a"), messages.Field("b"), messages.Field("c"))).encode()
    end = messages.CommandComplete("SELECT 2").encode() + b"Z\0\0\0\5I"
    yield bytes([lanewire.ROWS]) + described + row * 2 + end
    yield bytes([lanewire.BIND | lanewire.PARSE | lanewire.TYPED | lanewire.ROWS]) + b"1\0\0\0\0042\0\0\0\4" + described + row + end
    yield bytes([lanewire.BIND | lanewire.TYPED]) + b"2\0\0\0\4n\0\0\0\4" + end


# --- the parser's answer ---


def answer(data: bytes) -> None:
    """As it is, and with the first byte as how often the rest stands in a list."""
    for text in (data, b"[" + b",".join([data[1:]] * (data[0] % 4)) + b"]" if data else b""):
        found = []
        for form in (_walk.decoded, orjson.loads):
            try:
                found.append(repr(form(text)))
            except orjson.JSONDecodeError:
                found.append("no JSON")
            except RecursionError:          # of ``repr``
                found.append("deep")
        assert found[0] == found[1]


def tree(data: bytes) -> None:
    """The parser's tree, from its memory and from its JSON."""
    assert rawtree.same(data.replace(b"\0", b"")[:10_000])


def tree_seeds() -> Iterable[bytes]:
    return (text.encode() for text in (*SHAPES, *rawtree.TEXTS))


def answer_seeds() -> Iterable[bytes]:
    for text in SHAPES:
        yield answer_of(text.encode())
    yield b'\2{"fields":[{"String":{"sval":"a"}},{"String":{"sval":"\\u00e9"}},-12,true,{"A_Star":{}}]}'


# --- detectors' prefilter ---


def candidates(data: bytes) -> None:
    """The first byte says which detectors look."""
    if not data:
        return
    kinds = data[0] & 15 or 15
    names = [name for name in detect.NAMES if detect._KINDS[name] & kinds]
    detectors = detect.Detectors(dict.fromkeys(names, MaskRule()))
    expected = [match.start() for match in detectors._hint.finditer(data[1:])]
    assert detectors.candidates(data[1:]) == bool(expected)
    places = detectors.places(data[1:])
    assert bool(places) == bool(expected) and places == sorted(places)
    if not expected:
        assert all(pattern.search(data[1:]) is None for needles, pattern, _ in detectors._steps)


def candidate_seeds() -> Iterable[bytes]:
    for text in (b"-----BEGIN RSA PRIVATE KEY-----\nMII", b"AKIAABCDEFGHIJKLMNOP", b"eyJhbGciOi.J9.x", b"4111 1111-1111 1111",
                 rb'{"a": "\u0034111"}'):
        for kinds in (15, 1, 2, 4, 8):
            yield bytes([kinds]) + b"x" * kinds + text
