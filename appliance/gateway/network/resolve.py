# SPDX-License-Identifier: Apache-2.0
"""Destinations to addresses. A name is looked up only where that was asked for; one that fails takes no other with it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address

from gateway.network.plan import Address, Destination, Reach

LookUp = Callable[[str, int], Iterable[str]]
"""The addresses of a name, for a port, as text. Raises ``OSError`` or ``UnicodeError``."""

MOST = 32
"""Addresses one name may have. A policy names hosts; what has more is no host."""


def system(name: str, port: int) -> list[str]:
    """As the gateway itself will look it up: /etc/hosts, then the name servers."""
    return [str(found[4][0]) for found in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)]


def resolve(destinations: Iterable[Destination], look_up: LookUp | None) -> tuple[Reach, ...]:
    """``look_up`` is ``None`` where names are not to be looked up; each is then a problem of its destination."""
    return tuple(_reach(destination, look_up) for destination in destinations)


def _reach(destination: Destination, look_up: LookUp | None) -> Reach:
    try:
        return Reach(destination, _addresses(destination, look_up))
    except ValueError as wrong:
        return Reach(destination, problem=str(wrong))


def _addresses(destination: Destination, look_up: LookUp | None) -> tuple[Address, ...]:
    if not 1 <= destination.port <= 65535:
        raise ValueError("expected a port from 1 to 65535")
    literal = _literal(destination.host)
    if literal is not None:
        return (_usable(literal, named=False),)
    if destination.host.lower().rstrip(".") == "localhost":
        return (IPv4Address("127.0.0.1"), IPv6Address("::1"))
    if look_up is None:
        raise ValueError("has a name and no address: --resolve looks names up")
    found = sorted({_usable(address, named=True) for address in _looked_up(destination, look_up)}, key=lambda one: (one.version, int(one)))
    if not 1 <= len(found) <= MOST:
        raise ValueError(f"expected a name of 1 to {MOST} addresses, this one has {len(found)}")
    return tuple(found)


def _looked_up(destination: Destination, look_up: LookUp) -> list[Address]:
    try:
        answers = list(look_up(destination.host, destination.port))
    except (OSError, UnicodeError) as wrong:
        raise ValueError(f"the name does not resolve ({_reason(wrong)})") from None
    found = [_literal(answer) for answer in answers]
    return [address for address in found if address is not None]


def _reason(wrong: OSError | UnicodeError) -> str:
    return wrong.strerror or type(wrong).__name__ if isinstance(wrong, OSError) else "not a host name"


def _literal(host: str) -> Address | None:
    """An address as what the kernel would send to: without a scope, IPv4 where it is mapped into IPv6."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def _usable(address: Address, *, named: bool) -> Address:
    """Refuses what no target has. A name server may not point at this link's own services either (169.254.169.254)."""
    if address.is_unspecified or address.is_multicast or address == IPv4Address("255.255.255.255"):
        raise ValueError(f"expected the address of a host, not {address}")
    if named and address.is_link_local:
        raise ValueError(f"the name resolves to the link-local address {address}; write the address itself where that is meant")
    return address
