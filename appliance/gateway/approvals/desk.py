# SPDX-License-Identifier: Apache-2.0
"""The desk: the only place where an approval changes its state. Implements ``govern.Approvals``.

What it promises (contract sections 2, 3, 5 and 6):

* Nobody sees a request before its record is on disk; a vote takes effect once its record is on disk, and not at all
  where that fails or the approval ended meanwhile. ``granted`` is on disk together with the vote that made it so.
* Taking power away (deny by expiry, withdrawal) never waits for the disk: it holds at once and is recorded.
* Expiry is absolute, by the gateway's clock: it is looked at on every call, the timer only wakes those who wait.
* A grant is used once, by the session it was reserved for, under the policy it was given under.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from gateway.approvals import binding
from gateway.approvals.book import Book, DeskLimits, Held, Request, Vote
from gateway.approvals.records import fields_of, refusal, requested_fields, used_fields, vote_fields
from gateway.approvals.shown import clean_reason
from gateway.approvals.view import ApprovalView, State
from gateway.approvals.voters import may_see, same_voter
from gateway.config.schema import ApprovalRule
from gateway.errors import Fault, Refused
from gateway.govern import Approval, AuditLog, Digested, Fields, session_fields
from gateway.model import Command, Decision, Identity, Session
from gateway.policy.votes import may_vote, met, shortest

log = logging.getLogger(__name__)

Told = Callable[[ApprovalView], Awaitable[None]]
_TICK = 5.0
"""Seconds after which the timer looks at the clock again even when nothing is due: clocks are set forward too."""


class ApprovalPolicy(Protocol):
    """The part of ``policy.Policy`` the desk needs."""

    @property
    def digest(self) -> str: ...
    def approval(self, name: str) -> ApprovalRule:
        """The definition of that name. Raises ``KeyError``."""


class VoteRefused(Refused):
    """A vote that does not count. ``code``: ``not-found``, ``not-allowed``, ``conflict`` (stale digest, over, voted before, not
    needed) or ``reason``."""


class ApprovalsDesk:
    """``clock`` gives seconds since the epoch, ``policy`` the policy that holds now, ``revoked`` whether a person still may vote.

    ``notifier`` is told of each new request (with the text the log may show) and must not block.
    """

    def __init__(self, audit: AuditLog, clock: Callable[[], float], policy: Callable[[], ApprovalPolicy],
                 notifier: Callable[[ApprovalView], None] | None = None, *, gateway: str,
                 limits: DeskLimits | None = None, revoked: Callable[[Identity], bool] | None = None) -> None:
        self._audit = audit
        self._clock = clock
        self._policy = policy
        self._notifier = notifier
        self._gateway = gateway
        self._revoked = revoked or (lambda person: False)
        self._book = Book(limits or DeskLimits())
        self._listeners: dict[str, Told] = {}
        self._finding = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self.counts: Counter[str] = Counter()
        """How many approvals came to each state, for metrics."""

    # --- for govern() ---

    async def obtain(self, session: Session, command: Command, decision: Decision, policy: Digested) -> Approval:
        """Wait for the votes, or find what an earlier identical request came to. The approval is reserved for this one use.

        Raises ``Refused`` with code ``denied``, ``expired``, ``withdrawn`` or ``held`` (not waiting: ``detail`` is the id), or
        ``AuditUnavailable``. A caller that is cancelled while waiting withdraws the request.
        """
        self.sweep()
        request = self._request(session, command, decision, policy)
        if command.wait:
            return self._resumed(request) or await self._wait(await self._open(request))
        async with self._finding:
            if (granted := self._resumed(request)) is not None:
                return granted
            raise refusal(self._book.identical(request.key, request.requested) or await self._open(request))

    async def use(self, approval: Approval, begin: Fields) -> int:
        """Mark it used, in one transaction with the record of the command it is used for; gives that record's seq.

        Raises ``Refused`` if it no longer holds, or ``AuditUnavailable``.
        """
        both = await self._audit.record_together([("approval.used", self.consumed(approval)), ("command.begin", begin)])
        return both[1]

    def consumed(self, approval: Approval) -> Fields:
        """Mark it used; the fields of its ``approval.used`` record. Raises ``Refused`` if it no longer holds."""
        self.sweep()
        held = self._book.get(approval.id)
        if held is None or held.user is None:
            raise Refused(f"there is no approval {approval.id} for this command", "denied", approval.id)
        self._check_standing(held)
        if held.state != "granted":
            raise refusal(held)
        self._finish(held, "used")
        return used_fields(held, held.user)

    # --- for sessions ---

    def listen(self, session_id: str, told: Told) -> None:
        """``told`` is awaited with each request of this session that waits, once it is on disk."""
        self._listeners[session_id] = told

    def unlisten(self, session_id: str) -> None:
        self._listeners.pop(session_id, None)

    def withdraw_session(self, session_id: str, reason: str) -> None:
        """Cancel, client gone, session over: what this session waits for is withdrawn. Requests that do not wait stay."""
        for held in self._book.open():
            if held.request.waits and held.request.session.id == session_id:
                self._withdraw(held, reason)
            elif held.user is not None and held.user.id == session_id:
                held.user = None

    # --- for people ---

    async def vote(self, approval_id: str, person: Identity, grant: bool, reason: str, digest: str, *, source: str = "") -> ApprovalView:
        """One person's vote on what they were shown. Raises ``VoteRefused``, or ``AuditUnavailable`` (no effect then)."""
        held = self._get(approval_id)
        async with held.voting:
            vote = self._vote(held, person, grant, reason, digest)
            decided = self._decides(held, vote)
            records: list[tuple[str, Fields]] = [("approval.vote", vote_fields(held, vote, source))]
            if decided is not None:
                records.append((f"approval.{decided}", fields_of(held)))
            await self._audit.record_together(records)
            self._check_pending(held)
            self._count(held, vote, decided)
        return held.view(exact=True)

    def listed(self, states: Iterable[State] = ()) -> list[Held]:
        """Those in one of the states (all where none is given), oldest first."""
        self.sweep()
        wanted = frozenset(states)
        return [held for held in self._book.all() if not wanted or held.state in wanted]

    def show(self, approval_id: str) -> Held | None:
        self.sweep()
        return self._book.get(approval_id)

    def seen_by(self, held: Held, person: Identity, readers: Sequence[str]) -> ApprovalView | None:
        """What this person may see of it: exactly what would run if they may vote on it, what the log shows if not, or nothing."""
        request = held.request
        if not may_see(person, request.definitions, readers):
            return None
        return held.view(exact=may_vote(person, request.definitions, request.session.identity) is None)

    # --- for the gateway ---

    def withdraw(self, approval_id: str, reason: str) -> bool:
        """Withdraw one that is open. False where there is none."""
        held = self._book.get(approval_id)
        if held is None or not held.open:
            return False
        self._withdraw(held, reason)
        return True

    def policy_changed(self, digest: str) -> None:
        """Another policy holds now: what was asked for, or granted, under another one is withdrawn."""
        for held in self._book.open():
            if held.request.policy != digest:
                self._withdraw(held, "the policy changed")

    def sweep(self) -> None:
        """Look at the clock: what is over has expired."""
        now = self._clock()
        for held in self._book.open():
            if now >= held.request.expires:
                self._end(held, "expired", "")
        self._arm()

    def pending(self) -> int:
        """How many wait for votes now."""
        return sum(held.state == "pending" for held in self._book.open())

    async def close(self, reason: str = "the gateway is stopping") -> None:
        """Withdraw everything that is open and wait until that is on disk; nothing can be asked for afterwards."""
        self._closed = True
        ended = self._book.open()
        for held in ended:
            self._withdraw(held, reason)
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.gather(*(held.closing for held in ended if held.closing is not None), return_exceptions=True)

    # --- asking ---

    def _request(self, session: Session, command: Command, decision: Decision, policy: Digested) -> Request:
        now, current = self._clock(), self._policy()
        if self._closed or current.digest != policy.digest:
            raise Refused("the gateway is stopping" if self._closed else "the policy changed", "withdrawn")
        definitions = _definitions(current, decision)
        expires = now + shortest(definitions)
        key = binding.document(self._gateway, session, command, policy.digest)
        bound = binding.bind(key, expires, secrets.token_hex(16))
        verbs = tuple(dict.fromkeys(op.verb for op in command.operations))
        return Request(
            id=_new_id(), gateway=self._gateway, session=session, command=command, binding=bound, digest=binding.digest(bound),
            key=binding.digest(key), policy=policy.digest, definitions=definitions, requested=now, expires=expires,
            shown_text=command.shown_text, shown_parameters=command.shown_parameters, verbs=verbs,
            objects=tuple(dict.fromkeys(name for op in command.operations for name in op.objects)),
            operations=command.each, rules=decision.rules, waits=command.wait, base=session_fields(session, policy),
            size=len(command.text) + sum(len(value or "") for _, value in command.parameters))

    def _resumed(self, request: Request) -> Held | None:
        """The unused grant of an identical request that did not wait, now reserved for this session."""
        earlier = self._book.identical(request.key, request.requested)
        if earlier is None or earlier.state != "granted":
            return None
        earlier.user = request.session
        return earlier

    async def _open(self, request: Request) -> Held:
        """Record the request, then let people see it."""
        if full := self._book.full_for(request.session.identity.name, request.size):
            raise Refused(f"too many approvals: {full}", "denied")
        held = Held(request.id, request)
        self._book.add(held)
        try:
            await self._audit.record("approval.requested", requested_fields(held))
        except Fault:
            self._book.finish(held)
            raise
        except BaseException:
            self._withdraw(held, "the caller went away")
            raise
        self._publish(held)
        return held

    def _publish(self, held: Held) -> None:
        held.visible = True
        self.counts["requested"] += 1
        if held.open:
            self._arm()
            if self._notifier is not None:
                self._notifier(held.view(exact=False))

    async def _wait(self, held: Held) -> Held:
        held.user = held.request.session
        try:
            await self._tell(held)
        except BaseException as fault:
            self._withdraw(held, "the caller went away")
            if isinstance(fault, BaseExceptionGroup):
                raise fault.exceptions[0] from None
            raise
        if held.state == "granted":
            return held
        if held.closing is not None:
            await held.closing
        raise refusal(held)

    async def _tell(self, held: Held) -> None:
        """Send the session's notice and wait for the decision; a caller that is slow to read does not hold it up."""
        told = self._listeners.get(held.request.session.id)
        if told is None or held.decided.is_set():
            await held.decided.wait()
            return
        async with asyncio.TaskGroup() as group:
            telling = group.create_task(_call(told, held.view(exact=False)))
            await held.decided.wait()
            telling.cancel()

    # --- voting ---

    def _get(self, approval_id: str) -> Held:
        self.sweep()
        held = self._book.get(approval_id)
        if held is None:
            raise VoteRefused(f"there is no approval {approval_id[:64]}", "not-found")
        return held

    def _vote(self, held: Held, person: Identity, grant: bool, reason: str, digest: str) -> Vote:
        """The vote, if it may be given now."""
        if why := may_vote(person, held.request.definitions, held.request.session.identity):
            raise VoteRefused(why, "not-allowed")
        self._check_pending(held)
        if not secrets.compare_digest(digest.encode(), held.request.digest.encode()):
            raise VoteRefused("the digest is not that of this approval: look at it again", "conflict")
        try:
            vote = Vote(person, grant, clean_reason(reason), self._clock())
        except ValueError as fault:
            raise VoteRefused(str(fault), "reason") from None
        self._check_needed(held, vote)
        return vote

    def _check_pending(self, held: Held) -> None:
        self.sweep()
        if held.state != "pending":
            raise VoteRefused(f"approval {held.id} is {held.state} already", "conflict")

    def _check_needed(self, held: Held, vote: Vote) -> None:
        """A vote for it has to fill a place that nobody fills yet: one that does not now never will."""
        if not vote.grant:
            return
        if any(same_voter(other.voter, vote.voter) for other in held.votes):
            raise VoteRefused(f"{vote.voter.name} has voted already; each person counts once", "conflict")
        before, after = (sum(need.have for need in held.count(cast)) for cast in (self._standing(held), [*self._standing(held), vote]))
        if after <= before:
            raise VoteRefused(f"no group of {vote.voter.name} still needs a vote", "conflict")

    def _decides(self, held: Held, vote: Vote) -> State | None:
        """What the approval becomes with this vote, if that is decided by it."""
        if not vote.grant:
            return "denied"
        return "granted" if met(held.count([*self._standing(held), vote])) else None

    def _count(self, held: Held, vote: Vote, decided: State | None) -> None:
        held.votes.append(vote)
        if decided == "granted":
            held.state = decided
            held.decided.set()
            self.counts["granted"] += 1
        elif decided == "denied":
            held.outcome = f"denied by {vote.voter.name}: {vote.reason}"
            self._finish(held, "denied")

    def _standing(self, held: Held) -> list[Vote]:
        """The votes for it, of those who are not revoked since."""
        return [vote for vote in held.votes if vote.grant and not self._revoked(vote.voter)]

    def _check_standing(self, held: Held) -> None:
        """A grant holds under the policy it was given under and while its voters do."""
        if held.state != "granted":
            return
        if held.request.policy != self._policy().digest:
            self._withdraw(held, "the policy changed")
        elif not met(held.count(self._standing(held))):
            self._withdraw(held, "a voter was revoked")

    # --- ending ---

    def _withdraw(self, held: Held, reason: str) -> None:
        self._end(held, "withdrawn", reason)

    def _end(self, held: Held, state: State, outcome: str) -> None:
        """Take it away at once, and record that it was."""
        if not held.open:
            return
        held.outcome = outcome
        self._finish(held, state)
        held.closing = self._audit.record(f"approval.{state}", fields_of(held) | ({"reason": outcome} if outcome else {}))
        held.closing.add_done_callback(_noted)

    def _finish(self, held: Held, state: State) -> None:
        """A last state: it no longer counts, and its exact text is dropped."""
        held.state = state
        held.request = replace(held.request, command=None, binding={})
        self._book.finish(held)
        self.counts[state] += 1
        held.decided.set()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        expiries = [held.request.expires for held in self._book.open()]
        if expiries and not self._closed:
            delay = min(max(min(expiries) - self._clock(), 0.001), _TICK)
            self._timer = asyncio.get_running_loop().call_later(delay, self.sweep)


async def _call(told: Told, view: ApprovalView) -> None:
    await told(view)


def _new_id() -> str:
    return "apr_" + secrets.token_hex(10)


def _definitions(policy: ApprovalPolicy, decision: Decision) -> tuple[ApprovalRule, ...]:
    try:
        found = tuple(policy.approval(name) for name in decision.approvals)
    except KeyError as fault:
        raise Refused(f"the policy has no approval {fault}", "denied") from None
    if not found:
        raise Refused("the policy names no approval for this command", "denied")
    return found


def _noted(record: asyncio.Future[int]) -> None:
    """A last record that could not be written does not bring the approval back."""
    if not record.cancelled() and (fault := record.exception()) is not None:
        log.error("an approval ended and that could not be recorded: %s", fault)
