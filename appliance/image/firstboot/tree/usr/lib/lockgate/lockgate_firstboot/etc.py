# SPDX-License-Identifier: Apache-2.0
"""From what was told to files under /etc. Pure. Every value was checked by ``told`` and needs no quoting anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from ipaddress import ip_address, ip_interface, ip_network

from .told import Interface, Told

_HEAD = "# Made at boot from what this gateway was told at its first one: /var/lib/lockgate-site/told.json\n"
ACCOUNT = "ops"


def files(told: Told) -> dict[str, str]:
    """By path under /etc."""
    found = {
        "hostname": f"{told.name}\n",
        "hosts": f"127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.1.1 {told.name}\n",
        f"ssh/authorized_keys.d/{ACCOUNT}": _HEAD + "".join(f"{key}\n" for key in told.management.authorized_keys),
        "ssh/sshd_config.d/10-site.conf": _HEAD + "".join(f"AllowUsers {ACCOUNT}@{network}\n" for network in told.management.networks),
        "lockgate-appliance/firewall.d/10-site.nft": _HEAD + "".join(_elements(told)),
        "lockgate-appliance/break-glass.yaml": json.dumps({"gateway": told.name, "segment": told.segment}) + "\n",
    }
    if told.management.user_ca:
        found["ssh/user_ca.pub"] = f"{told.management.user_ca}\n"
        found[f"ssh/authorized_principals.d/{ACCOUNT}"] = f"{ACCOUNT}\n"
    if told.name_servers:
        found["resolv.conf"] = _HEAD + "".join(f"nameserver {one}\n" for one in told.name_servers[:3])
    if told.time_servers:
        found["systemd/timesyncd.conf.d/site.conf"] = f"{_HEAD}[Time]\nNTP={' '.join(told.time_servers)}\nFallbackNTP=\n"
    return found | {f"systemd/network/10-site-{one.name}.network": _HEAD + "\n".join(_network(one)) + "\n" for one in told.interfaces}


def _network(one: Interface) -> Iterator[str]:
    yield "[Match]"
    yield f"MACAddress={one.mac}" if one.mac else "Kind=!*"
    yield "Type=ether"
    yield "\n[Network]"
    yield f"Description={one.name}"
    yield "DHCP=no"
    yield "IPv6AcceptRA=no"
    yield f"LinkLocalAddressing={'ipv6' if any(ip_interface(address).version == 6 for address in one.addresses) else 'no'}"
    yield "LLDP=no"
    yield "LLMNR=no"
    yield "MulticastDNS=no"
    yield from (f"Address={address}" for address in one.addresses)
    if one.gateway:
        yield f"Gateway={one.gateway}"
    for route in one.routes:
        yield f"\n[Route]\nDestination={route.to}\nGateway={route.via}"


def _elements(told: Told) -> Iterator[str]:
    """What the firewall's sets get: who may manage, and whom this host may ask for names and time."""
    for name, values in (("management", told.management.networks), ("names", told.name_servers), ("time", told.time_servers)):
        for version in (4, 6):
            mine = [one for one in values if (ip_network(one) if "/" in one else ip_address(one)).version == version]
            if mine:
                yield f"add element inet lockgate {name}{version} {{ {', '.join(mine)} }}\n"
