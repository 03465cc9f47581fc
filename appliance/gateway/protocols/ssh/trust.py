# SPDX-License-Identifier: Apache-2.0
"""The files that SSH settings point at: private keys of the gateway, host certificates, known_hosts, authorities of targets.

Each check raises ``ValueError`` with what was expected; no message holds anything of the file.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hmac
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    SSHCertificate,
    SSHCertificateType,
    load_ssh_public_identity,
    load_ssh_public_key,
)

from gateway.audit.note import load_private_key
from gateway.config.fresh import audit_key, public_line
from gateway.config.keyfiles import check_audit_key, content

PLACEHOLDER = "lockgate-placeholder"
"""The comment of a key that nobody has: ``init`` writes it where a target's own is not known yet."""
_PARSING = (ValueError, TypeError, UnsupportedAlgorithm, binascii.Error)


@dataclass(frozen=True, slots=True)
class KnownKey:
    """One line of a known_hosts file (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT). ``marker`` is ``""``, ``@cert-authority`` or ``@revoked``."""

    marker: str
    hosts: str
    key: str
    comment: str


def check_private_key(path: Path) -> None:
    """An OpenSSH Ed25519 private key without passphrase."""
    check_audit_key(path)


def public_half(path: Path) -> bytes:
    """Of a private key as above, on one line."""
    check_audit_key(path)
    return load_private_key(path).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)


def check_host_certificate(path: Path, keys: Collection[bytes] | None = None) -> None:
    """One OpenSSH host certificate; for one of these ``keys``, where they are known."""
    try:
        found = load_ssh_public_identity(_lines(path)[0].encode())
    except (*_PARSING, IndexError):
        raise ValueError(f"expected an OpenSSH host certificate in {path}") from None
    if not isinstance(found, SSHCertificate) or found.type != SSHCertificateType.HOST:
        raise ValueError(f"expected an OpenSSH host certificate in {path}")
    key = found.public_key()
    if keys is not None and key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) not in keys:
        raise ValueError(f"expected a host certificate for one of `host_keys` in {path}; it is for another key")


def check_authorities(path: Path) -> None:
    """Public keys, one a line."""
    lines = [line for line in _text(path).splitlines() if line.strip()]
    if not lines or not all(map(_is_key, lines)):
        raise ValueError(f"expected public keys of authorities (OpenSSH, one a line) in {path}")


def check_known_hosts(path: Path, host: str, port: int) -> None:
    """At least one key, or authority, for that address; every line can be read."""
    if not any(known.marker != "@revoked" and names(known.hosts, host, port) for known in known_keys(path)):
        shown = f"[{host}]:{port}" if port != 22 else host
        wanted = f"add what `ssh-keyscan -p {port} {host}` prints, compared with the host's own"
        raise ValueError(f"expected a key of {shown} in {path}: {wanted}")


def is_placeholder(path: Path, host: str, port: int) -> bool:
    """Whether all that is known of that address is a key that nobody has."""
    found = [known for known in known_keys(path) if names(known.hosts, host, port)]
    return bool(found) and all(known.comment == PLACEHOLDER for known in found)


def known_keys(path: Path) -> list[KnownKey]:
    """Every line. Raises ``ValueError`` on one that cannot be read: it might be the one that revokes a key."""
    found = [_known(line) for line in _lines(path)]
    if not all(found):
        number = next(number for number, known in enumerate(found, 1) if known is None)
        raise ValueError(f"expected lines of a known_hosts file in {path}; line {number} (without empty ones and comments) is none")
    return [known for known in found if known is not None]


def _known(line: str) -> KnownKey | None:
    fields = line.split(None, 1)
    marker = fields[0] if fields[0].startswith("@") else ""
    if marker not in ("", "@cert-authority", "@revoked"):
        return None
    parts = (fields[1] if marker and len(fields) > 1 else line).split(None, 3)
    if len(parts) < 3 or not _is_key(" ".join(parts[1:3])):
        return None
    return KnownKey(marker, parts[0], " ".join(parts[1:3]), parts[3].strip() if len(parts) > 3 else "")


def names(hosts: str, host: str, port: int) -> bool:
    """Whether the hosts of a line name an address: patterns with ``*``, ``?`` and ``!``, or a hash (``|1|SALT|HASH``)."""
    wanted = f"[{host}]:{port}" if port != 22 else host
    if hosts.startswith("|1|"):
        return _hashed(hosts, wanted)
    matched = False
    for pattern in hosts.lower().split(","):
        refused = pattern.startswith("!")
        escaped = pattern.removeprefix("!").replace("[", "[[]")
        if fnmatch.fnmatchcase(wanted.lower(), escaped):
            if refused:
                return False
            matched = True
    return matched


def _hashed(hosts: str, wanted: str) -> bool:
    try:
        salt, digest = (base64.b64decode(part, validate=True) for part in hosts.split("|")[2:4])
    except ValueError:
        return False
    return hmac.compare_digest(hmac.digest(salt, wanted.encode(), "sha1"), digest)


def _is_key(line: str) -> bool:
    try:
        load_ssh_public_key(line.encode())
    except _PARSING:
        return False
    return True


def _text(path: Path) -> str:
    try:
        return content(path).decode()
    except UnicodeDecodeError:
        raise ValueError(f"expected text in {path}") from None


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in _text(path).splitlines() if line.strip() and not line.lstrip().startswith("#")]


# --- what `init` makes ---


def placeholder(places: Iterable[tuple[str, int]]) -> str:
    """A known_hosts file for targets whose keys are not known yet."""
    lines = ["# Nobody has the private halves of these keys, so no host can prove to be one of these. Put the hosts' own keys here:",
             "# ssh-keyscan -p PORT HOST, compared with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the host."]
    for host, port in places:
        lines.append(f"{f'[{host}]:{port}' if port != 22 else host} {public_line(audit_key(), PLACEHOLDER).strip()}")
    return "\n".join(lines) + "\n"
