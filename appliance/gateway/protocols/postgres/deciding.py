# SPDX-License-Identifier: Apache-2.0
"""What is found out of a command before anything of it passes: what it means, whether it may run, and what those say who are asked.

Whatever ends here is on record before the caller is told.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.errors import AuditUnavailable, Refused
from gateway.govern import Permit, govern, refuse
from gateway.model import Command, Decision
from gateway.protocols.postgres import bounded, messages
from gateway.protocols.postgres.answers import NOT_WRITTEN
from gateway.protocols.postgres.context import Compiled
from gateway.protocols.postgres.names import Prepared
from gateway.protocols.postgres.pieces import Divided, pieces
from gateway.protocols.postgres.sql.walk import SEPARATELY
from gateway.protocols.postgres.statement import SqlFault

if TYPE_CHECKING:
    from gateway.approvals.view import ApprovalView
    from gateway.protocols.postgres.session import Relay


class Deciding:
    """The questions of one ``Relay``'s frontend. Every method may raise ``Refused``, ``SqlFault`` or ``SessionOver``."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    async def understand(self, text: str, types: tuple[int, ...] = (), held: Prepared | None = None, *, whole: bool = True) -> Compiled:
        """Compile a text; what cannot be understood or may not be masked is recorded as refused. ``held``: the target has it already.

        Not ``whole``: ``Divided`` for a text whose statements have to be understood, and sent, one by one.
        """
        relay = self._relay
        try:
            compiled = await relay.context.compile(text, types)
            if not compiled.refusal:
                relay.frontend.names.check_filters(compiled, held)
        except SqlFault as fault:
            if not whole and fault.hint == SEPARATELY and (found := pieces(text, *await relay.context.parsed(text), relay.status)):
                raise Divided(found) from None
            if relay.status != "E" or fault.code == "42601":
                await self._record_refusal(await relay.context.unparsable(text), f"{fault.code}: {fault}", fault.code)
            raise
        if compiled.refusal:
            await self.refuse(relay.context.command(compiled), compiled.refusal)
        return compiled

    async def refuse(self, command: Command, reason: str, code: str = "42501") -> None:
        """Record a command that does not run, and raise ``Refused``."""
        await self._record_refusal(command, reason, code)
        raise Refused(reason, code)

    async def _record_refusal(self, command: Command, reason: str, code: str) -> None:
        relay = self._relay
        try:
            await refuse(relay.gate, relay.session, command, Decision("deny", reason=reason), code)
        except AuditUnavailable as no:
            raise Refused(NOT_WRITTEN["M"], "58030") from no
        except Refused:
            return

    def decide(self, command: Command) -> Decision:
        relay = self._relay
        return relay.gate.policy.decide(relay.session.identity, relay.session.resource, command.operations, relay.gate.now())

    async def bound(self, command: Command, compiled: Compiled, decision: Decision) -> int | None:
        """The ``max_rows`` this command is under; one that cannot be counted is refused."""
        try:
            return bounded.bound_of(decision, compiled, self._relay.context.prepared)
        except Refused as no:
            await self.refuse(command, str(no))
            return None

    async def permit(self, command: Command) -> Permit:
        """Ask ``govern``; while a person is waited for, the caller's connection stays open and quiet."""
        relay = self._relay
        desk = relay.gate.approvals
        relay.totals.active = asyncio.get_running_loop().time()
        relay.deciding, relay.withdrawn = True, False
        desk.listen(relay.session.id, self._notice)
        try:
            permit = await govern(relay.gate, relay.session, command)
            if permit.recorded.done():
                permit.recorded.result()
            return permit
        except AuditUnavailable as no:
            raise Refused(NOT_WRITTEN["M"], "58030") from no
        finally:
            relay.held = relay.deciding = False
            relay.totals.active = asyncio.get_running_loop().time()
            desk.unlisten(relay.session.id)

    def how_to_ask(self, no: Refused) -> str:
        """What a caller denied by policy can do next (contract section 3); a vote is nothing that ``explain`` could explain."""
        if no.code not in ("", "42501") or "lockgate explain" in str(no):
            return ""
        return f"lockgate explain --identity {self._relay.session.identity.name} --resource {self._relay.session.resource} TEXT"

    async def _notice(self, view: ApprovalView) -> None:
        """Tell the caller that its command waits, once everything before it has been answered."""
        relay = self._relay
        relay.held = True
        if relay.withdrawn:
            relay.gate.approvals.withdraw_session(relay.session.id, "cancelled by the caller")
            return
        relay.client.write(messages.notice(view.notice()).encode())
        await relay.client.drain()
