# SPDX-License-Identifier: Apache-2.0
"""Molecule's `platforms`, as the lab reads them.

name      of the host
address   its address on the network `switch` (default lan); or, for a host in several networks,
networks  a list of {name, address}, a switch each; the first one is where its default route leads
suite     trixie or bookworm; without it what the command was told
variant   a further package list: db
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from .names import Attachment, LabError, safe


@dataclass(frozen=True)
class Platform:
    name: str
    legs: list[Attachment]
    suite: str
    variant: str


def read_platforms(text: str, suite: str) -> list[Platform]:
    entries = json.loads(text)
    if not isinstance(entries, list) or not entries:
        raise LabError("platforms: expected a list with at least one host")
    return [_read(entry, suite) for entry in entries]


def _read(entry: dict[str, Any], suite: str) -> Platform:
    try:
        name = safe("host", entry["name"])
        networks = entry.get("networks") or [{"name": entry.get("switch", "lan"), "address": entry["address"]}]
        legs = [Attachment.parse(network["name"], network["address"]) for network in networks]
    except KeyError as missing:
        raise LabError(f"platform {entry.get('name', '?')}: no {missing}") from None
    return Platform(name, legs, entry.get("suite", suite), entry.get("variant", ""))


def neighbours(platform: Platform, platforms: list[Platform]) -> dict[str, str]:
    """Names by address of the hosts that stand on a network with this one."""
    networks = {leg.switch for leg in platform.legs}
    return {str(leg.address.ip): other.name for other in platforms for leg in other.legs if leg.switch in networks}
