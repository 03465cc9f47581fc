# SPDX-License-Identifier: Apache-2.0
"""How a session ends: from whatever the loops raised to one reason for the record and one error for the caller."""

from __future__ import annotations

import asyncio
import logging
import traceback

from gateway.errors import AuditUnavailable, ClientFault, GatewayFault, Refused, SessionOver, TargetFault
from gateway.protocols.postgres.expect import Fields

log = logging.getLogger("gateway.postgres")


class Ended(Exception):
    """The session ends: ``reason`` for the record, ``fields`` for the caller (``None``: nobody is there to tell)."""

    def __init__(self, reason: str, fields: Fields | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.fields = fields


def fatal(code: str, message: str, hint: str = "") -> Fields:
    fields = {"S": "FATAL", "V": "FATAL", "C": code, "M": message}
    return fields | ({"H": hint} if hint else {})


def _of_fault(fault: BaseException) -> Ended | None:
    """How a fault of a known kind ends the session; ``None`` for anything else."""
    code = getattr(fault, "code", "")
    match fault:
        case Ended():
            return fault
        case AuditUnavailable():
            return Ended("audit cannot be written", fatal("58030", "the audit log cannot be written; nothing runs until it can"))
        case SessionOver():
            return Ended(str(fault), fatal("57P01", f"session ended: {fault}"))
        case Refused():
            return Ended(str(fault), fatal(code or "42501", str(fault)))
        case ClientFault():
            return Ended(f"client: {fault}", fatal(code or "08P01", str(fault)))
        case TargetFault():
            return Ended(f"target: {fault}", fatal(code or "08006", f"the target ended the session: {fault}"))
        case GatewayFault():
            return Ended(f"gateway: {fault}", fatal("XX000", f"refused: {fault}"))
        case OSError():
            return Ended("connection lost")
    return None


def ended_by(problems: BaseExceptionGroup[BaseException]) -> Ended:
    """The one reason among what the loops raised: an ordered ending first, then the fault; anything unknown is the gateway's."""
    flat = list(_flatten(problems))
    known = [ended for problem in flat if (ended := _of_fault(problem)) is not None]
    if known:
        return next((ended for ended in known if ended.fields is not None), known[0])
    if any(isinstance(problem, asyncio.CancelledError | KeyboardInterrupt | SystemExit) for problem in flat):
        return Ended("gateway stopping", fatal("57P01", "the gateway is stopping"))
    place = traceback.extract_tb(flat[0].__traceback__)[-1]
    log.error("session failed: %s at %s:%d", type(flat[0]).__name__, place.filename, place.lineno or 0)
    return Ended(f"internal error ({type(flat[0]).__name__})", fatal("XX000", "internal error of the gateway; the session was ended"))


def _flatten(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for problem in group.exceptions:
        found.extend(_flatten(problem) if isinstance(problem, BaseExceptionGroup) else [problem])
    return found
