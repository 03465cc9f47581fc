# SPDX-License-Identifier: Apache-2.0
"""``lockgate.firstboot``: what a gateway is told about itself. JSON, checked key by key, nothing unknown and nothing that needs quoting.

``{"version": 1, "name", "segment", "interfaces": [{"name", "mac", "addresses": ["ADDRESS/PREFIX"], "gateway": null | "ADDRESS",
"routes": [{"to", "via"}]}], "name_servers": [], "time_servers": [],
"management": {"networks": [], "authorized_keys": [], "user_ca": ""}}``. ``mac`` may be null where there is one interface.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_interface, ip_network
from typing import Any, TypeVar

LARGEST = 64 * 2**10
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_INTERFACE = re.compile(r"[a-z]([a-z0-9-]{0,29}[a-z0-9])?")
_MAC = re.compile(r"[0-9a-f][02468ace](:[0-9a-f]{2}){5}")
_COMMENT = re.compile(r"[A-Za-z0-9@._-]{1,100}")
_KEYS = ("ssh-ed25519", "ssh-rsa", "sk-ssh-ed25519@openssh.com")
_HASH = re.compile(r"\$(?:y|gy|7|6)\$[./A-Za-z0-9$=,]{20,250}")
_MOST = 64
Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
_T = TypeVar("_T")


class Wrong(ValueError):
    """What is wrong, and where. The message holds nothing of what was given that could move a terminal's cursor."""


@dataclass(frozen=True, slots=True)
class Route:
    to: str
    via: str


@dataclass(frozen=True, slots=True)
class Interface:
    """``addresses`` are ADDRESS/PREFIX. ``mac`` is lower case."""

    name: str
    mac: str | None
    addresses: tuple[str, ...]
    gateway: str | None
    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True)
class Management:
    networks: tuple[str, ...]
    authorized_keys: tuple[str, ...]
    user_ca: str


@dataclass(frozen=True, slots=True)
class Told:
    """All of it checked; every text is in its one normal form."""

    version: int
    name: str
    segment: str
    interfaces: tuple[Interface, ...]
    name_servers: tuple[str, ...]
    time_servers: tuple[str, ...]
    management: Management

    def to_json(self) -> bytes:
        """What ``parse`` takes."""
        return json.dumps(asdict(self), indent=1, sort_keys=True).encode() + b"\n"


def parse(data: bytes) -> Told:
    """Raises ``Wrong``."""
    found = _object(document(data), "", "version", "name", "segment", "interfaces", "name_servers", "time_servers", "management")
    if found["version"] != 1 or type(found["version"]) is not int:
        raise Wrong("version: expected 1")
    interfaces = tuple(_list(found, "", "interfaces", _interface, least=1))
    _distinct("interfaces", [one.name for one in interfaces], "names")
    _distinct("interfaces", [one.mac for one in interfaces if one.mac], "MAC addresses")
    if len(interfaces) > 1 and any(one.mac is None for one in interfaces):
        raise Wrong("interfaces: expected a MAC address for each where there are several")
    _distinct("interfaces", [str(ip_address(one.gateway).version) for one in interfaces if one.gateway], "kinds of gateways")
    return Told(1, _matching(found, "", "name", _NAME), _matching(found, "", "segment", _NAME), interfaces,
                tuple(_list(found, "", "name_servers", _server)), tuple(_list(found, "", "time_servers", _server)),
                _management(found["management"], "management"))


def document(data: bytes, largest: int = LARGEST) -> Any:
    """JSON without surprises: bounded, no key twice, no NaN. Raises ``Wrong``."""
    if len(data) > largest:
        raise Wrong(f"expected at most {largest} bytes")
    try:
        return json.loads(data.decode(), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as wrong:
        raise Wrong(str(wrong) if isinstance(wrong, Wrong) else "expected JSON in UTF-8") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Wrong("expected no key twice")
    return found


def _no_constant(_: str) -> None:
    raise Wrong("expected a number")


def password_hash(data: bytes) -> str:
    """``lockgate.break-glass``: a password as crypt(5) has it. Raises ``Wrong``, without showing it."""
    text = data.decode("ascii", "replace").removesuffix("\n")
    if not _HASH.fullmatch(text):
        raise Wrong("break-glass: expected a yescrypt or SHA-512 hash as mkpasswd prints it")
    return text


def credentials(data: bytes) -> dict[str, bytes]:
    """``lockgate.credentials``: ``{NAME: {key: text}}``, by name what credentials/NAME.yaml holds. Raises ``Wrong``, showing no value."""
    found = document(data)
    if not isinstance(found, dict):
        raise Wrong("credentials: expected an object")
    for name, values in found.items():
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", name):
            raise Wrong("credentials: expected names of letters, digits and . _ -")
        if not isinstance(values, dict) or not all(isinstance(one, str) for one in values.values()):
            raise Wrong(f"credentials.{name}: expected an object of texts")
    return {name: json.dumps(values, sort_keys=True).encode() + b"\n" for name, values in found.items()}


# ---- the parts


def _interface(value: object, at: str) -> Interface:
    found = _object(value, at, "name", "mac", "addresses", "gateway", "routes")
    addresses = tuple(_list(found, at, "addresses", _own_address, least=1))
    networks = [ip_interface(one).network for one in addresses]
    _distinct(f"{at}.addresses", addresses, "addresses")
    gateway = None if found["gateway"] is None else _address(found["gateway"], f"{at}.gateway")
    routes = tuple(_list(found, at, "routes", _route))
    for hop, where in [(gateway, f"{at}.gateway"), *((one.via, f"{at}.routes") for one in routes)]:
        if hop is not None and not any(_inside(ip_address(hop), network) for network in networks):
            raise Wrong(f"{where}: expected an address in one of the interface's networks")
    mac = found["mac"]
    if isinstance(mac, str):
        mac = mac.lower()
    if mac is not None and (not isinstance(mac, str) or not _MAC.fullmatch(mac)):
        raise Wrong(f"{at}.mac: expected null or a MAC address such as 52:54:00:12:34:56")
    return Interface(_matching(found, at, "name", _INTERFACE), mac, addresses, gateway, routes)


def _inside(address: Address, network: Network) -> bool:
    return address.version == network.version and address in network


def _route(value: object, at: str) -> Route:
    found = _object(value, at, "to", "via")
    return Route(_network(found["to"], f"{at}.to"), _address(found["via"], f"{at}.via"))


def _management(value: object, at: str) -> Management:
    found = _object(value, at, "networks", "authorized_keys", "user_ca")
    networks = tuple(_list(found, at, "networks", _network, least=1))
    if any(ip_network(one).prefixlen == 0 for one in networks):
        raise Wrong(f"{at}.networks: expected networks that operators come from, not every address there is")
    keys = tuple(_list(found, at, "authorized_keys", _key))
    authority = "" if found["user_ca"] == "" else _key(found["user_ca"], f"{at}.user_ca")
    if not keys and not authority:
        raise Wrong(f"{at}: expected authorized_keys or user_ca: nobody would get in")
    return Management(networks, keys, authority)


def _key(value: object, at: str) -> str:
    """One line of authorized_keys without options: the type inside of the key has to be the one it says."""
    parts = value.split(" ") if isinstance(value, str) else []
    kind = parts[0] if parts else ""
    if len(parts) not in (2, 3) or kind not in _KEYS or (len(parts) == 3 and not _COMMENT.fullmatch(parts[2])):
        raise Wrong(f"{at}: expected an OpenSSH public key, TYPE BASE64 [COMMENT], without options")
    try:
        blob = base64.b64decode(parts[1], validate=True)
    except binascii.Error:
        blob = b""
    if not 32 <= len(blob) <= 4096 or blob[:4 + len(kind)] != len(kind).to_bytes(4, "big") + kind.encode():
        raise Wrong(f"{at}: expected the key's own base64")
    return " ".join(parts)


def _own_address(value: object, at: str) -> str:
    text = _text(value, at)
    try:
        found = ip_interface(text)
    except ValueError:
        found = None
    if found is None or "/" not in text or "%" in text or found.network.prefixlen == 0 or _odd(found.ip):
        raise Wrong(f"{at}: expected ADDRESS/PREFIX")
    return str(found)


def _address(value: object, at: str) -> str:
    text = _text(value, at)
    try:
        found = ip_address(text)
    except ValueError:
        found = None
    if found is None or "%" in text or _odd(found):
        raise Wrong(f"{at}: expected an address")
    return str(found)


def _server(value: object, at: str) -> str:
    return _address(value, at)


def _odd(address: Address) -> bool:
    return address.is_multicast or address.is_unspecified or address.is_loopback


def _network(value: object, at: str) -> str:
    text = _text(value, at)
    try:
        found = ip_network(text)
    except ValueError:
        found = None
    if found is None or "%" in text:  # what stands behind % may be any text, and Python keeps it
        raise Wrong(f"{at}: expected a network such as 192.0.2.0/24")
    return str(found)


def _text(value: object, at: str) -> str:
    if not isinstance(value, str) or len(value) > 64:
        raise Wrong(f"{at}: expected text")
    return value


def _object(value: object, at: str, *keys: str) -> dict[str, Any]:
    where = f"{at}: " if at else ""
    if not isinstance(value, dict):
        raise Wrong(f"{where}expected an object")
    if set(value) != set(keys):
        missing = sorted(set(keys) - set(value))
        raise Wrong(f"{where}expected the keys {', '.join(keys)}" + (f"; missing: {', '.join(missing)}" if missing else " and no others"))
    return value


def _list(found: dict[str, Any], at: str, key: str, one: Callable[[object, str], _T], least: int = 0) -> Iterator[_T]:
    where = f"{at}.{key}" if at else key
    if not isinstance(found[key], list) or not least <= len(found[key]) <= _MOST:
        raise Wrong(f"{where}: expected a list of {least} to {_MOST} entries")
    for number, value in enumerate(found[key]):
        yield one(value, f"{where}[{number}]")


def _matching(found: dict[str, Any], at: str, key: str, pattern: re.Pattern[str]) -> str:
    value = found[key]
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise Wrong(f"{at}.{key}: ".removeprefix(".") + "expected lower-case letters, digits and -, beginning with a letter")
    return value


def _distinct(at: str, values: Sequence[str], what: str) -> None:
    if len(set(values)) != len(values):
        raise Wrong(f"{at}: expected different {what}")
