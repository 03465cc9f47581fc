# SPDX-License-Identifier: Apache-2.0
"""What a gateway may be told, for the tests to spoil."""

from __future__ import annotations

import base64
import json
from typing import Any

KEY = "ssh-ed25519 " + base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + bytes(range(32))).decode() + " ops@site"


def good() -> dict[str, Any]:
    """As the Terraform module writes it."""
    return {
        "version": 1, "name": "gw-a-1", "segment": "plant-a",
        "interfaces": [
            {"name": "management", "mac": "52:54:00:AA:BB:01", "addresses": ["192.0.2.11/24", "2001:db8::11/64"], "gateway": "192.0.2.1",
             "routes": [{"to": "203.0.113.0/24", "via": "192.0.2.254"}]},
            {"name": "plant", "mac": "52:54:00:aa:bb:02", "addresses": ["198.51.100.11/24"], "gateway": None, "routes": []},
        ],
        "name_servers": ["192.0.2.53", "2001:db8::53"], "time_servers": ["192.0.2.123"],
        "management": {"networks": ["203.0.113.0/24", "2001:db8:1::/48"], "authorized_keys": [KEY], "user_ca": ""},
    }


def encoded(told: object) -> bytes:
    return json.dumps(told).encode()
