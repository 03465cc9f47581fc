# SPDX-License-Identifier: Apache-2.0
"""The choke point. Every command of every protocol passes here and nowhere else: decide → approval → audit → pass or refuse.

What the caller of ``govern()`` owes: nothing of the command goes to the target before ``permit.recorded`` is done, unless
``permit.early``; nothing of an answer goes to the caller before it is done, ever; ``finish()`` is called once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from gateway.errors import Refused, SessionOver
from gateway.masking.model import MaskSet
from gateway.model import Command, Decision, Identity, Operation, Session, SessionLimits

if TYPE_CHECKING:
    from gateway.approvals.view import ApprovalView
    from gateway.audit.template import Template, Ticket, Waiter

Fields = Mapping[str, Any]


class AuditLog(Protocol):
    """The part of ``audit.log`` that protocols need. Futures give the record's ``seq`` once it is on disk."""

    @property
    def strict(self) -> bool: ...

    def record(self, kind: str, fields: Fields, recording: bytes | None = None) -> asyncio.Future[int]:
        """Queue one record. The future raises ``AuditUnavailable`` if it could not be made durable."""

    def record_together(self, records: Sequence[tuple[str, Fields]]) -> asyncio.Future[list[int]]:
        """Queue several that become durable in one transaction or not at all; gives their ``seq`` in order."""


    def template(self, kind: str, fields: Fields, holes: Sequence[str]) -> Template:
        """Encode ``fields`` once, for records that differ in ``holes`` only. Raises ``AuditUnavailable``."""

    def values(self, template: Template, fields: Fields) -> tuple[bytes, ...]:
        """``fields`` as the values of ``template``'s holes of these names; ``text_secret`` fills ``text_digest``. The holes that are not
        among them have to be the last ones, and their values to be added. Raises ``AuditUnavailable``."""

    def fill(self, template: Template, values: tuple[bytes, ...], waiter: Waiter | None, lazy: bool = False,
             recording: bytes | None = None) -> Ticket:
        """Queue one record: ``values`` are JSON, one for each hole. ``waiter`` is told once it is on disk or has failed; never raises."""


class Digested(Protocol):
    """A policy, as far as records name it."""

    @property
    def digest(self) -> str: ...


class Policy(Digested, Protocol):
    """The part of ``policy.Policy`` that ``govern`` needs."""

    def ended(self, session: Session, now: float) -> str | None:
        """Why this session may not go on, or ``None``."""

    def decide(self, identity: Identity, resource: str, operations: Sequence[Operation], now: float) -> Decision: ...

    def alike(self, identity: Identity, resource: str, one: Operation, other: Operation) -> bool:
        """Whether the same rules speak of both."""

    def masks(self, identity: Identity, resource: str, now: float) -> MaskSet: ...
    def session_limits(self, identity: Identity, resource: str, now: float) -> SessionLimits: ...


class Approval(Protocol):
    @property
    def id(self) -> str: ...


class Approvals(Protocol):
    """The part of ``approvals.desk`` that ``govern`` needs."""

    async def obtain(self, session: Session, command: Command, decision: Decision, policy: Digested) -> Approval:
        """Wait for the votes, or find the grant of an earlier identical request. Raises ``Refused`` (denied, expired,
        withdrawn, held and not waiting). The approval given is reserved for this one use."""

    async def use(self, approval: Approval, begin: Fields) -> int:
        """Use it up for the command that ``begin`` is the ``command.begin`` of; gives that record's seq once both are on disk.

        Raises ``Refused`` if it no longer holds, or ``AuditUnavailable``.
        """

    def listen(self, session_id: str, told: Callable[[ApprovalView], Awaitable[None]]) -> None:
        """``told`` is awaited with each request of this session that waits, once its record is on disk."""

    def unlisten(self, session_id: str) -> None: ...

    def withdraw_session(self, session_id: str, reason: str) -> None:
        """What this session waits for is withdrawn: the caller cancelled, is gone, or the session ends."""


class Gate(Protocol):
    """What ``govern`` is wired to (``build.Gateway``)."""

    @property
    def policy(self) -> Policy: ...
    @property
    def audit(self) -> AuditLog: ...
    @property
    def approvals(self) -> Approvals: ...

    def now(self) -> float: ...

    def may_start(self, identity: str) -> bool:
        """Whether this identity is within its rate of operations."""


@dataclass(slots=True)
class Permit:
    """The right to run one command once. ``recorded`` gives the seq of its ``command.begin`` when that is durable."""

    decision: Decision
    recorded: asyncio.Future[int]
    early: bool
    policy: str = ""
    approval: str | None = None


def session_fields(session: Session, policy: Digested) -> dict[str, Any]:
    """What every record of a session carries: contract section 5."""
    who = session.identity
    return {
        "session": session.id, "identity": who.name, "issuer": who.issuer, "owner": who.owner,
        "groups": sorted(who.groups), "resource": session.resource, "protocol": session.protocol,
        "source": session.source, "policy": policy.digest,
    }


def begin_fields(session: Session, policy: Policy, command: Command, decision: Decision) -> dict[str, Any]:
    """The ``command.begin`` record."""
    fields = session_fields(session, policy)
    fields.update(command_fields(command, decision))
    if command.phase:
        fields["phase"] = command.phase
    if command.filtered:
        fields["filtered"] = list(command.filtered)
    if each := command.each:
        fields["operations"] = [list(one) for one in each]
    return fields


def command_fields(command: Command, decision: Decision) -> dict[str, Any]:
    """What ``command.begin`` says of the command itself."""
    operations = command.operations
    verbs = list(dict.fromkeys([op.verb for op in operations])) or ["empty"]
    return {
        "verb": verbs[0], "verbs": verbs,
        "objects": list(dict.fromkeys([name for op in operations for name in op.objects])),
        "text": command.shown_text, "text_secret": command.text, "parameters": list(command.shown_parameters),
        "decision": {"effect": decision.effect, "rules": list(decision.rules), "reason": decision.reason},
    }


async def govern(gate: Gate, session: Session, command: Command) -> Permit:
    """Decide one command. Returns the permit to run it once.

    Raises ``SessionOver``, ``Refused`` (recorded before it is raised) or ``AuditUnavailable``.
    """
    policy = gate.policy
    if reason := policy.ended(session, gate.now()):
        raise SessionOver(reason)
    decision = policy.decide(session.identity, session.resource, command.operations, gate.now())
    if not gate.may_start(session.identity.name):
        decision = Decision("deny", reason=f"{session.identity.name} is over its rate of operations (limits.operations_per_identity)")
    if decision.effect == "deny":
        await refuse(gate, session, command, decision)
    if decision.effect == "approve" and command.phase != "prepare":
        return await _with_approval(gate, session, command, decision, policy)
    recorded = gate.audit.record("command.begin", begin_fields(session, policy, command, decision))
    return Permit(decision, recorded, command.early and not gate.audit.strict, policy.digest)


def recheck(gate: Gate, session: Session, command: Command, permit: Permit) -> Decision | None:
    """A permitted command is about to be used, maybe later than it was decided: the refusal, if it no longer holds.

    Raises ``SessionOver``. An approval is bound to the policy it was given under.
    """
    policy = gate.policy
    if reason := policy.ended(session, gate.now()):
        raise SessionOver(reason)
    decision = policy.decide(session.identity, session.resource, command.operations, gate.now())
    if decision.effect == "deny":
        return decision
    if decision.effect == "approve" and (permit.approval is None or permit.policy != policy.digest):
        return replace(decision, effect="deny", reason="the policy changed since this command was decided")
    return None


async def refuse(gate: Gate, session: Session, command: Command, decision: Decision, code: str = "") -> None:
    """Record a command that does not run, then raise ``Refused``."""
    begin = await gate.audit.record("command.begin", begin_fields(session, gate.policy, command, decision))
    gate.audit.record("command.end", end_fields(session, gate.policy, begin, "refused", error=code))
    raise Refused(decision.reason, code)


async def _with_approval(gate: Gate, session: Session, command: Command, decision: Decision, policy: Policy) -> Permit:
    try:
        approval = await gate.approvals.obtain(session, command, decision, policy)
    except Refused as no:
        await _not_run(gate, session, command, decision, no)
        raise
    if reason := gate.policy.ended(session, gate.now()):
        raise SessionOver(reason)
    begin = await gate.approvals.use(approval, begin_fields(session, policy, command, decision) | {"approval": approval.id})
    recorded = asyncio.get_running_loop().create_future()
    recorded.set_result(begin)
    return Permit(decision, recorded, early=False, policy=policy.digest, approval=approval.id)


async def _not_run(gate: Gate, session: Session, command: Command, decision: Decision, no: Refused) -> None:
    """Record a command that was held and did not run."""
    begin = await gate.audit.record("command.begin", begin_fields(session, gate.policy, command, decision) | {"approval": no.detail})
    status = "withdrawn" if no.code == "withdrawn" else "refused"
    gate.audit.record("command.end", end_fields(session, gate.policy, begin, status, error=no.code))


def end_fields(session: Session, policy: Policy, begin: int, status: str, *, rows: int = 0, size: int = 0,
               masked: int = 0, error: str = "") -> dict[str, Any]:
    """The ``command.end`` record: ``status`` is ok, error, refused, withdrawn, cancelled or orphaned."""
    fields = session_fields(session, policy)
    fields.update(begin=begin, status=status, rows=rows, bytes=size, masked=masked, error=error)
    return fields


def finish(gate: Gate, session: Session, begin: int, status: str, *, rows: int = 0, size: int = 0, masked: int = 0,
           error: str = "", recording: bytes | None = None) -> asyncio.Future[int]:
    """Record how a command ended. ``recording`` is the bounded, masked sample kept for replay."""
    fields = end_fields(session, gate.policy, begin, status, rows=rows, size=size, masked=masked, error=error)
    return gate.audit.record("command.end", fields, recording)
