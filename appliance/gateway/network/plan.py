# SPDX-License-Identifier: Apache-2.0
"""Doors and destinations of a folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Literal
from urllib.parse import urlsplit

from gateway.config import speaks
from gateway.config.address import is_loopback
from gateway.config.load import Folder

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Purpose = Literal["resource", "keys", "webhook"]
_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Door:
    """A listener: ``name`` is its protocol, or ``console``. ``port`` is 0 where the system chooses one."""

    name: str
    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether only this machine can come in."""
        return is_loopback(self.host)

    def as_document(self) -> dict[str, Any]:
        return {"name": self.name, "host": self.host, "port": self.port, "loopback": self.loopback}


@dataclass(frozen=True, slots=True)
class Destination:
    """Where the gateway connects to. ``name`` is that of the resource or the issuer; the webhook has none of its own."""

    purpose: Purpose
    name: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.purpose} {self.name}" if self.name != self.purpose else self.purpose


@dataclass(frozen=True, slots=True)
class Reach:
    """A destination and its addresses. Without addresses ``problem`` says why."""

    destination: Destination
    addresses: tuple[Address, ...] = ()
    problem: str | None = None

    def as_document(self) -> dict[str, Any]:
        to = self.destination
        return {"purpose": to.purpose, "name": to.name, "host": to.host, "port": to.port,
                "addresses": [str(address) for address in self.addresses], "problem": self.problem}


@dataclass(frozen=True, slots=True)
class Callers:
    """The networks that callers come from. ``None`` where the folder does not bound them; ``why`` then says what is missing."""

    networks: tuple[Network, ...] | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything the renderers need."""

    doors: tuple[Door, ...]
    reaches: tuple[Reach, ...]
    callers: Callers
    name_servers: tuple[Address, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        """What no hole can be made for, a line each."""
        open_ended = (f"listener {door.name}: expected a fixed port, not 0" for door in self.doors if door.port == 0)
        unreached = (f"{reach.destination}: {reach.problem}" for reach in self.reaches if reach.problem is not None)
        return (*open_ended, *unreached)

    @property
    def names(self) -> tuple[str, ...]:
        """The hosts among the destinations that are no addresses: where a name server says what they are."""
        return tuple(sorted({reach.destination.host for reach in self.reaches if not is_address(reach.destination.host)}))

    @property
    def endpoints(self) -> tuple[tuple[Address, int], ...]:
        """Every address and port the gateway may connect to, each once, in a fixed order."""
        found = {(address, reach.destination.port) for reach in self.reaches for address in reach.addresses}
        return tuple(sorted(found, key=lambda one: (one[0].version, int(one[0]), one[1])))


def is_address(host: str) -> bool:
    """False for a name; what is said of ``localhost`` is as fixed as an address."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def doors(folder: Folder) -> tuple[Door, ...]:
    """Every listener."""
    return tuple(Door(name, *listener.place) for name, listener in folder.gateway.listeners.items())


def destinations(folder: Folder) -> tuple[Destination, ...]:
    """Everything the gateway would connect to. Each protocol says where its resources are."""
    found: list[Destination] = []
    for resource in folder.policy.resources:
        places = speaks.settings(resource.protocol).destinations(resource)
        found += [Destination("resource", resource.name, host, port) for host, port in places]
    found += [_of_url("keys", issuer.name, issuer.jwks_url) for issuer in folder.policy.issuers if issuer.jwks_url is not None]
    webhook = folder.gateway.notify.webhook
    return (*found, *([_of_url("webhook", "webhook", webhook.url)] if webhook is not None else []))


def _of_url(purpose: Purpose, name: str, url: str) -> Destination:
    """A port that is none is kept as 0, which ``resolve`` refuses."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = 0
    return Destination(purpose, name, parts.hostname or "", _PORTS[parts.scheme] if port is None else port)


def callers(folder: Folder, told: Iterable[Network]) -> Callers:
    """The networks ``told`` if any, else those of all identities' ``sources`` where nobody else could call."""
    if networks := _merged(told):
        return Callers(networks)
    if why := next(_unbounded(folder), None):
        return Callers(None, why)
    return Callers(_merged(network for entry in folder.policy.identities for network in entry.sources))


def _unbounded(folder: Folder) -> Iterator[str]:
    """Who could call from anywhere."""
    yield from (f"identity {entry.name} has no sources" for entry in folder.policy.identities if not entry.sources)
    if not folder.policy.identities:
        yield "there is no identity"
    claimed = [issuer.name for issuer in folder.policy.issuers if issuer.groups_claim is not None]
    if claimed and any(who.startswith("group:") for grant in folder.policy.grants for who in grant.to):
        yield f"a grant names a group that tokens of issuer {claimed[0]} may carry"
    yield from (f"people come to the {door.name} from anywhere" for door in doors(folder) if door.name == "console" and not door.loopback)


def _merged(networks: Iterable[Network]) -> tuple[Network, ...]:
    """Each once, in a fixed order."""
    return tuple(sorted(set(networks), key=lambda one: (one.version, int(one.network_address), one.prefixlen)))
