# SPDX-License-Identifier: Apache-2.0
"""C2SP signed notes with Ed25519 keys: a text, an empty line, then signature lines ``— NAME base64(key hash ‖ signature)``.

The key hash is the first four bytes of ``SHA-256(NAME ‖ "\\n" ‖ 0x01 ‖ public key)``; what is signed is the text with its last newline.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from gateway.errors import ConfigError

_DASH = "— "
_MAX_NOTE = 64 * 1024


class NoteError(ValueError):
    """Not a signed note, or not one we can read. The message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line. ``hash`` tells apart keys of the same name."""

    name: str
    hash: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """``text`` ends with a newline and is what the signatures cover."""

    text: str
    signatures: tuple[Signature, ...]


def key_hash(name: str, public: bytes) -> bytes:
    return sha256(name.encode() + b"\n\x01" + public).digest()[:4]


def raw_public(key: Ed25519PublicKey) -> bytes:
    """The 32 bytes of a public key."""
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def fingerprint(public: bytes) -> str:
    """How OpenSSH prints it (``ssh-keygen -l``): ``SHA256:`` and the unpadded base64 of the hash of the key blob."""
    blob = b"\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x20" + public
    return "SHA256:" + base64.b64encode(sha256(blob).digest()).decode().rstrip("=")


def signature_line(text: str, name: str, key: Ed25519PrivateKey) -> str:
    """The line that ``key`` adds under ``text``."""
    signed = key_hash(name, raw_public(key.public_key())) + key.sign(text.encode())
    return f"{_DASH}{name} {base64.b64encode(signed).decode()}\n"


def verified(note: Note, name: str, public: bytes) -> bool:
    """Whether the note carries a good signature of that name by that key."""
    wanted = key_hash(name, public)
    key = Ed25519PublicKey.from_public_bytes(public)
    return any(_good(key, found, note.text) for found in note.signatures if found.name == name and found.hash == wanted)


def _good(key: Ed25519PublicKey, found: Signature, text: str) -> bool:
    try:
        key.verify(found.signature, text.encode())
    except InvalidSignature:
        return False
    return True


def parse_note(data: str) -> Note:
    """Read one note. Raises ``NoteError``."""
    if len(data) > _MAX_NOTE:
        raise NoteError("too long for a signed note")
    text, blank, rest = data.rpartition("\n\n")
    if not blank or not rest.endswith("\n"):
        raise NoteError("no empty line before the signatures")
    lines = rest[:-1].split("\n")
    return Note(text + "\n", tuple(_signature(line) for line in lines))


def _signature(line: str) -> Signature:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    try:
        signed = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        signed = b""
    if not line.startswith(_DASH) or not name or len(signed) < 5:
        raise NoteError("a signature line cannot be read")
    return Signature(name, signed[:4], signed[4:])


def parse_notes(data: str) -> list[Note]:
    """Read a file of one or more notes. Raises ``NoteError``."""
    notes: list[Note] = []
    current: list[str] = []
    signed = False
    for line in data.replace("\r\n", "\n").split("\n"):
        if signed and not line.startswith(_DASH):
            notes.append(parse_note("\n".join(current) + "\n"))
            current, signed = [], False
        if line or current:
            current.append(line)
        signed = signed or line.startswith(_DASH)
    if current:
        notes.append(parse_note("\n".join(current).rstrip("\n") + "\n"))
    if not notes:
        raise NoteError("no signed note in it")
    return notes


def load_private_key(path: Path) -> Ed25519PrivateKey:
    """An unencrypted OpenSSH Ed25519 private key file. Raises ``ConfigError``."""
    try:
        key = serialization.load_ssh_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not an unencrypted OpenSSH private key"
        raise ConfigError(f"{path}: {reason}; expected an OpenSSH Ed25519 private key") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path}: another kind of key; expected an OpenSSH Ed25519 private key")
    return key


def load_public_key(path: Path) -> bytes:
    """The 32 bytes of an Ed25519 public key: an OpenSSH ``.pub`` line, a PEM, a C2SP verifier key, or a private key's own.

    Raises ``ConfigError``.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {os.strerror(error.errno or 0)}; expected an Ed25519 public key") from None
    for reader in (_openssh, _pem, _verifier_key):
        if found := reader(data):
            return found
    return raw_public(load_private_key(path).public_key())


def load_public_keys(path: Path) -> tuple[bytes, ...]:
    """As ``load_public_key``, and a file of several OpenSSH lines gives them all. Raises ``ConfigError``."""
    first = load_public_key(path)
    lines = [line for line in path.read_bytes().splitlines() if line.strip() and not line.startswith(b"#")]
    found = [_openssh(line) for line in lines]
    if len(found) < 2 or found[0] is None:
        return (first,)
    if None in found:
        raise ConfigError(f"{path}: line {found.index(None) + 1}: expected an Ed25519 public key")
    return tuple(key for key in found if key is not None)


def _openssh(data: bytes) -> bytes | None:
    return _public(lambda: serialization.load_ssh_public_key(data.strip()))


def _pem(data: bytes) -> bytes | None:
    return _public(lambda: serialization.load_pem_public_key(data))


def _public(load: Callable[[], object]) -> bytes | None:
    try:
        key = load()
    except Exception:  # cryptography raises many kinds for text that is another format
        return None
    return raw_public(key) if isinstance(key, Ed25519PublicKey) else None


def _verifier_key(data: bytes) -> bytes | None:
    try:
        name, hashed, encoded = data.decode("ascii").strip().split("+", 2)
        key = base64.b64decode(encoded, validate=True)
    except ValueError:
        return None
    return key[1:] if len(key) == 33 and key[0] == 1 and key_hash(name, key[1:]).hex() == hashed else None
