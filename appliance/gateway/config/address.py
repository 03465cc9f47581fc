# SPDX-License-Identifier: Apache-2.0
"""``host:port`` as listeners and targets write it; an IPv6 host stands in brackets."""

from __future__ import annotations

import ipaddress
import re

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252})")
_SCOPED = re.compile(r"[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]{1,15})?")
"""``ipaddress`` takes any text as a scope; an interface's name has no more than this."""
WANTED = "expected HOST:PORT, such as 127.0.0.1:5432, db.example:5432 or [::1]:5432"


def split_address(address: str) -> tuple[str, int]:
    """Host (without brackets) and port. Raises ``ValueError``."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or len(port) > 5 or int(port) > 65535:
        raise ValueError(WANTED)
    if host.startswith("[") and host.endswith("]"):
        return _ipv6(host[1:-1]), int(port)
    if not _HOST.fullmatch(host):
        raise ValueError(WANTED)
    return host, int(port)


def _ipv6(host: str) -> str:
    if not _SCOPED.fullmatch(host):
        raise ValueError(WANTED)
    try:
        return str(ipaddress.IPv6Address(host))
    except ValueError:
        raise ValueError(WANTED) from None


def is_loopback(host: str) -> bool:
    """True for 127.0.0.0/8, ::1 and the name ``localhost`` (RFC 6761); false for every other name."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def same_place(one: str, other: str) -> bool:
    """Whether two listener addresses would ask for the same port of the same interface. Port 0 clashes with nothing."""
    (host, port), (other_host, other_port) = split_address(one), split_address(other)
    everywhere = {"0.0.0.0", "::"}  # noqa: S104 - compared, not bound
    return port != 0 and port == other_port and (host == other_host or bool(everywhere & {host, other_host}))
