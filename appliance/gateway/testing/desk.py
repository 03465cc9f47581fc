# SPDX-License-Identifier: Apache-2.0
"""A small real assembly around the approvals desk: a policy of two definitions, a robot, people, commands to hold."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.approvals.binding import timestamp
from gateway.approvals.book import DeskLimits, Held
from gateway.approvals.desk import ApprovalsDesk
from gateway.approvals.view import ApprovalView
from gateway.config.schema import ApprovalRule, Quorum
from gateway.govern import Approval
from gateway.masking.model import MaskSet
from gateway.model import Binding, Command, Decision, Identity, Operation, Session, SessionLimits
from gateway.testing.audit import MemoryAudit
from gateway.testing.clock import FrozenClock

ROBOT = Identity("ci-bot", "ci", "project:payments/api:ref:main", frozenset({"robots"}), owner="dana")
"""A pipeline that dana answers for."""


def definition(name: str, expires: float = 900.0, **groups: int) -> ApprovalRule:
    """An approval definition: ``definition("two", dba=2)``. ``expires`` in seconds."""
    return ApprovalRule(name=name, all_of=tuple(Quorum(group=group, count=count) for group, count in groups.items()), expires=expires)


@dataclass
class DeskPolicy:
    """A policy that allows everything after the approvals a decision names. Change ``digest`` for another policy."""

    digest: str = "sha256:policy-1"
    definitions: dict[str, ApprovalRule] = field(default_factory=lambda: {
        "one-dba": definition("one-dba", dba=1),
        "dba-and-security": definition("dba-and-security", 600, dba=1, security=1),
        "two-dba": definition("two-dba", dba=2),
    })

    def approval(self, name: str) -> ApprovalRule:
        return self.definitions[name]

    def ended(self, session: Session, now: float) -> str | None:
        return None

    def decide(self, identity: Identity, resource: str, operations: Sequence[Operation], now: float) -> Decision:
        return Decision("approve", ("ci works on orders/unbounded-write",), approvals=("one-dba",))

    def alike(self, identity: Identity, resource: str, one: Operation, other: Operation) -> bool:
        return True

    def masks(self, identity: Identity, resource: str, now: float) -> MaskSet:
        return MaskSet()

    def session_limits(self, identity: Identity, resource: str, now: float) -> SessionLimits:
        return SessionLimits()


def person(name: str, *groups: str, subject: str = "") -> Identity:
    """Somebody from the staff's issuer."""
    return Identity(name, "staff", subject or f"user:{name}", frozenset(groups), person=True)


def session(number: int = 1, identity: Identity = ROBOT) -> Session:
    return Session(f"ses_{number}", identity, "orders-db", "postgres", f"127.0.0.1:{50000 + number}", 0.0, "orders_app", "orders")


def command(text: str = "delete from orders", *, wait: bool = True, shown: str | None = None, context: dict[str, str] | None = None,
            parameters: tuple[tuple[str, str | None], ...] = (), objects: tuple[str, ...] = ("16385",)) -> Command:
    return Command(
        (Operation("postgres", "delete", ("public.orders",), {"where": "missing"}),), text, text if shown is None else shown,
        parameters, tuple(None if value is None else "****" for _, value in parameters),
        Binding("orders_app", "orders", context or {"search_path": "public"}, objects), wait=wait)


class DeskRoom:
    """A desk with its clock, audit and policy, and shorthands to ask and vote."""

    def __init__(self, audit: MemoryAudit | None = None, limits: DeskLimits | None = None) -> None:
        self.clock = FrozenClock()
        self.audit = audit or MemoryAudit()
        self.policy = DeskPolicy()
        self.noticed: list[ApprovalView] = []
        self.revoked: set[str] = set()
        self.desk = ApprovalsDesk(
            self.audit, self.clock, lambda: self.policy, self.noticed.append, gateway="plant-a-1", limits=limits,
            revoked=lambda who: who.name in self.revoked)

    async def obtain(self, what: Command | None = None, by: Session | None = None, *approvals: str) -> Approval:
        decision = Decision("approve", ("ci works on orders/unbounded-write",), approvals=approvals or ("one-dba",))
        return await self.desk.obtain(by or session(), what or command(), decision, self.policy)

    async def asked(self, what: Command | None = None, by: Session | None = None, *approvals: str) -> tuple[asyncio.Task[Approval], Held]:
        """Ask in a task of its own; comes back when people can see the request."""
        known = {held.id for held in self.desk.listed()}
        task = asyncio.create_task(self.obtain(what, by, *approvals))
        for _ in range(20):
            await asyncio.sleep(0)
            for held in self.desk.listed():
                if held.id not in known:
                    return task, held
        await task
        raise RuntimeError("the request did not become visible")

    async def vote(self, held: Held, who: Identity, grant: bool = True, reason: str = "looked at it", digest: str = "") -> ApprovalView:
        return await self.desk.vote(held.id, who, grant, reason, digest or held.request.digest, source="127.0.0.1")

    def moment(self, seconds: float = 0.0) -> str:
        """RFC 3339 of the clock's time plus so many seconds."""
        return timestamp(self.clock() + seconds)
