# SPDX-License-Identifier: Apache-2.0
"""What people see of an approval: frozen, and in the JSON of contract section 6."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gateway.approvals.binding import timestamp

State = Literal["pending", "granted", "denied", "expired", "withdrawn", "used"]
STATES: tuple[State, ...] = ("pending", "granted", "denied", "expired", "withdrawn", "used")
OPEN: frozenset[State] = frozenset({"pending", "granted"})


@dataclass(frozen=True, slots=True)
class NeedView:
    """``have`` of ``count`` voters of ``group`` are there."""

    group: str
    count: int
    have: int


@dataclass(frozen=True, slots=True)
class VoteView:
    """One vote. ``vote`` is ``approve`` or ``deny``; ``time`` is RFC 3339."""

    voter: str
    vote: str
    reason: str
    time: str


@dataclass(frozen=True, slots=True)
class ApprovalView:
    """One approval as the API shows it. ``requested`` and ``expires`` are RFC 3339.

    ``operations`` are verb and objects of each, where there are several that are shown by themselves (SSH).
    ``exact`` says whether ``text``, ``parameters`` and ``binding`` are those of the command (for people who may vote on
    it while it is open) or what the log may show. ``text_flags`` names what may hide in the exact text. ``outcome`` is why
    it was denied or withdrawn.
    """

    id: str
    state: State
    identity: str
    owner: str | None
    resource: str
    protocol: str
    text: str
    digest: str
    needs: tuple[NeedView, ...]
    requested: str
    expires: str
    votes: tuple[VoteView, ...]
    exact: bool
    text_flags: tuple[str, ...]
    parameters: tuple[str | None, ...]
    verbs: tuple[str, ...]
    objects: tuple[str, ...]
    operations: tuple[tuple[str, ...], ...]
    gateway: str
    login: str
    database: str
    session: str
    source: str
    rules: tuple[str, ...]
    waits: bool
    outcome: str = ""
    binding: Mapping[str, Any] | None = None

    def document(self) -> dict[str, Any]:
        """For JSON. ``binding`` only where it is there: its digest is ``digest``."""
        shown = {name: _plain(getattr(self, name)) for name in self.__slots__ if name != "binding"}
        if self.binding is not None:
            shown["binding"] = dict(self.binding)
        return shown

    def notice(self) -> str:
        """What a caller that waits is told, in one line: the id, who can approve, until when, and how."""
        who = " and ".join(f"{need.count} of {need.group}" for need in self.needs)
        return (f"held for approval {self.id}: needs {who} until {self.expires}; "
                f"to approve: lockgate approvals approve {self.id} --reason TEXT --token-file FILE")


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, NeedView | VoteView):
        return {name: getattr(value, name) for name in value.__slots__}
    return value


__all__ = ["OPEN", "STATES", "ApprovalView", "NeedView", "State", "VoteView", "timestamp"]
