# SPDX-License-Identifier: Apache-2.0
"""What the API takes and gives, beside ``approvals.view.ApprovalView``: the OpenAPI document is made from these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.approvals.view import ApprovalView


@dataclass(frozen=True, slots=True)
class Ballot:
    """A vote: the digest that was shown, and why (at most 2048 bytes; control characters are taken out)."""

    digest: str
    reason: str


@dataclass(frozen=True, slots=True)
class ApprovalList:
    """Approvals, oldest first. ``next`` is what to give as ``after`` for those that did not fit."""

    approvals: tuple[ApprovalView, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class WhoAmI:
    """The person the token is, and what they may do here besides voting. ``expires`` is RFC 3339."""

    name: str
    issuer: str
    subject: str
    groups: tuple[str, ...]
    expires: str
    reads: bool
    ends: bool


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the gateway serves: its listeners are up and records can be written."""

    ready: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Health:
    """The process answers."""

    alive: bool


@dataclass(frozen=True, slots=True)
class SessionList:
    """Sessions as ``lockgate sessions list`` shows them."""

    sessions: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class EventList:
    """Everything recorded of one session, in order: what a replay is made of."""

    events: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Records that contain the text."""

    records: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """The session was told to end."""

    session: str
    ended: bool


@dataclass(frozen=True, slots=True)
class Head:
    """The newest checkpoint: the signed note that ``audit verify --anchor`` takes."""

    note: str


@dataclass(frozen=True, slots=True)
class Problem:
    """RFC 9457. ``code`` is stable, ``detail`` is for people."""

    type: str
    title: str
    status: int
    detail: str
    code: str
