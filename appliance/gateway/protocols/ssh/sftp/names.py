# SPDX-License-Identifier: Apache-2.0
"""Paths as SFTP, scp and rsync give them: bytes to text that can be decided, and lexical normal form (``.``, ``..`` and ``//`` removed)."""

from __future__ import annotations

from gateway.errors import Refused
from gateway.protocols.ssh.paths import normal
from gateway.protocols.ssh.sftp.codec import MAX_PATH


def text_of(raw: bytes) -> str:
    """A path as text. Raises ``Refused`` for what no rule could be compared with: no UTF-8, control characters, too long."""
    try:
        path = raw.decode()
    except UnicodeDecodeError:
        raise Refused("a path that is not UTF-8 cannot be decided") from None
    if len(raw) > MAX_PATH:
        raise Refused("a path this long cannot be decided")
    if any(not (character.isprintable() or character == " ") for character in path):
        raise Refused(f"a path with control characters cannot be decided: {shown(path)}")
    return path


def shown(path: str) -> str:
    """Fit for a message or a record whatever it holds."""
    return ascii(path)[1:-1][:200] if not path.isprintable() else path


def absolute(path: str, base: str) -> str:
    """``path`` as seen from the directory ``base``, in normal form. Links are not looked at."""
    return normal(path if path.startswith("/") else f"{base}/{path}")


def split(path: str) -> tuple[str, str]:
    """Directory and name of a path in normal form; ``/`` has no name."""
    parent, _, name = path.rpartition("/")
    return parent or "/", name


def join(parent: str, name: str) -> str:
    return f"{parent.rstrip('/')}/{name}" if name else parent
