# SPDX-License-Identifier: Apache-2.0
"""What a caller's request would do, as operations. Pure: nothing here knows the target.

A relative path of scp or rsync is relative to the login's home, which only the target knows: its operation has the path ``""`` here, which
no rule with ``paths`` allows, and the data path asks again with ``file_request`` once it knows more.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from gateway.model import Operation, Value
from gateway.protocols.ssh.hostnames import canonical
from gateway.protocols.ssh.operations import FILES, free_variable
from gateway.protocols.ssh.paths import arguments, normal
from gateway.protocols.ssh.transfers import FileAccess, NotServed, Transfer, transfer
from gateway.protocols.ssh.words import split

LONGEST = 65536
"""Characters of a command's text."""
SFTP = "sftp"
Forward = Literal["forward-local", "forward-remote", "forward-socket", "agent", "x11"]
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
_LOCALE = re.compile(r"[A-Za-z0-9_.@=;-]{0,255}")
_ZONE = re.compile(r"(?!:?/):?[A-Za-z0-9_+:,./<>-]{0,255}")

__all__ = ["LONGEST", "FileAccess", "Understood", "env_request", "exec_request", "file_request", "forward_request", "rename_request",
           "restricted_request", "shell_request", "subsystem_request", "symlink_request"]


@dataclass(frozen=True, slots=True)
class Understood:
    """``operations`` have all to be allowed; there is at least one. ``files``: scp or rsync, and the data path lets only that protocol
    through. ``refusal``: it cannot run, whatever rules say."""

    operations: tuple[Operation, ...]
    files: FileAccess | None = None
    refusal: str = ""


def _operation(verb: str, objects: tuple[str, ...] = (), **attributes: Value) -> Operation:
    return Operation("ssh", verb, tuple(map(_readable, objects)), attributes)


def _readable(text: str) -> str:
    """For records: bytes of a name that are no UTF-8 (PEP 383) as ``\\udc80``."""
    return text.encode("utf-8", "backslashreplace").decode()


# --- commands ---


def exec_request(text: str, *, pty: bool) -> Understood:
    """A command. ``text`` is all of it, decoded as UTF-8 with ``surrogateescape``."""
    if refusal := _impossible(text):
        return Understood((_unclear(_readable(text), refusal, pty),), refusal=refusal)
    line = split(text)
    if line.complex:
        return Understood((_unclear(text, line.complex, pty),))
    if len(line.commands) == 1:
        try:
            found = transfer(line.commands[0])
        except NotServed as why:
            return Understood((_simple(line.commands[0], text, pty),), refusal=str(why))
        if found is not None:
            return Understood(tuple(_of_transfer(found)), found.access)
    return Understood(tuple(_simple(words, text, pty) for words in dict.fromkeys(line.commands)))


def _unclear(text: str, why: str, pty: bool) -> Operation:
    return _operation("exec", (f"a text with {why}",), words=(), text=text, complex=why, pty=pty)


def _impossible(text: str) -> str:
    if len(text) > LONGEST:
        return f"a command has at most {LONGEST} characters"
    if "\0" in text:
        return "a command with a NUL"
    return "a command that is not UTF-8" if any("\ud800" <= one <= "\udfff" for one in text) else ""


def _simple(words: tuple[str, ...], text: str, pty: bool) -> Operation:
    return _operation("exec", (words[0],), words=arguments(words), text=text, complex="", pty=pty)


def shell_request(*, pty: bool) -> Understood:
    """An interactive shell."""
    return Understood((_operation("shell", pty=pty),))


def restricted_request(*, pty: bool) -> Understood:
    """A shell of the gateway, which asks ``exec_request`` for each line."""
    return Understood((_operation("restricted-shell", pty=pty),))


def subsystem_request(name: str) -> Understood:
    """``sftp`` needs no rule of its own: each of its requests does."""
    refusal = "" if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}", name) else "expected the name of a subsystem"
    free: dict[str, Value] = {"free": True} if name == SFTP else {}
    return Understood((_operation("subsystem", (name,), words=(name,), name=_readable(name), complex="", **free),), refusal=refusal)


def env_request(name: str, value: str, program: Understood) -> tuple[Operation, ...]:
    """A variable for a program: one operation for each of the program's, with its words and text. ``LANG``, ``LC_*`` and ``TZ`` need no
    rule where their value is a locale or a zone and nothing else. A name that is none, or has a value
    that is not UTF-8, is ``""``, which nothing allows."""
    sound = _NAME.fullmatch(name) is not None and "\0" not in value and not _impossible(value)
    free = sound and free_variable(name) and ".." not in value and (_ZONE if name == "TZ" else _LOCALE).fullmatch(value) is not None
    kept = ("words", "text", "complex", "pty")
    made = []
    for one in program.operations:
        attributes: dict[str, Value] = {key: one.attributes[key] for key in kept if key in one.attributes}
        attributes |= {"name": name if sound else "", "program": "exec" if one.verb in FILES else one.verb}
        attributes |= {"free": True} if free else {}
        made.append(_operation("env", (name,), **attributes))
    return tuple(made)


# --- files ---


def _of_transfer(found: Transfer) -> list[Operation]:
    made = [_file(verb, path, tree=found.tree) for path in found.access.paths for verb in found.verbs]
    return list({(one.verb, one.objects): one for one in made}.values())


def _file(verb: str, path: str, *, tree: bool = False) -> Operation:
    known = normal(path)
    attributes: dict[str, Value] = {"path": known} | ({"tree": True} if tree else {})
    return _operation(verb, (known or path,), **attributes)


def file_request(verb: str, path: str, *, resolved: str = "") -> tuple[Operation, ...]:
    """One file action. ``path`` as the caller gave it, absolute; ``resolved``: where its links lead, if that is known. Where the two differ
    both are operations."""
    first = _file(verb, path)
    if not resolved or normal(resolved) == first.attributes["path"]:
        return (first,)
    return first, _file(verb, resolved)


def rename_request(old: str, new: str) -> tuple[Operation, ...]:
    """Both names."""
    return *file_request("rename", old), *file_request("rename", new)


def symlink_request(link: str, target: str) -> tuple[Operation, ...]:
    """The link, and reading and writing what it leads to; a ``target`` that is relative leads from the link's folder."""
    leads_to = target if target.startswith("/") else f"{normal(link).rpartition('/')[0]}/{target}"
    return *file_request("symlink", link), *file_request("read", leads_to), *file_request("write", leads_to)


# --- forwards ---


def forward_request(kind: Forward, to: str, ssh: Collection[int] = (22,)) -> Understood:
    """``to``: ``host:port`` (IPv6 in brackets or not) or ``unix:/path``; empty for ``agent`` and ``x11``. A port
    out of ``ssh`` is marked ``nested``: SSH inside of SSH is not seen."""
    if kind in ("agent", "x11"):
        return Understood((_operation(kind),))
    try:
        known = _socket(to) if kind == "forward-socket" else _place(to, listening=kind == "forward-remote")
    except ValueError as wrong:
        return Understood((_operation(kind, (to,), to=""),), refusal=str(wrong))
    nested: dict[str, Value] = {"nested": True} if kind == "forward-local" and int(known.rpartition(":")[2]) in ssh else {}
    return Understood((_operation(kind, (known,), to=known, **nested),))


def _socket(to: str) -> str:
    path = normal(to.removeprefix("unix:"))
    if not to.startswith("unix:/") or path == "/":
        raise ValueError("expected unix: and the absolute path of a socket")
    return f"unix:{path}"


def _place(to: str, *, listening: bool) -> str:
    host, colon, port = to.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not (0 if listening else 1) <= int(port[:6]) <= 65535:
        raise ValueError("expected the host and the port to forward to")
    return f"{canonical(host, listening=listening)}:{int(port)}"
