# SPDX-License-Identifier: Apache-2.0
"""scp's own protocol (OpenSSH's scp.c, ``sink`` and ``source``), pure: lines, answers, and the path each file has.

A source sends ``T`` (times), ``C`` (a file: mode, size, name, then its bytes and a status), ``D`` (a directory begins) and ``E`` (it ends),
each a line; or an error, which begins with the byte 1, or 2 where it is the last. A sink answers each with the byte 0, or with an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.errors import ClientFault, Refused, TargetFault
from gateway.protocols.ssh.sftp.names import join, shown, text_of

Fault = type[ClientFault] | type[TargetFault]

MAX_LINE = 4096 + 64
DEEP = 128
"""Directories inside of directories."""
_FILE = re.compile(rb"([CD])(0?[0-7]{4}) ([0-9]{1,19}) (.+)")
_TIMES = re.compile(rb"T[0-9]{1,20} [0-9]{1,6} [0-9]{1,20} [0-9]{1,6}")


@dataclass(frozen=True, slots=True)
class Line:
    """``kind``: T, C, D, E, or ``!`` for an error, ``!!`` for one that is the last. ``raw`` is the line as it came, with its end."""

    kind: str
    raw: bytes
    mode: int = 0
    size: int = 0
    name: str = ""


def parse_line(raw: bytes, fault: Fault) -> Line:
    """A source's line. Raises the fault for what is none, ``Refused`` for a name that no file may have: empty, ``..``, with ``/``, control
    characters, not UTF-8."""
    body = raw[:-1]
    if raw[:1] in (b"\1", b"\2"):
        return Line("!" if raw[:1] == b"\1" else "!!", raw)
    if body == b"E":
        return Line("E", raw)
    if _TIMES.fullmatch(body):
        return Line("T", raw)
    found = _FILE.fullmatch(body)
    if found is None or not raw.endswith(b"\n"):
        raise fault("what came is not scp's protocol")
    name = text_of(found[4])
    if "/" in name or name == "..":
        raise Refused(f"scp names a file {shown(name)}: a name is no path")
    return Line(found[1].decode(), raw, int(found[2], 8), int(found[3]), name)


class ScpReader:
    """One side's bytes as lines, answers and data. Bounded: a line over ``MAX_LINE`` is the side's fault."""

    def __init__(self, fault: Fault) -> None:
        self._fault = fault
        self._data = b""

    def feed(self, data: bytes) -> None:
        self._data = self._data + data if self._data else data

    @property
    def pending(self) -> int:
        return len(self._data)

    def line(self) -> bytes | None:
        """The next line with its end, ``None`` when more bytes are needed."""
        end = self._data.find(b"\n", 0, MAX_LINE)
        if end < 0:
            if len(self._data) >= MAX_LINE:
                raise self._fault("a line of scp is longer than it may be")
            return None
        return self.take(end + 1)

    def answer(self) -> bytes | None:
        """A sink's answer, or the status behind a file: one byte 0, or an error's line."""
        first = self._data[:1]
        if first == b"\0":
            return self.take(1)
        if first and first not in (b"\1", b"\2"):
            raise self._fault("what came is not scp's protocol")
        return self.line() if first else None

    def take(self, count: int) -> bytes:
        """Up to ``count`` bytes."""
        data, self._data = self._data[:count], self._data[count:]
        return data


class Tree:
    """Where the files of a transfer are: a stack of directories under the path of the command."""

    def __init__(self, fault: Fault) -> None:
        self._fault = fault
        self._inside: list[str] = []

    @property
    def depth(self) -> int:
        return len(self._inside)

    def path(self, line: Line, top: str) -> str:
        """Of a file or directory: ``top`` is its path where it is not inside of another."""
        if not self._inside:
            return top
        if line.name == ".":
            raise self._fault("scp names a file inside of a directory '.'")
        return join(self._inside[-1], line.name)

    def enter(self, path: str) -> None:
        if len(self._inside) >= DEEP:
            raise self._fault("scp: directories too deep")
        self._inside.append(path)

    def leave(self) -> None:
        if not self._inside:
            raise self._fault("scp ends a directory that did not begin")
        self._inside.pop()


def error(text: str) -> bytes:
    """An error's line, not the last one."""
    return b"\1lockgate: " + shown(text).encode("utf-8", "replace")[:1000] + b"\n"
