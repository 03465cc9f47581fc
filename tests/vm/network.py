# SPDX-License-Identifier: Apache-2.0
"""A switch in a network namespace of its own: the machine's tap and this side's address on it, and a stranger on the same wire."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.terraform.site import GATEWAY, HYPERVISOR

STRANGER = "10.88.20.66"
TAP = "tap0"


@dataclass(frozen=True, slots=True)
class Network:
    """``controller`` has the switch and the address that may manage; ``stranger`` has a cable."""

    controller: str
    stranger: str


@contextmanager
def network(name: str) -> Iterator[Network]:
    made = Network(name, f"{name}-x")
    try:
        for namespace in (made.controller, made.stranger):
            _ip("netns", "add", namespace)
            _ip("-n", namespace, "link", "set", "lo", "up")
        _lay_cables(made)
        yield made
    finally:
        for namespace in (made.stranger, made.controller):
            subprocess.run(["ip", "netns", "delete", namespace], check=False, capture_output=True)


def _lay_cables(made: Network) -> None:
    inside = ("-n", made.controller)
    _ip(*inside, "link", "add", "switch", "type", "bridge")
    _ip(*inside, "link", "set", "switch", "up")
    _ip(*inside, "address", "add", f"{HYPERVISOR}/24", "dev", "switch")
    _ip(*inside, "tuntap", "add", "dev", TAP, "mode", "tap")
    _ip(*inside, "link", "set", TAP, "txqueuelen", "20000", "master", "switch", "up")  # a scan's knocks wait there, none is lost
    _ip(*inside, "link", "add", "port1", "type", "veth", "peer", "name", "cable", "netns", made.stranger)
    _ip(*inside, "link", "set", "port1", "master", "switch", "up")
    _ip("-n", made.stranger, "address", "add", f"{STRANGER}/24", "dev", "cable")
    _ip("-n", made.stranger, "link", "set", "cable", "up")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


__all__ = ["GATEWAY", "HYPERVISOR", "STRANGER", "TAP", "Network", "network"]
