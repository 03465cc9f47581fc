# SPDX-License-Identifier: Apache-2.0
"""The gateway's eye on the console log: whatever happens there gets a record in the gateway's own log (``break-glass.seen``), a word to
the webhook and a number, while the gateway runs and afterwards for what happened while it did not."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw
import orjson

from gateway.approvals.notify import Event
from gateway.audit.reader import LogReader, Source, by_origin
from gateway.errors import AuditUnavailable, GatewayFault
from gateway.govern import AuditLog

_log = logging.getLogger(__name__)
EVERY = 2.0
_TOLD = 86400.0
_KINDS = ("break-glass.begin", "break-glass.end", "break-glass.refused")
_FIELDS = ("session", "person", "reason", "tty", "host", "status")
Found = list[tuple[str, int, Mapping[str, Any]]]


class Watch:
    """``log`` is the console's ``audit`` folder, ``seen`` the file that keeps how far it was read, per origin."""

    def __init__(self, log: Path, seen: Path, gateway: str, audit: AuditLog, tell: Callable[[Event], None],
                 clock: Callable[[], float]) -> None:
        self._folder, self._seen, self._gateway, self._audit, self._tell, self._clock = log, seen, gateway, audit, tell, clock
        self._last: dict[str, int] | None = None
        self._stamp: object = None
        self._complained = ""
        self._open: set[str] = set()
        self.counts: Counter[str] = Counter()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(EVERY)

    async def look(self) -> None:
        """One look. What cannot be read or recorded now is looked at again."""
        try:
            found = await asyncio.to_thread(self._news)
            for origin, seq, record in found:
                await self._pass_on(origin, seq, record)
            if found:
                await asyncio.to_thread(self._keep)
            self._complained = ""
        except AuditUnavailable:
            self._stamp = None
        except (GatewayFault, apsw.Error, OSError, ValueError) as error:
            self._stamp = None
            if self._complained != (said := str(error)):
                self._complained = said
                _log.error("the console log cannot be read: %s", said)

    async def _pass_on(self, origin: str, seq: int, record: Mapping[str, Any]) -> None:
        kind = str(record["kind"])
        fields = {key: record[key] for key in _FIELDS if isinstance(record.get(key), str)}
        await self._audit.record("break-glass.seen", {"console": origin, "console_seq": seq, "what": kind, "when": record.get("time"),
                                                      **{key: value for key, value in fields.items() if key != "session"},
                                                      "console_session": fields.get("session")})
        assert self._last is not None
        self._last[origin] = seq
        event = kind.removeprefix("break-glass.")
        self.counts[event] += 1
        if event == "begin":
            self._open.add(fields.get("session", ""))
        elif event == "end":
            self._open.discard(fields.get("session", ""))
        self.counts["open"] = len(self._open)
        _log.critical("%s on the console: %s", kind, fields.get("reason", ""))
        place = {"gateway": self._gateway, "origin": origin, "seq": seq, "time": record.get("time")}
        self._tell(Event(kind, {"event": kind, **place, **fields}, self._clock() + _TOLD))

    # ---- in a thread

    def _news(self) -> Found:
        """Records that were not passed on yet. Cheap where nothing changed."""
        stamp = self._state()
        if stamp is None or stamp == self._stamp:
            return []
        if self._last is None:
            self._last = self._kept()
        reader = LogReader(self._folder)
        found = [one for origin, files in by_origin(reader.sources()).items() for one in self._of(reader, origin, files, self._last)]
        self._stamp = stamp
        return found

    def _of(self, reader: LogReader, origin: str, files: list[Source], last: dict[str, int]) -> Found:
        after = last.get(origin, 0)
        newest = max(files, key=lambda one: one.first)
        if after and not any(True for _ in reader.records(newest, max(after, newest.first) - 1)):
            after = 0   # the log is shorter than it was: it began anew, and everything in it is news
        return [(origin, seq, record) for source in files for seq, line in reader.records(source, max(after, source.first - 1))
                if (record := orjson.loads(line)).get("kind") in _KINDS]

    def _state(self) -> object:
        """Changes whenever something was written there; ``None`` while there is no log."""
        try:
            entries = [(entry.name, entry.stat()) for entry in os.scandir(self._folder) if ".db" in entry.name]
        except FileNotFoundError:
            return None
        return sorted((name, info.st_size, info.st_mtime_ns) for name, info in entries if not name.endswith("-shm"))

    def _kept(self) -> dict[str, int]:
        with suppress(FileNotFoundError, ValueError, TypeError):
            return {str(origin): int(seq) for origin, seq in orjson.loads(self._seen.read_bytes()).items()}
        return {}

    def _keep(self) -> None:
        fresh = self._seen.with_name(self._seen.name + ".new")
        fresh.write_bytes(orjson.dumps(self._last))
        fresh.replace(self._seen)
