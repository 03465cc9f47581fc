# SPDX-License-Identifier: Apache-2.0
"""One look at everything: the folder, the clock, the disk, every target."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from gateway.config.load import Folder
from gateway.doctor import clock, disk, folder
from gateway.doctor.finding import Check, Finding, by_severity, examined
from gateway.policy.policy import compile_policy


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found, worst first; ``sync`` is the median of a synced write, in seconds; ``targets`` are the resources asked."""

    findings: tuple[Finding, ...]
    sync: float
    targets: tuple[str, ...]


def examine(given: Folder, resources: Collection[str]) -> Examination:
    """Look. ``resources`` are the names of those to be asked. Raises ``ConfigError`` where the state folder may not be looked at."""
    compile_policy(given)
    settings = given.gateway.audit
    medium = disk.look_at(given.state, settings.retention.size, settings.reserve)
    found = examined(disk.CHECKS, medium) + examined(clock.CHECKS, clock.look_at(given.state))
    found += examined(folder.CHECKS, folder.Papers(given))
    found += asyncio.run(_targets(given, resources))
    return Examination(tuple(by_severity(found)), medium.median, tuple(sorted(resources)))


async def _targets(given: Folder, resources: Collection[str]) -> list[Finding]:
    """All at once: one that does not answer keeps nobody waiting for longer than itself."""
    wanted = [one for one in given.policy.resources if one.name in resources]
    return [finding for found in await asyncio.gather(*(_module(one.protocol).findings(given, one) for one in wanted)) for finding in found]


def _module(protocol: str) -> Any:
    return import_module(f"gateway.protocols.{protocol}.doctor")


def tables(protocols: Sequence[str]) -> list[tuple[str, Sequence[Check[Any]]]]:
    """Every check there is, by what it looks at."""
    here: list[tuple[str, Sequence[Check[Any]]]] = [("The disk", disk.CHECKS), ("The clock", clock.CHECKS), ("The folder", folder.CHECKS)]
    return here + [(f"Targets: {name}", [check for table in _module(name).TABLES for check in table]) for name in protocols]
