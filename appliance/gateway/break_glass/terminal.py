# SPDX-License-Identifier: Apache-2.0
"""Terminals: which of them belong to the machine itself, and raw mode while a session has one."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase

from gateway.errors import Refused

Size = tuple[int, int]
DEFAULT_SIZE: Size = (24, 80)


def local_name(handle: int, patterns: Sequence[str]) -> str:
    """The terminal's name under /dev. Raises ``Refused`` for what is no terminal of this machine: a login over SSH has another one."""
    try:
        name = os.ttyname(handle).removeprefix("/dev/")
    except OSError:
        raise Refused("not a terminal") from None
    if not any(fnmatchcase(name, pattern) for pattern in patterns):
        raise Refused(f"{name} is not a terminal of this machine: break glass works on its own console only")
    return name


def reopened(handle: int, name: str) -> int:
    """An open file of one's own on the same terminal, which never blocks. Raises ``Refused`` or ``OSError``."""
    own = os.open(f"/dev/{name}", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    if os.fstat(own).st_rdev != os.fstat(handle).st_rdev:
        os.close(own)
        raise Refused("not the terminal it says it is")
    return own


def size_of(handle: int) -> Size:
    """Rows and columns; a serial line does not know and gets 24 by 80."""
    try:
        rows, columns, _, _ = struct.unpack("4H", fcntl.ioctl(handle, termios.TIOCGWINSZ, bytes(8)))
    except OSError:
        return DEFAULT_SIZE
    return (rows, columns) if rows and columns else DEFAULT_SIZE


def set_size(handle: int, size: Size) -> None:
    fcntl.ioctl(handle, termios.TIOCSWINSZ, struct.pack("4H", *size, 0, 0))


def hides(master: int) -> bool:
    """Whether a program asks for a password there: whole lines, not echoed."""
    try:
        flags = termios.tcgetattr(master)[3]
    except termios.error:
        return False
    return bool(flags & termios.ICANON) and not flags & termios.ECHO


@contextmanager
def raw(handle: int) -> Iterator[None]:
    """Every byte as it is typed, nothing echoed; afterwards as before."""
    before = termios.tcgetattr(handle)
    tty.setraw(handle, termios.TCSANOW)
    try:
        yield
    finally:
        with suppress(termios.error):
            termios.tcsetattr(handle, termios.TCSANOW, before)
