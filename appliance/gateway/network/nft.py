# SPDX-License-Identifier: Apache-2.0
"""The plan as one nftables transaction: every set is emptied and filled again, at once or not at all.

The sets belong to ``table inet lockgate``, which the firewall's own file declares (role ``firewall``):

``listeners``           ports of the protocols' listeners that others can reach (``inet_service``)
``consoles``            the console's port where others can reach it (``inet_service``)
``loopback_listeners``  ports that only this machine can reach (``inet_service``)
``targets4``            where the gateway may connect to (``ipv4_addr . inet_service``)
``targets6``            the same for IPv6 (``ipv6_addr . inet_service``)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from gateway.network.plan import Door, Plan

TABLE = "inet lockgate"
SETS = ("listeners", "consoles", "loopback_listeners", "targets4", "targets6")


def render(plan: Plan) -> str:
    """Text for ``nft --file``. Names of the policy are not in it."""
    ends = plan.endpoints
    elements: dict[str, list[str]] = {
        "listeners": _ports(plan, lambda door: not door.loopback and door.name != "console"),
        "consoles": _ports(plan, lambda door: not door.loopback and door.name == "console"),
        "loopback_listeners": _ports(plan, lambda door: door.loopback),
        "targets4": [f"{address} . {port}" for address, port in ends if address.version == 4],
        "targets6": [f"{address} . {port}" for address, port in ends if address.version == 6],
    }
    lines = [f"flush set {TABLE} {name}" for name in SETS]
    lines += [f"add element {TABLE} {name} {{ {', '.join(elements[name])} }}" for name in SETS if elements[name]]
    return "\n".join(lines) + "\n"


def _ports(plan: Plan, wanted: Callable[[Door], bool]) -> list[str]:
    return [str(port) for port in sorted(_fixed(filter(wanted, plan.doors)))]


def _fixed(doors: Iterable[Door]) -> set[int]:
    return {door.port for door in doors if door.port}
