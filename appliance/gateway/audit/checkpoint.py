# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: what a note says of the tree, and the chain of one-time keys that signs them beside the gateway's own key.

A checkpoint's text is the C2SP one (origin, size, root) with three extension lines: ``time``, ``reset`` (only where a chain of
one-time keys begins: its first public key) and ``next`` (the public key that will sign the next checkpoint). It is signed under the
name ORIGIN by the gateway's key and under ORIGIN/once by the one-time key, whose private half is dropped once the checkpoint is
committed. Who steals the gateway's key later cannot sign the past anew without a visible ``reset``.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.audit.note import Note, NoteError, raw_public, signature_line
from gateway.audit.tree import Tree

ONCE = "/once"
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The tree of ``origin``'s first ``size`` records has this ``root``. ``reset`` and ``next`` are raw public keys."""

    origin: str
    size: int
    root: bytes
    time: str
    next: bytes
    reset: bytes | None = None

    def text(self) -> str:
        lines = [self.origin, str(self.size), _encode(self.root), f"time {self.time}"]
        if self.reset is not None:
            lines.append(f"reset {_encode(self.reset)}")
        return "\n".join([*lines, f"next {_encode(self.next)}", ""])


def parse_checkpoint(note: Note) -> Checkpoint:
    """Read the text of a note. Raises ``NoteError``: nothing but what ``Checkpoint.text`` writes is taken."""
    lines = note.text.split("\n")
    if len(lines) not in (6, 7) or lines[-1]:
        raise NoteError("not the lines of a checkpoint")
    origin, size, root, time = lines[:4]
    if not origin or not re.fullmatch(r"0|[1-9]\d{0,18}", size):
        raise NoteError("no origin and size of a checkpoint")
    if not time.startswith("time ") or not _TIME.fullmatch(time[5:]):
        raise NoteError("no time in the checkpoint")
    reset = _key(lines[4], "reset ") if len(lines) == 7 else None
    return Checkpoint(origin, int(size), _decode(root), time[5:], _key(lines[-2], "next "), reset)


def _key(line: str, label: str) -> bytes:
    if not line.startswith(label):
        raise NoteError(f"no {label.strip()} key in the checkpoint")
    return _decode(line[len(label):])


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decode(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if len(data) != 32:
        raise NoteError("a hash or key of the checkpoint is not 32 bytes")
    return data


class Signer:
    """Signs checkpoints with the gateway's key and a chain of one-time keys that begins anew with each ``Signer``."""

    def __init__(self, origin: str, key: Ed25519PrivateKey) -> None:
        self.origin = origin
        self._key = key
        self._once = Ed25519PrivateKey.generate()
        self._next = Ed25519PrivateKey.generate()
        self._begun = False

    def sign(self, tree: Tree, time: str) -> str:
        """The signed note over ``tree``. May be asked again with another tree until ``committed()``."""
        reset = None if self._begun else raw_public(self._once.public_key())
        text = Checkpoint(self.origin, tree.size, tree.root(), time, raw_public(self._next.public_key()), reset).text()
        own = signature_line(text, self.origin, self._key)
        return f"{text}\n{own}{signature_line(text, self.origin + ONCE, self._once)}"

    def committed(self) -> None:
        """The last note is on disk: drop the key that signed it."""
        self._once, self._next, self._begun = self._next, Ed25519PrivateKey.generate(), True
