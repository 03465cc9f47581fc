# SPDX-License-Identifier: Apache-2.0
"""Audit logs without a disk: the same promises as ``audit.log``, kept in a list."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.audit.template import Template, Ticket, Waiter, values_of
from gateway.errors import AuditUnavailable
from gateway.govern import Fields

_KEY = b"the text digest key of the tests"


@dataclass(frozen=True, slots=True)
class Record:
    """One record as a reader would see it."""

    seq: int
    kind: str
    fields: dict[str, Any]
    recording: bytes | None = None


class MemoryAudit:
    """An audit log in memory. Futures are done one turn of the loop after the record was queued, in order.

    ``hold()`` keeps everything queued from becoming durable (a slow disk) until ``release()``.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        self.records: list[Record] = []
        self._queued: list[tuple[asyncio.Future[list[int]], Sequence[tuple[str, Fields, bytes | None]]]] = []
        self._held = False

    @property
    def available(self) -> bool:
        return True

    def record(self, kind: str, fields: Fields, recording: bytes | None = None) -> asyncio.Future[int]:
        return _first(self._queue([(kind, fields, recording)]))

    def record_together(self, records: Sequence[tuple[str, Fields]]) -> asyncio.Future[list[int]]:
        return self._queue([(kind, fields, None) for kind, fields in records])

    def template(self, kind: str, fields: Fields, holes: Sequence[str]) -> Template:
        constant = _kept(fields)
        try:
            return Template(b'{"origin":"memory","seq":', kind, "memory", constant, holes)
        except (ValueError, TypeError):
            raise AuditUnavailable("not a record the audit log can keep") from None

    def values(self, template: Template, fields: Fields) -> tuple[bytes, ...]:
        try:
            return values_of(template.holes, _kept(fields))
        except (ValueError, TypeError):
            raise AuditUnavailable("not a record the audit log can keep") from None

    def fill(self, template: Template, values: tuple[bytes, ...], waiter: Waiter | None, lazy: bool = False,
             recording: bytes | None = None) -> Ticket:
        ticket = Ticket(template, values, waiter, 0, 0, lazy=lazy, recording=recording)

        def settle(done: asyncio.Future[list[int]]) -> None:
            fault = done.exception()
            if fault is None:
                ticket.seq = done.result()[0]
            else:
                ticket.failed, ticket.problem = True, str(fault)
            if waiter is not None:
                waiter.durable(ticket)

        try:
            kind, fields = ticket.record()
        except ValueError:
            asyncio.get_running_loop().call_soon(settle, _failed("not a record the audit log can keep"))
        else:
            self._queue([(kind, fields, recording)]).add_done_callback(settle)
        return ticket

    def hold(self) -> None:
        self._held = True

    def release(self) -> None:
        self._held = False
        self._flush()

    def kinds(self, prefix: str = "") -> list[str]:
        """The kinds of all durable records, in order."""
        return [record.kind for record in self.records if record.kind.startswith(prefix)]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The fields of all durable records of one kind."""
        return [record.fields for record in self.records if record.kind == kind]

    def text(self) -> str:
        """Everything that was kept, for tests that look for a secret in it."""
        return repr(self.records)

    def _queue(self, records: Sequence[tuple[str, Fields, bytes | None]]) -> asyncio.Future[list[int]]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[list[int]] = loop.create_future()
        self._queued.append((done, [(kind, dict(fields), recording) for kind, fields, recording in records]))
        loop.call_soon(self._flush)
        return done

    def _flush(self) -> None:
        while self._queued and not self._held:
            done, records = self._queued.pop(0)
            try:
                seqs = self._write(records)
            except Exception as fault:  # whatever it is, it is the caller's
                if not done.cancelled():
                    done.set_exception(fault)
                continue
            if not done.cancelled():
                done.set_result(seqs)

    def _write(self, records: Sequence[tuple[str, Fields, bytes | None]]) -> list[int]:
        return [self._append(kind, fields, recording) for kind, fields, recording in records]

    def _append(self, kind: str, fields: Fields, recording: bytes | None) -> int:
        self.records.append(Record(len(self.records) + 1, kind, _kept(fields), recording))
        return len(self.records)


class FailingAudit(MemoryAudit):
    """Fails from the ``at``-th record on (1 is the first), a whole batch at a time, until ``repair()``."""

    def __init__(self, at: int = 1, *, strict: bool = False) -> None:
        super().__init__(strict=strict)
        self.at = at
        self.failed = 0

    @property
    def available(self) -> bool:
        return not self.failed

    def repair(self) -> None:
        """The disk has room again."""
        self.at = 2**63
        self.failed = 0

    def _write(self, records: Sequence[tuple[str, Fields, bytes | None]]) -> list[int]:
        if len(self.records) + len(records) >= self.at:
            self.failed += 1
            raise AuditUnavailable("the audit record could not be written")
        return super()._write(records)


def _failed(problem: str) -> asyncio.Future[list[int]]:
    done: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
    done.set_exception(AuditUnavailable(problem))
    return done


def _kept(fields: Fields) -> dict[str, Any]:
    kept = dict(fields)
    secret = kept.pop("text_secret", None)
    if secret is not None:
        kept["text_digest"] = hmac.new(_KEY, secret.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
    return kept


def _first(batch: asyncio.Future[list[int]]) -> asyncio.Future[int]:
    one: asyncio.Future[int] = batch.get_loop().create_future()

    def passed_on(done: asyncio.Future[list[int]]) -> None:
        fault = done.exception()
        if one.cancelled():
            return
        if fault is not None:
            one.set_exception(fault)
        else:
            one.set_result(done.result()[0])

    batch.add_done_callback(passed_on)
    return one
