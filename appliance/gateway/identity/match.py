# SPDX-License-Identifier: Apache-2.0
"""Claims compared with patterns, peers compared with networks. Pure; linear in the length of the text."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def matches(pattern: str, text: str) -> bool:
    """Whether the whole text fits; ``*`` stands for any characters, also none; everything else for itself, case included."""
    if "*" not in pattern:
        return pattern == text
    first, *middle, last = pattern.split("*")
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    position, end = len(first), len(text) - len(last)
    for part in middle:
        found = text.find(part, position, end)
        if found < 0:
            return False
        position = found + len(part)
    return True


def overlap(left: str, right: str) -> bool:
    """Whether some text fits both patterns (for warnings; quadratic in the pattern lengths where both have a ``*``)."""
    if "*" not in left or "*" not in right:
        return matches(right, left) if "*" not in left else matches(left, right)
    reach = {(0, 0)}
    seen = set(reach)
    while reach:
        i, j = reach.pop()
        if i == len(left) and j == len(right):
            return True
        for step in _steps(left, right, i, j) - seen:
            seen.add(step)
            reach.add(step)
    return False


def _steps(left: str, right: str, i: int, j: int) -> set[tuple[int, int]]:
    a = left[i] if i < len(left) else ""
    b = right[j] if j < len(right) else ""
    found = set()
    if a == "*":
        found |= {(i + 1, j)} | ({(i, j + 1)} if b else set())
    if b == "*":
        found |= {(i, j + 1)} | ({(i + 1, j)} if a else set())
    if a and a == b and a != "*":
        found.add((i + 1, j + 1))
    return found


def claim_text(value: Any) -> str | None:
    """A claim as identity entries compare it: strings as they are, ``true``/``false``, whole numbers. ``None`` for all else."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return str(value)
    return None


def fits(match: Mapping[str, str], claims: Mapping[str, Any]) -> bool:
    """Whether every claim named by an identity entry is there and fits its pattern."""
    for name, pattern in match.items():
        text = claim_text(claims.get(name))
        if text is None or not matches(pattern, text):
            return False
    return True


def both_possible(left: Mapping[str, str], right: Mapping[str, str]) -> bool:
    """Whether one token could match two entries of one issuer."""
    return all(overlap(left[name], right[name]) for name in left.keys() & right.keys())


def peer_address(source: str) -> Address:
    """The address of a peer given as ``ADDRESS``, ``ADDRESS:PORT`` or ``[ADDRESS]:PORT``; IPv4-mapped IPv6 becomes IPv4.

    Raises ``ValueError`` for anything else (a Unix socket, an empty string).
    """
    text = source
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def inside(source: str, allowed: Iterable[Network]) -> bool:
    """Whether the peer is in one of the networks. False for a peer whose address cannot be read."""
    try:
        address = peer_address(source)
    except ValueError:
        return False
    return any(address.version == network.version and address in network for network in map(_unmapped, allowed))


def _unmapped(network: Network) -> Network:
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96 and (low := network.network_address.ipv4_mapped):
        return ipaddress.ip_network((low, network.prefixlen - 96))
    return network
