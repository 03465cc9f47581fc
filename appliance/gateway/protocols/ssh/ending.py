# SPDX-License-Identifier: Apache-2.0
"""How a session or a channel ends: one reason for the record, one line for the caller."""

from __future__ import annotations

import logging
import traceback
from dataclasses import dataclass

from gateway.errors import AuditUnavailable, ClientFault, GatewayFault, Refused, SessionOver, TargetFault

log = logging.getLogger("gateway.ssh")

DENIED = 126
"""Exit status of what policy does not let run, as a shell's for what it may not execute."""
HELD = 75
"""EX_TEMPFAIL: it waits for an approval, send it again."""
BROKEN = 255
"""As ``ssh`` itself says where a connection failed."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The session ends: ``reason`` for the record, ``told`` for the caller (``""``: nobody is there)."""

    reason: str
    told: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a channel ends that did not end by itself."""

    status: int
    line: str
    error: str
    record: str = "error"


def verdict(problem: BaseException) -> Verdict:
    """What a fault means for the channel it happened in."""
    match problem:
        case Refused(code="held"):
            said = problem.hint.removeprefix("held for approval ") or f"{problem.detail}: {problem}"
            return Verdict(HELD, f"held: approval {said}", "held", "refused")
        case Refused(code="withdrawn"):
            return Verdict(DENIED, f"withdrawn: {problem}", "withdrawn", "withdrawn")
        case Refused(code="cancelled"):
            return Verdict(BROKEN, f"cancelled: {problem}", "cancelled", "cancelled")
        case Refused():
            return Verdict(DENIED, f"denied: {problem}", problem.code or "denied", "refused")
        case AuditUnavailable():
            return Verdict(DENIED, "refused: the audit log cannot be written; nothing runs until it can", "audit", "error")
        case SessionOver():
            return Verdict(BROKEN, f"session ended: {problem}", "session over", "cancelled")
        case TargetFault():
            return Verdict(BROKEN, str(problem), "target")
        case ClientFault():
            return Verdict(BROKEN, str(problem), "client")
        case GatewayFault():
            return Verdict(BROKEN, f"refused: {problem}", "gateway")
    place = traceback.extract_tb(problem.__traceback__)[-1]
    log.error("channel failed: %s at %s:%d", type(problem).__name__, place.filename, place.lineno or 0)
    return Verdict(BROKEN, "internal error of the gateway", "internal")
