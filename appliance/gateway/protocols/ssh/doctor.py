# SPDX-License-Identifier: Apache-2.0
"""What would make the gateway pointless in front of an SSH target: who it says it is, and which logins are offered. Nobody logs in."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import asyncssh

from gateway.config.load import Folder
from gateway.doctor.finding import Check, Finding, Sign, examined
from gateway.protocols.ssh import trust
from gateway.protocols.ssh.settings import SshResource


@dataclass(frozen=True, slots=True)
class Host:
    """A target as it answers. ``pinned`` are the keys of its known_hosts file (none: an authority vouches; ``unknown``: only what
    ``init`` wrote there), ``shown`` is the one it has."""

    name: str
    logins: tuple[str, ...]
    pinned: tuple[str, ...] = ()
    shown: str = ""
    why: str = ""
    unknown: bool = False

    @property
    def fingerprint(self) -> str:
        """Of the key it shows, as ``ssh-keygen -l`` writes it."""
        return asyncssh.import_public_key(self.shown).get_fingerprint() if self.shown else "none"


async def findings(folder: Folder, resource: SshResource) -> list[Finding]:
    """Everything found on one resource. A target that does not answer is a finding, too."""
    host, port = resource.place
    known = trust.known_keys(folder.resolve(resource.host_keys)) if resource.host_keys is not None else []
    pinned = tuple(one.key for one in known if not one.marker and trust.names(one.hosts, host, port))
    try:
        async with asyncio.timeout(folder.gateway.limits.target_connect):
            shown = await _shown(host, port, pinned)
    except (OSError, TimeoutError, asyncssh.Error) as fault:
        return examined(CHECKS, Host(resource.name, resource.logins, why=str(fault) or type(fault).__name__))
    unknown = resource.host_keys is not None and trust.is_placeholder(folder.resolve(resource.host_keys), host, port)
    return examined(CHECKS, Host(resource.name, resource.logins, pinned, shown, unknown=unknown))


async def _shown(host: str, port: int, pinned: Sequence[str]) -> str:
    algorithms = list(dict.fromkeys(key.partition(" ")[0] for key in pinned)) or "ssh-ed25519"
    found = await asyncssh.get_server_host_key(host, port, config=None, server_host_key_algs=algorithms)
    return found.export_public_key("openssh").decode().strip() if found is not None else ""


def _unreachable(host: Host) -> Iterator[Sign]:
    if host.why:
        yield Sign(host.name, host.why)


def _another(host: Host) -> Iterator[Sign]:
    if host.pinned and not host.why and not host.unknown and " ".join(host.shown.split()[:2]) not in host.pinned:
        yield Sign(host.name, f"it shows another host key than the one that is pinned: {host.fingerprint}")


def _unknown(host: Host) -> Iterator[Sign]:
    if host.unknown:
        yield Sign(host.name, f"no key of its own is pinned yet, so nothing reaches it; it shows {host.fingerprint}")


def _root(host: Host) -> Iterator[Sign]:
    if "root" in host.logins:
        yield Sign(host.name, "root is among its logins: nothing on the target holds what a rule lets pass")


CHECKS: tuple[Check[Host], ...] = (
    Check("ssh.unreachable", "medium", "A target could not be looked at, or shows none of the kinds of keys that are pinned for it.",
          "Mend what the message says, and ask again.", _unreachable),
    Check("ssh.host-key", "high", "A target shows another host key than is pinned: it was set up anew, or somebody stands in between.",
          "Compare with the host's own console; only then put the new key into known_hosts.", _another),
    Check("ssh.unpinned", "medium", "What is pinned for a target is the key that `init` wrote, which nobody has.",
          "Put the host's own key into known_hosts, taken on the host itself; compare its fingerprint.", _unknown),
    Check("ssh.root", "medium", "The login root is offered.", "Offer a login of its own, with sudo rules for what it needs.", _root),
)
"""What is looked at on an SSH target."""
TABLES: tuple[Sequence[Check[Any]], ...] = (CHECKS,)
"""For the reference page."""
