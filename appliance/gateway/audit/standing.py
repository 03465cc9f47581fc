# SPDX-License-Identifier: Apache-2.0
"""What is open right now: sessions, commands, approvals and console sessions begun and not ended, so that none stays open after a crash."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.audit.template import BASE, Ticket
from gateway.native import compiled

Fields = Mapping[str, Any]
_APPROVAL_OVER = frozenset({"approval.denied", "approval.expired", "approval.withdrawn", "approval.used"})
STOPPED = "gateway stopped"
_CONSOLE = ("session", "person", "tty")


def _base(fields: Fields) -> dict[str, Any]:
    return {key: fields[key] for key in BASE if key in fields}


def approval_id(fields: Fields) -> str:
    """The approval that an ``approval.*`` record speaks of."""
    found = fields.get("approval") or fields.get("id") or ""
    return str(found)


class Standing:
    """Follows records in the order they are committed. ``commands`` maps seq to (time in microseconds, fields), ``consoles`` the id of a
    break-glass session to the seq of its begin and fields."""

    def __init__(self) -> None:
        self.sessions: dict[str, Fields] = {}
        self.commands: dict[int, tuple[int, Fields]] = {}
        self.approvals: dict[str, Fields] = {}
        self.consoles: dict[str, tuple[int, Fields]] = {}

    def __len__(self) -> int:
        return len(self.sessions) + len(self.commands) + len(self.approvals) + len(self.consoles)

    def follow(self, kind: str, seq: int, microseconds: int, fields: Fields) -> None:
        """Take one committed record into account."""
        if kind == "command.begin":
            self.commands[seq] = (microseconds, fields)
        elif kind == "command.end":
            self.commands.pop(fields.get("begin", 0), None)
        elif kind == "session.start":
            self.sessions[str(fields.get("session"))] = _base(fields)
        elif kind == "session.end":
            self.sessions.pop(str(fields.get("session")), None)
        elif kind == "approval.requested":
            self.approvals[approval_id(fields)] = fields
        elif kind in _APPROVAL_OVER:
            self.approvals.pop(approval_id(fields), None)
        elif kind == "break-glass.begin":
            self.consoles[str(fields.get("session"))] = (seq, fields)
        elif kind == "break-glass.end":
            self.consoles.pop(str(fields.get("session")), None)

    def leftovers(self) -> list[tuple[str, dict[str, Any]]]:
        """The records that close everything open, commands first."""
        commands: list[tuple[str, dict[str, Any]]] = [
            ("command.end", _base(fields) | {"begin": seq, "status": "orphaned", "rows": 0, "bytes": 0, "masked": 0, "error": ""})
            for seq, (_, fields) in self.commands.items()]
        approvals = [("approval.withdrawn", _base(fields) | {"id": name, "reason": STOPPED}) for name, fields in self.approvals.items()]
        sessions = [("session.end", _base(fields) | {"reason": STOPPED}) for fields in self.sessions.values()]
        consoles: list[tuple[str, dict[str, Any]]] = [
            ("break-glass.end", {key: fields[key] for key in _CONSOLE if key in fields}
             | {"begin": seq, "status": "orphaned", "reason": "its recorder ended without a word"})
            for seq, fields in self.consoles.values()]
        return commands + approvals + sessions + consoles

    def to_json(self) -> dict[str, Any]:
        """What a later process needs to know (no statement text)."""
        return {
            "sessions": [_base(fields) for fields in self.sessions.values()],
            "commands": [[seq, moment, _base(fields)] for seq, (moment, fields) in self.commands.items()],
            "approvals": [_base(fields) | {"id": name} for name, fields in self.approvals.items()],
            "consoles": [[seq, {key: fields[key] for key in _CONSOLE if key in fields}] for seq, fields in self.consoles.values()],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Standing:
        standing = cls()
        standing.sessions = {str(fields.get("session")): fields for fields in data["sessions"]}
        standing.commands = {seq: (moment, fields) for seq, moment, fields in data["commands"]}
        standing.approvals = {approval_id(fields): fields for fields in data["approvals"]}
        standing.consoles = {str(fields.get("session")): (seq, fields) for seq, fields in data.get("consoles", ())}
        return standing


def follow_many(commands: dict[int, tuple[int, Fields]], entries: Iterable[object]) -> list[Any]:
    """Take committed tickets that begin or end a command into account; gives all other entries, in order."""
    others = []
    for entry in entries:
        if not isinstance(entry, Ticket):
            others.append(entry)
            continue
        template = entry.template
        if not entry.place:
            continue
        if template.begin >= 0:
            commands.pop(int(entry.values[template.begin]), None)
        elif template.kind == "command.begin" and template.base is not None:
            commands[entry.place] = (entry.time, template.base)
        else:
            others.append(entry)
    return others


follow_many_pure = follow_many
_fast = compiled("gateway.audit._record")
if _fast is not None:
    follow_many = _fast.follow_many
