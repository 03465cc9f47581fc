# SPDX-License-Identifier: Apache-2.0
"""The templates of the records that one session's lane writes, made once per policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.audit.template import Template
from gateway.govern import begin_fields, command_fields, end_fields, session_fields
from gateway.model import Command, Decision, Operation

if TYPE_CHECKING:
    from gateway.protocols.postgres.session import Relay

ONCE = ("verb", "verbs", "objects", "text", "decision", "text_digest", "parameters")
"""What a text that is seen once fills in; ``parameters`` comes last, because a bound one's are known only when it runs."""
TEXT = ("text", "text_digest")
"""What it fills in where the same operations were decided the same way before."""
ENDED = ("begin", "rows", "bytes", "masked")
KINDS = 8
"""Templates for operations and decisions that come again, in one session."""
PATIENCE = 64
"""Texts that found no room among them before they give way to others."""

Kind = tuple[Sequence[Operation], Decision, Template | None]
"""Operations and what was decided of them; the template from the second time on."""


class Records:
    """The lane's ``command.begin`` and ``command.end``. Every method may raise ``AuditUnavailable``."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._begin: tuple[object, Template] | None = None
        self._end: tuple[object, Template] | None = None
        self._kinds: dict[tuple[int, int, bool], Kind] = {}
        self._waited = 0

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
        """The beginning of a command that may never come again, and its values: the template is that of all of them, or of all with these
        very operations and this decision. Of a ``bound`` one the parameters are still to be added."""
        if command.phase or command.filtered:
            return self.kept(command, decision, bound=bound), ()
        policy = self._relay.gate.policy
        if self._begin is None or self._begin[0] is not policy:
            self._begin = (policy, self._relay.gate.audit.template("command.begin", session_fields(self._relay.session, policy), ONCE))
            self._kinds.clear()
        audit = self._relay.gate.audit
        template = self._of_its_kind(command, decision, bound=bound)
        if template is not None:
            return template, audit.values(template, {"text": command.shown_text, "text_secret": command.text})
        fields = command_fields(command, decision)
        if bound:
            del fields["parameters"]
        return self._begin[1], audit.values(self._begin[1], fields)

    def _of_its_kind(self, command: Command, decision: Decision, *, bound: bool) -> Template | None:
        """The template for these operations and this decision, by their identity, from the second time on."""
        key = id(command.operations), id(decision), bound
        known = self._kinds.get(key)
        if known is None:
            if len(self._kinds) >= KINDS:
                self._waited += 1
                if self._waited < PATIENCE:
                    return None
                self._kinds.clear()
            self._waited = 0
            self._kinds[key] = command.operations, decision, None   # held, so that their ids stay theirs
            return None
        if known[2] is not None:
            return known[2]
        fields = begin_fields(self._relay.session, self._relay.gate.policy, command, decision)
        for name in ("text", "text_secret", *(("parameters",) if bound else ())):
            del fields[name]
        made = self._relay.gate.audit.template("command.begin", fields, (*TEXT, "parameters") if bound else TEXT)
        self._kinds[key] = known[0], known[1], made
        return made

    def kept(self, command: Command, decision: Decision, *, bound: bool) -> Template:
        """The beginning of a command that comes again, its text and all constant: only a ``bound`` one's parameters are filled in."""
        fields = begin_fields(self._relay.session, self._relay.gate.policy, command, decision)
        if bound:
            del fields["parameters"]
        return self._relay.gate.audit.template("command.begin", fields, ("parameters",) if bound else ())
