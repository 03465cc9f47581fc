# SPDX-License-Identifier: Apache-2.0
"""From a session's records to what a terminal shows, when. Pure; whatever came from outside is escaped, so that no statement, name or
value can move the cursor, set the clipboard or reverse the text (T53)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway.audit.record import time_value
from gateway.recording.terminal import Event, unlisted

Record = Mapping[str, Any]
_VALUE = 60
_COLUMNS = 12
_INDENT = "      "


@dataclass(frozen=True, slots=True)
class Frame:
    """Lines that appear ``at`` seconds after the session began; or, without lines, what the program that ``begin`` names did then."""

    at: float
    seq: int
    lines: tuple[str, ...]
    begin: int = 0
    event: Event | None = None


def shown(value: object, limit: int = 0) -> str:
    """Text from elsewhere on one line: everything that is not plainly printable is written as an escape."""
    text = "" if value is None else str(value)
    plain = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return plain if not limit or len(plain) <= limit else plain[:limit - 1] + "…"


def statement(text: object) -> list[str]:
    """A statement's text, its own line breaks kept, every line marked so that none can pass for a line of the replay."""
    lines = str(text if text is not None else "").replace("\r\n", "\n").split("\n")
    return [f"{_INDENT}| {shown(line.expandtabs(4))}" for line in lines]


def clock(seconds: float) -> str:
    """``12:34.567``, with hours where there are some."""
    minutes, rest = divmod(max(0.0, seconds), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:06.3f}" if hours else f"{minutes:02d}:{rest:06.3f}"


def frames(records: Sequence[Record]) -> list[Frame]:
    """One frame a record, and one for each event of a terminal's recording, in the order in which they happened."""
    began: float | None = None
    made: list[Frame] = []
    begins: dict[int, float] = {}
    for record in records:
        moment = _moment(record)
        began = moment if began is None else began
        at, number = moment - began, _number(record.get("seq"))
        kind = str(record.get("kind"))
        if kind == "command.begin":
            begins[number] = at
        shows = recorded(record)
        begin = _number(record.get("begin"))
        made += [Frame(begins.get(begin, at) + event.at / 1e6, number, (), begin, event) for event in shows]
        if kind != "command.output" or "sample_error" in record:
            head, *rest = _DESCRIBE.get(kind, _other)(record)
            made.append(Frame(max(at, made[-1].at) if shows else at, number, (f"{clock(at)}  #{number}  {head}", *rest)))
    return sorted(made, key=lambda frame: frame.at)


def recorded(record: Record) -> list[Event]:
    """The events of a terminal's recording that a record carries."""
    sample = record.get("sample")
    if not isinstance(sample, dict) or "terminal" not in sample:
        return []
    try:
        return unlisted(sample["terminal"])
    except ValueError:
        return []


def _number(value: object) -> int:
    return value if type(value) is int else 0


def _moment(record: Record) -> float:
    try:
        return time_value(str(record.get("time"))) / 1e6
    except ValueError:
        return 0.0


def _start(record: Record) -> list[str]:
    claims = record.get("claims")
    about = ", ".join(f"{shown(k)}={shown(v, 60)}" for k, v in claims.items()) if isinstance(claims, dict) else ""
    lines = [f"session {shown(record.get('session'))}: {shown(record.get('identity'))} on {shown(record.get('resource'))} "
             f"({shown(record.get('protocol'))}) from {shown(record.get('source'))}, {shown(record.get('time'))}"]
    lines.append(f"{_INDENT}issuer {shown(record.get('issuer'))}, owner {shown(record.get('owner')) or '-'}, "
                 f"groups {_listed(record.get('groups')) or '-'}, policy {shown(record.get('policy'))[:19]}")
    return [*lines, f"{_INDENT}{about}"] if about else lines


def _end(record: Record) -> list[str]:
    return [f"session ends: {shown(record.get('reason'))}"]


def each_operation(record: Record) -> list[str]:
    """Verb and objects of each operation, where they were recorded each by itself."""
    operations = record.get("operations")
    return [_listed(one) for one in operations if isinstance(one, list)] if isinstance(operations, list) else []


def _begin(record: Record) -> list[str]:
    decision = record.get("decision")
    decision = decision if isinstance(decision, dict) else {}
    effect = shown(decision.get("effect")).upper()
    each = each_operation(record)
    what = each[0] if each else f"{_listed(record.get('verbs')) or shown(record.get('verb'))} {_listed(record.get('objects'))}"
    why = _listed(decision.get("rules")) or shown(decision.get("reason"))
    approval = f", approval {shown(record.get('approval'))}" if record.get("approval") else ""
    phase = f" ({shown(record.get('phase'))})" if record.get("phase") else ""
    lines = [f"{effect or '?'} {what}{phase}  [{why}{approval}]", *(f"{_INDENT}and {one}" for one in each[1:]),
             *statement(record.get("text"))]
    if record.get("filtered"):
        lines.append(f"{_INDENT}row filters: {_listed(record.get('filtered'))}")
    parameters = record.get("parameters")
    if isinstance(parameters, list) and parameters:
        lines.append(f"{_INDENT}parameters: {', '.join('NULL' if value is None else shown(value, _VALUE) for value in parameters)}")
    if effect == "DENY":
        lines.append(f"{_INDENT}refused: {shown(decision.get('reason'))}")
    return lines


def _finished(record: Record) -> list[str]:
    parts = [f"#{shown(record.get('begin'))} {shown(record.get('status'))}"]
    if record.get("error"):
        parts.append(f"error {shown(record.get('error'))}")
    parts += [f"{shown(record.get(key, 0))} {name}" for key, name in (("rows", "rows"), ("bytes", "bytes"), ("masked", "values masked"))]
    if isinstance(record.get("duration"), float | int):
        parts.append(f"{record['duration'] * 1000:.1f} ms")
    return [", ".join(parts), *_transfer(record), *_sample(record)]


def _transfer(record: Record) -> list[str]:
    """A file that was read or written: its path, size, direction and digest."""
    if not record.get("path"):
        return []
    parts = [shown(record.get(key)) for key in ("direction", "path") if record.get(key)]
    size = record.get("size")
    parts += [f"{size} bytes"] if type(size) is int else []
    parts += [f"sha256 {shown(record['sha256'])}"] if record.get("sha256") else []
    return [_INDENT + " ".join(parts)]


def _sample(record: Record) -> list[str]:
    if "sample_error" in record:
        return [f"{_INDENT}the recording does not match its record: {shown(record['sample_error'])}"]
    sample = record.get("sample")
    if isinstance(sample, dict) and "terminal" in sample:
        return []
    if isinstance(sample, dict) and isinstance(sample.get("rows"), list):
        return _table(sample)
    return [f"{_INDENT}{shown(sample, 200)}"] if sample else []


def _table(sample: Mapping[str, Any]) -> list[str]:
    names = [shown(name, _VALUE) for name in sample.get("columns") or []][:_COLUMNS]
    rows = [["" if value is None else shown(value, _VALUE) for value in row[:_COLUMNS]] for row in sample["rows"] if isinstance(row, list)]
    cells = ([names] if names else []) + rows
    if not cells:
        return []
    widths = [max(len(row[at]) for row in cells if at < len(row)) for at in range(max(map(len, cells)))]
    lines = [_INDENT + " ¦ ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in cells]
    if names:
        lines.insert(1, _INDENT + "-+-".join("-" * width for width in widths[:len(names)]))
    if sample.get("truncated"):
        lines.append(f"{_INDENT}… more rows were sent than are kept")
    return lines


def _requested(record: Record) -> list[str]:
    needs = record.get("needs")
    who = " and ".join(f"{shown(need.get('count'))} of {shown(need.get('group'))}" for need in needs if isinstance(need, dict)) \
        if isinstance(needs, list) else ""
    return [f"held: approval {shown(record.get('id'))} needs {who}, until {shown(record.get('expires'))}", *statement(record.get("text"))]


def _vote(record: Record) -> list[str]:
    says = "approves" if record.get("vote") == "approve" else "denies"
    return [f"{shown(record.get('voter'))} {says} {shown(record.get('id'))} at {shown(record.get('time'))}: {shown(record.get('reason'))}"]


def _outcome(record: Record) -> list[str]:
    state = shown(record.get("kind")).removeprefix("approval.")
    voters = f" by {_listed(record.get('voters'))}" if record.get("voters") else ""
    reason = f": {shown(record.get('reason'))}" if record.get("reason") else ""
    return [f"approval {shown(record.get('id'))} {state}{voters}{reason}"]


def _watched(record: Record) -> list[str]:
    return [f"{shown(record.get('identity'))} watches, from {shown(record.get('source'))}"]


def _other(record: Record) -> list[str]:
    kind = shown(record.get("kind"))
    return _outcome(record) if kind.startswith("approval.") else [kind + (f": {shown(record['reason'])}" if record.get("reason") else "")]


def _listed(values: object) -> str:
    return " ".join(shown(value) for value in values) if isinstance(values, list) else ""


_DESCRIBE: Mapping[str, Callable[[Record], list[str]]] = {
    "session.start": _start, "session.end": _end, "command.begin": _begin, "command.end": _finished,
    "session.watched": _watched, "approval.requested": _requested, "approval.vote": _vote,
}


def starting(made: Sequence[Frame], at: str) -> list[Frame]:
    """Frames from ``at`` on: a record's number, seconds, ``MM:SS`` or ``HH:MM:SS`` after the beginning. Raises ``ValueError``."""
    if at.isascii() and at.isdigit() and any(frame.seq == int(at) for frame in made):
        return _with_screen(made, [frame for frame in made if frame.seq >= int(at)])
    seconds = 0.0
    for part in at.split(":"):
        seconds = seconds * 60 + float(part)
    return _with_screen(made, [frame for frame in made if frame.at >= seconds])


def _with_screen(made: Sequence[Frame], chosen: list[Frame]) -> list[Frame]:
    """What the first program among them had drawn before, all at once."""
    first = chosen[0] if chosen else None
    if first is None or first.event is None:
        return chosen
    kept = {id(frame) for frame in chosen}
    before = [replace(frame, at=first.at) for frame in made if frame.begin == first.begin and frame.event and id(frame) not in kept]
    return before + chosen


def pauses(made: Iterable[Frame], speed: float, idle: float | None) -> list[tuple[float, Frame]]:
    """How many seconds to wait before each frame at ``speed``, no pause longer than ``idle``."""
    waits: list[tuple[float, Frame]] = []
    before: float | None = None
    for frame in made:
        gap = 0.0 if before is None else max(0.0, frame.at - before) / speed
        waits.append((gap if idle is None else min(gap, idle), frame))
        before = frame.at
    return waits
