# SPDX-License-Identifier: Apache-2.0
"""Networks: one namespace with a bridge for each switch, one namespace for each host, a veth pair for each leg. The machine's own
network namespace gets nothing."""

from __future__ import annotations

from ipaddress import IPv4Interface

from .command import run
from .names import Attachment, Scenario


def namespaces() -> set[str]:
    return {line.split()[0] for line in run("ip", "netns", "list").stdout.splitlines() if line.strip()}


def _new_namespace(name: str) -> None:
    run("ip", "netns", "add", name)
    run("ip", "-n", name, "link", "set", "lo", "up")
    # A new namespace inherits the machine's value: a switch must never route.
    run("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv4.ip_forward=0")


def ensure_switch(scenario: Scenario, switch: str, controller: IPv4Interface) -> str:
    """The switch's namespace, with the controller's address on it."""
    name = scenario.switch_namespace(switch)
    if name not in namespaces():
        _new_namespace(name)
        run("ip", "-n", name, "link", "add", "br0", "type", "bridge")
        run("ip", "-n", name, "addr", "add", str(controller), "dev", "br0")
        run("ip", "-n", name, "link", "set", "br0", "up")
    return name


def plug_in(scenario: Scenario, host: str, legs: list[Attachment]) -> None:
    """A fresh namespace for the host with host0, host1 ... on its switches; the default route leads to the first one's controller."""
    name = scenario.host_namespace(host)
    unplug(scenario, host)
    _new_namespace(name)
    for number, leg in enumerate(legs):
        switch = ensure_switch(scenario, leg.switch, leg.controller)
        port, device = f"p{int(leg.address.ip):08x}", f"host{number}"
        run("ip", "-n", switch, "link", "add", port, "type", "veth", "peer", "name", device, "netns", name)
        run("ip", "-n", switch, "link", "set", port, "master", "br0", "up")
        run("ip", "-n", name, "addr", "add", str(leg.address), "dev", device)
        run("ip", "-n", name, "link", "set", device, "up")
    run("ip", "-n", name, "route", "add", "default", "via", str(legs[0].controller.ip))


def unplug(scenario: Scenario, host: str) -> None:
    if scenario.host_namespace(host) in namespaces():
        run("ip", "netns", "delete", scenario.host_namespace(host))


def remove_switches(scenario: Scenario) -> None:
    for name in namespaces():
        if name.startswith(scenario.switch_namespace("")):
            run("ip", "netns", "delete", name)
