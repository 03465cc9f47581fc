# SPDX-License-Identifier: Apache-2.0
"""Reading console sessions back from the console log. Whatever came from a terminal is escaped (T53)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import orjson

from gateway.audit.reader import LogReader
from gateway.audit.record import time_value
from gateway.break_glass.events import Event, decode
from gateway.errors import ConfigError, GatewayFault
from gateway.recording.replay import Frame, clock, shown
from gateway.recording.store import RecordingError, read_recording

Document = dict[str, Any]
_INDENT = "      "


def records(state: Path, prefix: str = "break-glass.") -> Iterator[Document]:
    """Records of kinds that begin so, in order. Raises ``GatewayFault`` where the log cannot be read."""
    try:
        reader = LogReader(state / "audit")
        for source in reader.sources():
            for _, line in reader.records(source):
                record = orjson.loads(line)
                if str(record.get("kind", "")).startswith(prefix):
                    yield record
    except FileNotFoundError:
        raise GatewayFault(f"{state}: there is no console log") from None
    except (apsw.Error, OSError) as error:
        raise GatewayFault(f"{state}: the console log cannot be read ({type(error).__name__})") from None


def sessions(state: Path) -> list[Document]:
    """Oldest first: session, person, reason, tty, start, end, status, why."""
    found: dict[str, Document] = {}
    for record in records(state):
        name = str(record.get("session"))
        if record["kind"] == "break-glass.begin":
            found[name] = {key: record.get(key) for key in ("session", "person", "reason", "tty", "host")} | {
                "start": record["time"], "end": None, "status": "open", "why": None}
        elif record["kind"] == "break-glass.end" and name in found:
            found[name] |= {"end": record["time"], "status": record.get("status"), "why": record.get("reason")}
    return list(found.values())


def frames(state: Path, prefix: str) -> list[Frame]:
    """One session, an event a frame. Raises ``ConfigError`` unless exactly one begins so."""
    chosen = [one["session"] for one in sessions(state) if str(one["session"]).startswith(prefix)]
    if len(chosen) != 1:
        raise ConfigError(f"{len(chosen)} console sessions begin with {shown(prefix)!r}: expected one")
    mine = [record for record in records(state) if record.get("session") == chosen[0]]
    began = time_value(str(mine[0]["time"]))
    return [frame for record in mine for frame in _frames(state, record, began)]


def _frames(state: Path, record: Document, began: int) -> Iterator[Frame]:
    seq, kind, at = int(record["seq"]), record["kind"], (time_value(str(record["time"])) - began) / 1e6
    if kind == "break-glass.begin":
        yield Frame(0.0, seq, (f"{shown(record.get('person'))} on {shown(record.get('tty'))} of {shown(record.get('host'))}, "
                               f"{shown(record.get('time'))}: {shown(record.get('reason'))}",))
    elif kind == "break-glass.end":
        yield Frame(at, seq, (f"{clock(at)}  ended ({shown(record.get('status'))}): {shown(record.get('reason'))}",))
    elif kind == "break-glass.data":
        try:
            events = decode(read_recording(state / "recordings", record.get("recording")))
        except (RecordingError, ValueError, OSError) as error:
            yield Frame(float(record.get("from") or 0), seq, (f"{_INDENT}the recording does not match its record: {shown(error)}",))
            return
        yield from (Frame(event.at, seq, tuple(_lines(event))) for event in events)


def _lines(event: Event) -> Iterator[str]:
    names = {"i": "typed ", "I": "typed ", "o": "shown ", "O": "shown ", "h": "hidden", "r": "screen", "n": "notice"}
    for line in event.data.replace("\r\n", "\n").split("\n") if event.data else [""]:
        yield f"{clock(event.at)}  {names[event.type]}  | {shown(line)}"
