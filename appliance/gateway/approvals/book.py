# SPDX-License-Identifier: Apache-2.0
"""The approvals there are: by id, by what they are bound to, and how many there may be. No I/O, no clock."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.approvals.binding import timestamp
from gateway.approvals.shown import text_flags
from gateway.approvals.view import OPEN, ApprovalView, NeedView, State, VoteView
from gateway.config.schema import ApprovalRule
from gateway.govern import Fields
from gateway.model import Command, Identity, Session
from gateway.policy.votes import Need, tally
from gateway.policy.votes import Vote as Ballot


@dataclass(frozen=True, slots=True)
class DeskLimits:
    """How many approvals may be open (pending or granted) per identity and in all, the bytes of text and parameters they
    may hold together, and how many past ones are shown."""

    per_identity: int = 20
    total: int = 1000
    held: int = 256 * 2**20
    remembered: int = 1000


@dataclass(frozen=True, slots=True)
class Vote:
    """One vote that took effect. ``time`` is seconds since the epoch."""

    voter: Identity
    grant: bool
    reason: str
    time: float

    def ballot(self) -> Ballot:
        """As the count sees it."""
        return Ballot(self.voter.name, self.voter.issuer, self.voter.subject, self.voter.groups, self.grant)

    def view(self) -> VoteView:
        return VoteView(self.voter.name, "approve" if self.grant else "deny", self.reason, timestamp(self.time))


@dataclass(frozen=True, slots=True)
class Request:
    """What never changes of an approval. ``command`` is ``None`` once it can no longer run: its exact text is dropped.

    ``key`` is the digest of the binding without expiry and nonce: equal for the identical command asked again.
    ``base`` are the fields every record of it carries.
    """

    id: str
    gateway: str
    session: Session
    command: Command | None
    binding: Mapping[str, Any]
    digest: str
    key: str
    policy: str
    definitions: tuple[ApprovalRule, ...]
    requested: float
    expires: float
    shown_text: str
    shown_parameters: tuple[str | None, ...]
    verbs: tuple[str, ...]
    objects: tuple[str, ...]
    operations: tuple[tuple[str, ...], ...]
    rules: tuple[str, ...]
    waits: bool
    base: Fields
    size: int
    """Bytes of text and parameters, roughly: one per character."""


@dataclass(slots=True)
class Held:
    """One approval and its state. ``decided`` is set when it leaves ``pending``, ``closing`` is its last record on its way.

    ``visible`` becomes true when the request is on disk; ``user`` is the session its one use is reserved for.
    """

    id: str
    request: Request
    state: State = "pending"
    visible: bool = False
    votes: list[Vote] = field(default_factory=list)
    outcome: str = ""
    user: Session | None = None
    decided: asyncio.Event = field(default_factory=asyncio.Event)
    closing: asyncio.Future[int] | None = None
    voting: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def open(self) -> bool:
        return self.state in OPEN

    def count(self, cast: Iterable[Vote]) -> tuple[Need, ...]:
        """How far these votes go."""
        who = self.request.session.identity
        return tally(self.request.definitions, [vote.ballot() for vote in cast], who.owner, who.name)

    def view(self, *, exact: bool) -> ApprovalView:
        """``exact`` shows text, parameters and binding as they would run, while they are still kept."""
        request, command = self.request, self.request.command if exact else None
        return ApprovalView(
            id=self.id, state=self.state, identity=request.session.identity.name, owner=request.session.identity.owner,
            resource=request.session.resource, protocol=request.session.protocol,
            text=request.shown_text if command is None else command.text, digest=request.digest,
            needs=tuple(NeedView(need.group, need.count, need.have) for need in self.count(self.votes)),
            requested=timestamp(request.requested), expires=timestamp(request.expires),
            votes=tuple(vote.view() for vote in self.votes), exact=command is not None,
            text_flags=text_flags(request.shown_text if command is None else command.text),
            parameters=request.shown_parameters if command is None else tuple(value for _, value in command.parameters),
            verbs=request.verbs, objects=request.objects, operations=request.operations, gateway=request.gateway,
            login=request.session.login, database=request.session.database, session=request.session.id,
            source=request.session.source, rules=request.rules, waits=request.waits, outcome=self.outcome,
            binding=None if command is None else request.binding)


class Book:
    """All approvals of this gateway: the open ones, and the last that ended."""

    def __init__(self, limits: DeskLimits) -> None:
        self._limits = limits
        self._open: dict[str, Held] = {}
        self._past: OrderedDict[str, Held] = OrderedDict()
        self._per_identity: Counter[str] = Counter()
        self._held = 0

    def full_for(self, identity: str, size: int) -> str | None:
        """Why no further approval of this many bytes may be opened for this identity, or ``None``."""
        if self._per_identity[identity] >= self._limits.per_identity:
            return f"{identity} has {self._limits.per_identity} approvals open already"
        if len(self._open) >= self._limits.total:
            return f"this gateway has {self._limits.total} approvals open already"
        if self._held + size > self._limits.held:
            return "this gateway holds too much text for approvals already"
        return None

    def add(self, held: Held) -> None:
        self._open[held.id] = held
        self._held += held.request.size
        self._per_identity[held.request.session.identity.name] += 1

    def finish(self, held: Held) -> None:
        """It will never run (again): it no longer counts, and what it held is dropped by whoever calls."""
        if self._drop(held) and held.visible:
            self._past[held.id] = held
            while len(self._past) > self._limits.remembered:
                self._past.popitem(last=False)

    def get(self, approval_id: str) -> Held | None:
        """The approval of that id if people may know of it."""
        held = self._open.get(approval_id) or self._past.get(approval_id)
        return held if held is not None and held.visible else None

    def identical(self, key: str, now: float) -> Held | None:
        """What an earlier identical request that did not wait came to, until it expires: granted and unused first, then
        pending, then denied: a robot that asks again has its answer, and does not ask people a second time."""
        found = [held for held in self.all() if held.request.key == key and not held.request.waits and held.user is None
                 and now < held.request.expires]
        for state in ("granted", "pending", "denied"):
            for held in found:
                if held.state == state:
                    return held
        return None

    def open(self) -> list[Held]:
        """Those that are pending or granted, seen or not."""
        return list(self._open.values())

    def all(self) -> Iterator[Held]:
        """Those people may know of, in the order they were asked for."""
        return (held for held in [*self._past.values(), *self._open.values()] if held.visible)

    def __len__(self) -> int:
        return len(self._open)

    def _drop(self, held: Held) -> bool:
        if self._open.pop(held.id, None) is None:
            return False
        self._held -= held.request.size
        name = held.request.session.identity.name
        self._per_identity[name] -= 1
        if not self._per_identity[name]:
            del self._per_identity[name]
        return True
