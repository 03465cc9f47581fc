# SPDX-License-Identifier: Apache-2.0
"""The templates of the records that one session's lane writes, made once per policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.audit.template import Template
from gateway.govern import begin_fields, command_fields, end_fields, session_fields
from gateway.model import Command, Decision

if TYPE_CHECKING:
    from gateway.protocols.postgres.session import Relay

ONCE = ("verb", "verbs", "objects", "text", "decision", "text_digest", "parameters")
"""What a text that is seen once fills in; ``parameters`` comes last, because a bound one's are known only when it runs."""
ENDED = ("begin", "rows", "bytes", "masked")


class Records:
    """The lane's ``command.begin`` and ``command.end``. Every method may raise ``AuditUnavailable``."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._begin: tuple[object, Template] | None = None
        self._end: tuple[object, Template] | None = None

    def end(self) -> Template:
        """The end of a command, ``ENDED`` to be filled in."""
        policy = self._relay.gate.policy
        if self._end is None or self._end[0] is not policy:
            fields = end_fields(self._relay.session, policy, 0, "ok")
            for hole in ENDED:
                del fields[hole]
            self._end = (policy, self._relay.gate.audit.template("command.end", fields, ENDED))
        return self._end[1]

    def once(self, command: Command, decision: Decision, *, bound: bool) -> tuple[Template, tuple[bytes, ...]]:
        """The beginning of a command that may never come again, and its values: the template is that of all of them. Of a ``bound``
        one the parameters are still to be added."""
        policy = self._relay.gate.policy
        if self._begin is None or self._begin[0] is not policy:
            self._begin = (policy, self._relay.gate.audit.template("command.begin", session_fields(self._relay.session, policy), ONCE))
        fields = command_fields(command, decision)
        if bound:
            del fields["parameters"]
        return self._begin[1], self._relay.gate.audit.values(self._begin[1], fields)

    def kept(self, command: Command, decision: Decision, *, bound: bool) -> Template:
        """The beginning of a command that comes again, its text and all constant: only a ``bound`` one's parameters are filled in."""
        fields = begin_fields(self._relay.session, self._relay.gate.policy, command, decision)
        if bound:
            del fields["parameters"]
        return self._relay.gate.audit.template("command.begin", fields, ("parameters",) if bound else ())
