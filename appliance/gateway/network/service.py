# SPDX-License-Identifier: Apache-2.0
"""The plan as a drop-in for ``lockgate.service``: a second lock beside nftables, in the unit's own cgroup.

``IPAddressAllow=`` filters by the peer's address in both directions, so it has to hold the callers as well as the targets. Where the
folder does not bound the callers, and nobody said where they come from, a list would shut them out: then there is none, the text says
so, and nftables alone holds outgoing connections. ``SocketBindAllow=`` keeps the process from opening doors that the folder does not
have; connecting is not binding.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.network.plan import Network, Plan


def render(plan: Plan) -> str:
    """Text of the drop-in. Names of the policy are not in it."""
    return "\n".join(["# Made by `lockgate network` from the policy.", "[Service]", *_addresses(plan), *_ports(plan)]) + "\n"


def peers(plan: Plan) -> tuple[str, ...] | None:
    """Every network the gateway speaks with, this machine included; ``None`` where its callers may come from anywhere."""
    if plan.callers.networks is None:
        return None
    single = [*(address for address, _ in plan.endpoints), *plan.name_servers]
    networks = [_number(network) for network in plan.callers.networks]
    return tuple(dict.fromkeys(["127.0.0.0/8", "::1/128", *networks, *(f"{one}/{one.max_prefixlen}" for one in single)]))


def _number(network: Network) -> str:
    """Address and length alone: what Python keeps as the scope of an IPv6 network may be any text."""
    address = network.network_address
    return f"{type(address)(int(address))}/{network.prefixlen}"


def _addresses(plan: Plan) -> Iterator[str]:
    allowed = peers(plan)
    if allowed is None:
        yield "# No IPAddressAllow=: callers may come from anywhere. nftables alone holds outgoing connections."
        return
    yield "IPAddressDeny=any"
    yield "IPAddressAllow="
    yield from (f"IPAddressAllow={network}" for network in allowed)


def _ports(plan: Plan) -> Iterator[str]:
    if any(door.port == 0 for door in plan.doors):
        yield "# No SocketBindAllow=: a listener takes any free port."
        return
    yield "SocketBindDeny=any"
    yield "SocketBindAllow="
    yield from (f"SocketBindAllow=tcp:{port}" for port in sorted({door.port for door in plan.doors}))
