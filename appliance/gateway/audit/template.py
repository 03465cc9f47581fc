# SPDX-License-Identifier: Apache-2.0
"""Records that differ in a few values only: a *template* holds what is the same in all of them, a *ticket* is one on its way to the disk.

A record filled from a template is the one that ``record()`` would give for the same fields: the constant ones first, in their order, then
``text_digest`` where there is one, then the holes in theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import orjson

BASE = ("session", "identity", "issuer", "owner", "groups", "resource", "protocol", "source", "policy")
"""The fields that every record of a session carries."""
ENVELOPE = frozenset({"origin", "seq", "time", "kind", "segment", "prev"})
_OWN = ENVELOPE | {"text_secret", "duration", "recording"}


class Waiter(Protocol):
    """Who wants to know when a record is on disk."""

    def durable(self, ticket: Ticket) -> None:
        """Called once, in the event loop, never from within ``fill``: ``ticket`` is on disk, or has ``failed``. Must not raise."""


class Template:
    """What records of one kind have in common. Made by ``AuditLog.template``; belongs to that log.

    ``fields`` are the constant ones (without ``text_secret``, with ``text_digest``), ``holes`` the names filled per record, ``size`` the
    bytes of the constant part. ``form`` is the record for bytes ``%``: seq, time, prev, one value per hole.
    """

    __slots__ = ("base", "begin", "fields", "form", "head", "holes", "kind", "size")

    def __init__(self, head: bytes, kind: str, segment: str, fields: Mapping[str, Any], holes: Sequence[str]) -> None:
        """``head`` is ``{"origin":…,"seq":``. Raises ``ValueError`` or ``TypeError``: not a record the log can keep."""
        self.head, self.kind, self.fields, self.holes = head, kind, dict(fields), tuple(holes)
        names = [*self.fields, *self.holes]
        if len(set(names)) != len(names) or not _OWN.isdisjoint(names):
            raise ValueError("a field twice, or one that the log writes itself")
        opened = orjson.dumps({"kind": kind, "segment": segment})[:-1]
        constant = b"".join(b',"%b":%b' % (_inner(name), orjson.dumps(value)) for name, value in self.fields.items())
        parts = [b"%s%%d,\"time\":\"%%b\",%s,\"prev\":\"%%b\"%s" % (_plain(head), _plain(opened[1:]), _plain(constant))]
        parts += [b',"%b":%%b' % _plain(_inner(name)) for name in self.holes]
        self.form = b"".join(parts)
        self.size = len(self.form)
        self.begin = self.holes.index("begin") if kind == "command.end" and "begin" in self.holes else -1
        self.base = None if any(name in BASE for name in self.holes) else {key: self.fields[key] for key in BASE if key in self.fields}

    def whole(self, values: Sequence[bytes]) -> dict[str, Any]:
        """The fields of one record as Python values. Raises ``ValueError`` when ``values`` are not one JSON value for each hole."""
        return self.fields | dict(zip(self.holes, map(orjson.loads, values), strict=True))


class Ticket:
    """One record filled from a template. ``seq`` is 0 until it is on disk; ``failed``: it will never be, and ``problem`` says why.

    ``time`` is microseconds since the epoch, ``cost`` about how many bytes the record takes.
    """

    __slots__ = ("cost", "failed", "lazy", "problem", "recording", "seq", "template", "time", "values", "waiter")

    def __init__(self, template: Template, values: tuple[bytes, ...], waiter: Waiter | None, time: int, cost: int, *,
                 lazy: bool = False, recording: bytes | None = None) -> None:
        self.template, self.values, self.waiter, self.time, self.cost = template, values, waiter, time, cost
        self.lazy, self.recording = lazy, recording
        self.seq, self.failed, self.problem = 0, False, ""

    @property
    def kind(self) -> str:
        return self.template.kind

    def record(self) -> tuple[str, dict[str, Any]]:
        """Kind and fields, as ``AuditLog.record`` takes them."""
        return self.template.kind, self.template.whole(self.values)


def _plain(part: bytes) -> bytes:
    """As literal text of a ``%`` form."""
    return part.replace(b"%", b"%%")


def _inner(name: str) -> bytes:
    """A name as JSON without its quotes."""
    if not isinstance(name, str):
        raise TypeError("a field's name is not text")
    return orjson.dumps(name)[1:-1]
