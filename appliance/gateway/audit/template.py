# SPDX-License-Identifier: Apache-2.0
"""Records that differ in a few values only: a *template* holds what is the same in all of them, a *ticket* is one on its way to the disk.

A record filled from a template is the one that ``record()`` would give for the same fields: the constant ones first, in their order, then
``text_digest`` where there is one, then the holes in theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import orjson

from gateway.native import compiled

BASE = ("session", "identity", "issuer", "owner", "groups", "resource", "protocol", "source", "policy")
"""The fields that every record of a session carries."""
ENVELOPE = frozenset({"origin", "seq", "time", "kind", "segment", "prev"})
_OWN = ENVELOPE | {"text_secret", "duration", "recording"}


class Waiter(Protocol):
    """Who wants to know when a record is on disk."""

    def durable(self, ticket: Ticket) -> None:
        """Called once, in the event loop, never from within ``fill``: ``ticket`` is on disk, or has ``failed``. Must not raise."""


class Fill(Protocol):
    """How a record is queued: see ``AuditLog.fill``."""

    def __call__(self, template: Template, values: tuple[bytes, ...], waiter: Waiter | None, lazy: bool = False,
                 recording: bytes | None = None) -> Ticket: ...


class Template:
    """What records of one kind have in common. Made by ``AuditLog.template``; belongs to that log.

    ``fields`` are the constant ones (without ``text_secret``, with ``text_digest``), ``holes`` the names filled per record, ``size`` the
    bytes of the constant part. ``begin`` is the hole that names a ``command.begin``, -1 for none, and ``base`` what stands of a begun
    command; ``None`` where that takes the values.
    """

    __slots__ = ("base", "begin", "fields", "form", "head", "holes", "kind", "size")

    def __init__(self, head: bytes, kind: str, segment: str, fields: Mapping[str, Any], holes: Sequence[str]) -> None:
        """``head`` is ``{"origin":…,"seq":``. Raises ``ValueError`` or ``TypeError``: not a record the log can keep."""
        self.head, self.kind, self.fields, self.holes = head, kind, dict(fields), tuple(holes)
        parts = parts_of(head, kind, segment, self.fields, self.holes)
        self.form, self.size = form_of(parts, len(self.holes)), sum(map(len, parts))
        self.begin, self.base = place_of_begin(kind, self.holes), base_of(self.fields, self.holes)

    def whole(self, values: Sequence[bytes]) -> dict[str, Any]:
        """The fields of one record as Python values. Raises ``ValueError`` when ``values`` are not one JSON value for each hole."""
        return self.fields | dict(zip(self.holes, map(orjson.loads, values), strict=True))


class Ticket:
    """One record filled from a template. ``seq`` is 0 until it is on disk; ``failed``: it will never be, and ``problem`` says why.

    ``time`` is microseconds since the epoch, ``cost`` about how many bytes the record takes. ``place`` is the seq that it has in a batch
    that is not on disk yet: for the writer alone.
    """

    __slots__ = ("cost", "failed", "lazy", "place", "problem", "recording", "seq", "template", "time", "values", "waiter")

    def __init__(self, template: Template, values: tuple[bytes, ...], waiter: Waiter | None, time: int, cost: int, *,
                 lazy: bool = False, recording: bytes | None = None) -> None:
        self.template, self.values, self.time, self.cost = template, values, time, cost
        self.waiter: Waiter | None = waiter
        self.lazy, self.recording = lazy, recording
        self.seq, self.place, self.failed, self.problem = 0, 0, False, ""

    @property
    def kind(self) -> str:
        return self.template.kind

    def record(self) -> tuple[str, dict[str, Any]]:
        """Kind and fields, as ``AuditLog.record`` takes them. Raises ``ValueError`` as ``whole`` does."""
        return self.template.kind, self.template.whole(self.values)


def parts_of(head: bytes, kind: str, segment: str, fields: Mapping[str, Any], holes: Sequence[str]) -> tuple[bytes, ...]:
    """What stands before seq, time, ``prev`` and each value. After the last one comes ``}``. Raises ``ValueError`` or ``TypeError``."""
    names = [*fields, *holes]
    if len(set(names)) != len(names) or not _OWN.isdisjoint(names):
        raise ValueError("a field twice, or one that the log writes itself")
    constant = b",%b" % orjson.dumps(dict(fields))[1:-1] if fields else b""
    opened = b'","kind":%b,"segment":%b,"prev":"' % (orjson.dumps(kind), orjson.dumps(segment))
    before = [b',"%b":' % _inner(name) for name in holes]
    closed = b'"' + constant + (before[0] if before else b"")
    return head, b',"time":"', opened, closed, *before[1:]


def form_of(parts: Sequence[bytes], holes: int) -> bytes:
    """The record for bytes ``%`` without its ``}``: seq, time, ``prev``, one value for each hole."""
    plain = [part.replace(b"%", b"%%") for part in parts]
    return b"%b%%d%b%%b%b%%b" % tuple(plain[:3]) + b"%b".join(plain[3:]) + (b"%b" if holes else b"")


def values_of(holes: Sequence[str], fields: Mapping[str, Any]) -> tuple[bytes, ...]:
    """The fields as JSON, in the order of the holes; they are the first of them. Raises ``ValueError`` or ``TypeError``."""
    first = holes[:len(fields)]
    try:
        values = tuple([orjson.dumps(fields[name]) for name in first])
    except KeyError:
        values = ()
    if len(values) != len(fields):
        raise ValueError("fields that are not the first holes")
    return values


def place_of_begin(kind: str, holes: Sequence[str]) -> int:
    """Which hole says what command ended; -1 for none."""
    return holes.index("begin") if kind == "command.end" and "begin" in holes else -1


def base_of(fields: Mapping[str, Any], holes: Sequence[str]) -> dict[str, Any] | None:
    """The fields of a session among the constant ones; ``None`` where a hole is one of them."""
    return None if any(name in BASE for name in holes) else {key: fields[key] for key in BASE if key in fields}


def _inner(name: str) -> bytes:
    """A name as JSON without its quotes."""
    if not isinstance(name, str):
        raise TypeError("a field's name is not text")
    return orjson.dumps(name)[1:-1]


PureTemplate, PureTicket = Template, Ticket
_fast = compiled("gateway.audit._record")
if _fast is not None:
    Template, Ticket = _fast.Template, _fast.Ticket  # type: ignore[misc]
