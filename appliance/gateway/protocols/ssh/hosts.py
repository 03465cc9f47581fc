# SPDX-License-Identifier: Apache-2.0
"""The gateway's own host keys as callers need them: lines of ``known_hosts`` (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT), and fingerprints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.audit.note import load_private_key
from gateway.config.load import Folder
from gateway.errors import ClientFault
from gateway.protocols.ssh import issuing
from gateway.protocols.ssh.authority import fingerprint, public_key

if TYPE_CHECKING:
    from gateway.protocols.ssh.settings import SshListener

PORT = 22


@dataclass(frozen=True, slots=True)
class HostKey:
    """``line`` is the type and the key in base64."""

    line: str
    fingerprint: str


def published(folder: Folder, settings: SshListener) -> tuple[HostKey, ...]:
    """The public halves of all host keys, in the order of the listener. Raises ``ConfigError``; blocks on the disk."""
    return tuple(_public(folder, name) for name in settings.host_keys)


def of_folder(folder: Folder) -> tuple[HostKey, ...]:
    """Those of the folder's SSH listener; none without one."""
    settings = issuing.listener(folder.gateway)
    return () if settings is None else published(folder, settings)


def _public(folder: Folder, name: str) -> HostKey:
    key = load_private_key(folder.resolve(name)).public_key()
    return HostKey(key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode(), fingerprint(key))


def host_key(line: str) -> HostKey:
    """A line that somebody else gave. Raises ``ValueError`` for what is no public key."""
    try:
        key = public_key(line)
    except ClientFault as wrong:
        raise ValueError(str(wrong)) from None
    return HostKey(" ".join(line.split()[:2]), fingerprint(key))


def known_hosts(names: Sequence[str], port: int, lines: Iterable[str]) -> Iterator[str]:
    """One line a key, for all names. OpenSSH looks a port other than 22 up as ``[NAME]:PORT``."""
    where = ",".join(name if port == PORT else f"[{name}]:{port}" for name in names)
    yield from (f"{where} {line}" for line in lines)
