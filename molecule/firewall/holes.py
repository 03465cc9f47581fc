# SPDX-License-Identifier: Apache-2.0
"""What the tests of the firewall ask the gateway's host, and change in its policy."""

from __future__ import annotations

import json
from typing import Any

import yaml
from testinfra.host import Host

FOLDER = "/var/lib/lockgate-config/releases/one"
ADDED = f"{FOLDER}/policy/added.yaml"
CONNECT = "import socket,sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 0.8).close()"


def reaches(host: Host, user: str, address: str, port: int) -> bool:
    """Whether that account on the gateway's host can open a connection."""
    return bool(host.run("runuser -u %s -- python3 -c %s %s %s", user, CONNECT, address, str(port)).rc == 0)


def counter(host: Host, name: str) -> int:
    listed = json.loads(host.check_output("nft --json list counter inet lockgate %s", name))
    return int(next(one["counter"]["packets"] for one in listed["nftables"] if "counter" in one))


def elements(host: Host, name: str) -> list[Any]:
    listed = json.loads(host.check_output("nft --json list set inet lockgate %s", name))
    found: list[Any] = next(one["set"].get("elem", []) for one in listed["nftables"] if "set" in one)
    return found


def resource(host: Host, address: str) -> None:
    """A file of policy with one more resource, as a playbook would put it there."""
    write(host, ADDED, yaml.safe_dump({"resources": [entry("added", address)]}))


def entry(name: str, address: str) -> dict[str, Any]:
    return {"name": name, "protocol": "postgres", "address": address, "database": "x", "credential": "orders-db",
            "tls": {"mode": "require"}}


def write(host: Host, path: str, text: str) -> None:
    host.check_output("printf %%s %s > %s && chown lockgate:lockgate %s && chmod 0644 %s", text, path, path, path)


def reload(host: Host) -> int:
    return int(host.run("systemctl reload lockgate-network.service").rc)
