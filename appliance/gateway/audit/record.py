# SPDX-License-Identifier: Apache-2.0
"""The bytes of a record: one JSON object on one line, exactly as exported. Its leaf is SHA-256 over 0x00 and these bytes.

Every record has ``origin``, ``seq``, ``time``, ``kind``, ``segment`` and ``prev`` (the first 16 hex digits of the leaf before it, so that a
verifier can name the very record that was changed), then the fields of its kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import orjson

from gateway.audit.template import ENVELOPE, Template, Ticket, values_of
from gateway.audit.tree import Tree, leaf_hash
from gateway.native import compiled

if TYPE_CHECKING:
    from gateway.recording.store import Samples

FORMAT = "lockgate-audit/1"
NO_PREV = "0" * 16
MAX_RECORD = 16 * 2**20
_ZERO = ord("0")


class RecordTooLarge(ValueError):
    """A record of more than ``MAX_RECORD`` bytes."""


def time_text(microseconds: int) -> str:
    """Microseconds since the epoch as RFC 3339 in UTC."""
    seconds, rest = divmod(microseconds, 1_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:06d}Z"


def time_value(text: str) -> int:
    """The reverse of ``time_text``. Raises ``ValueError``."""
    moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    return int(moment.replace(microsecond=0).timestamp()) * 1_000_000 + moment.microsecond


class TextDigest:
    """HMAC-SHA-256 (RFC 2104) with the padded key hashed once: a third of the cost of ``hmac.digest`` for a short text."""

    def __init__(self, key: bytes) -> None:
        """``key`` is at most 64 bytes."""
        padded = key.ljust(64, b"\0")
        self._inner, self._outer = sha256(bytes(b ^ 0x36 for b in padded)), sha256(bytes(b ^ 0x5C for b in padded))

    def of(self, text: str) -> str:
        """``hmac-sha256:`` and the hexadecimal digest of the text's UTF-8."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(text.encode("utf-8", "surrogatepass"))
        outer.update(inner.digest())
        return f"hmac-sha256:{outer.hexdigest()}"


class Encoder:
    """Turns fields into records and keeps where the log stands: tree, last leaf, last time (never going back)."""

    def __init__(self, origin: str, segment: str, digest_key: bytes) -> None:
        self._segment, self._digest = segment, TextDigest(digest_key)
        self._second, self._second_text = -1, b""
        self._openings: dict[str, Template] = {}
        self.head = b'{"origin":%b,"seq":' % orjson.dumps(origin)
        self.tree = Tree()
        self.prev = NO_PREV
        self.last = 0

    def mark(self) -> tuple[int, tuple[bytes, ...], str, int]:
        """Where the log stands, for ``rewind``."""
        return self.tree.size, tuple(self.tree.peaks), self.prev, self.last

    def rewind(self, mark: tuple[int, tuple[bytes, ...], str, int]) -> None:
        """Forget what was encoded since ``mark``: it did not reach the disk."""
        size, peaks, self.prev, self.last = mark
        self.tree = Tree(size, peaks)

    def clamp(self, microseconds: int) -> int:
        """The time the next record will carry: the clock's, or the last record's when the clock was set back."""
        return microseconds if microseconds > self.last else self.last

    def encode(self, kind: str, fields: Mapping[str, Any], microseconds: int, extra: Mapping[str, Any] | None = None) -> bytes:
        """The next record's bytes. Raises ``TypeError``, ``ValueError`` (not a record) or ``RecordTooLarge``; then nothing has changed."""
        tail = self.tail(fields, extra)
        moment = self.clamp(microseconds)
        head = self.opening(kind).form % (self.tree.size + 1, self.time(moment), self.prev.encode())
        return self._take(head + tail, moment)

    def tail(self, fields: Mapping[str, Any], extra: Mapping[str, Any] | None) -> bytes:
        """Everything of a record that comes after ``prev``. Raises ``TypeError`` or ``ValueError``."""
        if not ENVELOPE.isdisjoint(fields):
            raise ValueError("a field that the log writes itself")
        if extra or "text_secret" in fields or type(fields) is not dict:
            fields = dict(fields)
            if "text_secret" in fields:
                fields["text_digest"] = self._digest.of(fields.pop("text_secret"))
            if extra:
                fields.update(extra)
        return b",%b" % orjson.dumps(fields)[1:] if fields else b"}"

    def opening(self, kind: str) -> Template:
        """What stands before the fields of a record."""
        found = self._openings.get(kind)
        if found is None:
            found = self._openings[kind] = Template(self.head, kind, self._segment, {}, ())
        return found

    def template(self, kind: str, fields: Mapping[str, Any], holes: Sequence[str]) -> Template:
        """What ``fill`` fills. Raises ``ValueError`` or ``TypeError``: not a record the log can keep. For any thread."""
        constant = dict(fields)
        if "text_secret" in constant:
            constant["text_digest"] = self._digest.of(constant.pop("text_secret"))
        return Template(self.head, kind, self._segment, constant, holes)

    def values(self, template: Template, fields: Mapping[str, Any]) -> tuple[bytes, ...]:
        """Fields as the values of a template's first holes. Raises ``ValueError`` or ``TypeError``. For any thread."""
        given = dict(fields)
        if "text_secret" in given:
            given["text_digest"] = self._digest.of(given.pop("text_secret"))
        return values_of(template.holes, given)

    def fill(self, ticket: Ticket, extra: Mapping[str, Any] | None = None) -> bytes:
        """The next record's bytes, from a template. Raises as ``encode`` does, ``ValueError`` for values that are not JSON."""
        template, values = ticket.template, ticket.values
        if template.head is not self.head:
            raise ValueError("a template of another log")
        if len(values) != len(template.holes):
            raise ValueError("not one value for each hole")
        if template.begin >= 0 and not is_number(values[template.begin]):
            raise ValueError("the end of no command")
        for value in values:
            if not is_number(value):
                check_json(value)
        moment = self.clamp(ticket.time)
        data = template.form % (self.tree.size + 1, self.time(moment), self.prev.encode(), *values)
        return self._take(b"%b,%b" % (data, orjson.dumps(extra)[1:]) if extra else data + b"}", moment)

    def _take(self, data: bytes, moment: int) -> bytes:
        if len(data) > MAX_RECORD:
            raise RecordTooLarge(f"a record of {len(data)} bytes")
        leaf = leaf_hash(data)
        self.tree.append(leaf)
        self.prev = leaf[:8].hex()
        self.last = moment
        return data

    def time(self, microseconds: int) -> bytes:
        """``time_text``, quicker for many in one second."""
        second, rest = divmod(microseconds, 1_000_000)
        return b"%b%06dZ" % (self.second(second), rest)

    def second(self, second: int) -> bytes:
        """The first 20 bytes of a time: up to its decimal point."""
        if second != self._second:
            self._second, self._second_text = second, time_text(second * 1_000_000)[:20].encode()
        return self._second_text


def duration(ticket: Ticket, commands: Mapping[int, tuple[int, Any]]) -> float | None:
    """Seconds since the command began that ``ticket`` ends; ``None`` for none. ``commands`` are those of ``Standing``."""
    begin = ticket.template.begin
    if not 0 <= begin < len(ticket.values) or not is_number(ticket.values[begin]):
        return None
    begun = commands.get(int(ticket.values[begin]))
    return None if begun is None else max(0, ticket.time - begun[0]) / 1e6


def extra_of(ticket: Ticket, commands: Mapping[int, tuple[int, Any]], samples: Samples) -> dict[str, Any] | None:
    """What the log itself says at the end of a ticket's record: how long the command took, and where its recording is."""
    took = duration(ticket, commands)
    extra: dict[str, Any] = {} if took is None else {"duration": took}
    if ticket.recording:
        extra["recording"] = samples.refer(ticket.recording)
    return extra or None


def fill_many(encoder: Encoder, entries: Sequence[object], at: int, lines: list[bytes], commands: Mapping[int, tuple[int, Any]],
              samples: Samples) -> int:
    """Encode ``entries`` from ``at`` on into ``lines``, as long as they are tickets, and their recordings into ``samples``; gives where it
    stopped.

    What cannot be kept is left for ``Encoder.fill`` to refuse.
    """
    while at < len(entries):
        ticket = entries[at]
        if not isinstance(ticket, Ticket):
            break
        try:
            lines.append(encoder.fill(ticket, extra_of(ticket, commands, samples)))
        except (TypeError, ValueError):
            break
        ticket.place = encoder.tree.size
        if ticket.recording:
            samples.add(ticket.recording)
        at += 1
    return at


def is_number(value: bytes) -> bool:
    """A whole number of at most 18 digits: the values that need no closer look."""
    return value.isdigit() and len(value) <= 18 and (value[0] != _ZERO or len(value) == 1)


def check_json(value: bytes) -> None:
    """Raises ``ValueError`` unless ``value`` is one JSON value on one line: a record may not be closed or broken off from within."""
    if b"\n" in value:
        raise ValueError("a value of more than one line")
    orjson.loads(value)


fill_many_pure = fill_many
_fast = compiled("gateway.audit._record")
if _fast is not None:
    fill_many = _fast.fill_many
