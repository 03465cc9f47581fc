# SPDX-License-Identifier: Apache-2.0
"""Plans without a folder."""

from __future__ import annotations

from ipaddress import ip_network

from gateway.network.plan import Callers, Destination, Door, Plan
from gateway.network.resolve import LookUp, resolve

POSTGRES = Door("postgres", "0.0.0.0", 15432)
CONSOLE = Door("console", "127.0.0.1", 19443)


def resource(host: str, port: int = 5432, name: str = "orders-db") -> Destination:
    return Destination("resource", name, host, port)


def plan(*destinations: Destination, doors: tuple[Door, ...] = (POSTGRES, CONSOLE), clients: tuple[str, ...] | None = None,
         look_up: LookUp | None = None) -> Plan:
    known = Callers(None, "nobody said") if clients is None else Callers(tuple(map(ip_network, clients)))
    return Plan(doors, resolve(destinations, look_up), known)
