# SPDX-License-Identifier: Apache-2.0
"""Logs of workers that there are no longer, because ``workers`` was lowered: what a crash left open in them is closed, and what is over its
time is removed, each on record in the log it concerns."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import apsw
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.audit.journal import Journal
from gateway.audit.log import AuditLog, prepare
from gateway.audit.reader import LogReader
from gateway.config.schema import AuditConfig
from gateway.errors import AuditUnavailable


async def close_former(state: Path, origin: str, segment: str, workers: int, config: AuditConfig, key: Ed25519PrivateKey, *,
                       clock: Callable[[], float] = time.time) -> list[int]:
    """Look after the logs of the workers of ``origin`` numbered above ``workers``; gives the numbers of those that needed it.

    Called by the gateway's first process, which has its own log open. Raises ``AuditUnavailable`` or ``GatewayFault``.
    """
    found = []
    for worker in former(state / "audit", origin, workers):
        if _is_due(state, f"{origin}/{worker}", segment, worker, config, key, clock):
            log = AuditLog.open(state, origin, segment, config, key, clock=clock, worker=worker)
            await log.close()
            found.append(worker)
    return found


def former(audit: Path, origin: str, workers: int) -> list[int]:
    """The workers above ``workers`` that have files in ``state/audit``. Raises ``AuditUnavailable``."""
    named = re.compile(re.escape(origin) + r"/([1-9][0-9]{0,3})")
    try:
        numbers = {int(match[1]) for source in LogReader(audit).sources() if (match := named.fullmatch(source.origin))}
    except (apsw.Error, OSError) as error:
        raise AuditUnavailable(f"{audit}: a log file cannot be read ({type(error).__name__})") from None
    return sorted(number for number in numbers if number > workers)


def _is_due(state: Path, origin: str, segment: str, worker: int, config: AuditConfig, key: Ed25519PrivateKey,
            clock: Callable[[], float]) -> bool:
    place, lock = prepare(state, origin, segment, None, worker)
    journal = Journal(place, key)
    try:
        recovered = journal.open(int(clock() * 1e6))
        return bool(recovered.unsealed or recovered.standing or journal.expired(int((clock() - config.retention.local) * 1e6)))
    except (apsw.Error, OSError) as error:
        raise AuditUnavailable(f"{place.audit}: a log file cannot be read ({type(error).__name__})") from None
    finally:
        journal.abandon()
        os.close(lock)
