# SPDX-License-Identifier: Apache-2.0
"""Which certificate a caller gets for a token: over its own key, for the resources that it may enter now. Only ``authority`` does I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.audit.note import load_private_key
from gateway.config.load import Folder
from gateway.config.schema import GatewayConfig, Resource
from gateway.errors import ConfigError, Refused
from gateway.identity.match import peer_address
from gateway.model import Identity
from gateway.protocols.ssh.authority import PRINCIPALS, Minted, PublicKey, mint, names

if TYPE_CHECKING:
    from gateway.protocols.ssh.settings import SshListener, SshResource


class Policy(Protocol):
    """The part of ``policy.Policy`` used here."""

    @property
    def resources(self) -> Mapping[str, Resource]: ...
    def may_enter(self, identity: Identity, resource: str, now: float) -> str | None: ...


def listener(settings: GatewayConfig) -> SshListener | None:
    """The SSH listener, if there is one."""
    return cast("SshListener | None", settings.listeners.get("ssh"))


def authority(folder: Folder, settings: SshListener) -> Ed25519PrivateKey:
    """The user CA's key, as its file says now. Raises ``ConfigError``; blocks on the disk."""
    if settings.user_ca is None:
        raise ConfigError("listeners.ssh.user_ca: expected an OpenSSH Ed25519 private key")
    return load_private_key(folder.resolve(settings.user_ca))


def principals(policy: Policy, identity: Identity, asked: Sequence[str], now: float) -> tuple[str, ...]:
    """The user names for the resources asked for, or for all that this identity may enter now. Raises ``Refused``."""
    known = {name: cast("SshResource", one) for name, one in policy.resources.items() if one.protocol == "ssh"}
    for name in asked:
        if no := policy.may_enter(identity, name, now):
            raise Refused(no, hint=f"lockgate access --identity {identity.name}")
        if name not in known:
            raise Refused(f"{name[:64]!r} is not reached over SSH")
    wanted = asked or [name for name in known if policy.may_enter(identity, name, now) is None]
    found = tuple(dict.fromkeys(user for name in wanted for user in names(name, known[name].logins)))
    if not found:
        raise Refused(f"{identity.name} has no grant for a resource of SSH", hint=f"lockgate access --identity {identity.name}")
    if len(found) > PRINCIPALS:
        raise Refused(f"{identity.name} may enter more than one certificate can name ({len(found)} user names of {PRINCIPALS}): "
                      "name the resources")
    return found


def issue(policy: Policy, settings: SshListener, ca: Ed25519PrivateKey, identity: Identity, key: PublicKey, asked: Sequence[str],
          now: float, source: str | None = None) -> Minted:
    """A certificate, good from ``source`` (a peer's address) alone where that is given. Raises ``Refused``."""
    try:
        address = None if source is None else str(peer_address(source))
    except ValueError:
        raise Refused("there is no address that the certificate could be bound to") from None
    return mint(ca, identity, key, principals(policy, identity, asked, now), now, settings.certificate_lifetime, address)
