# SPDX-License-Identifier: Apache-2.0
"""What a session channel asks to run, understood: command, shell or subsystem with its environment. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from gateway.model import Operation
from gateway.protocols.ssh import understand
from gateway.protocols.ssh.understand import Understood

Kind = Literal["exec", "shell", "restricted-shell", "subsystem"]
WAIT = "LOCKGATE_WAIT"


@dataclass(frozen=True, slots=True)
class Program:
    """``argument`` is the command or the subsystem's name, ``None`` for a shell; ``text`` is what is recorded and approved."""

    kind: Kind
    argument: str | None
    understood: Understood
    text: str

    @property
    def sftp(self) -> bool:
        return self.kind == "subsystem" and self.argument == understand.SFTP


@dataclass(frozen=True, slots=True)
class Environment:
    """``given`` goes to the target, with the ``operations`` that allow it; ``dropped`` are the names of the others. ``wait``: for
    an approval, where one is needed."""

    given: Mapping[bytes, bytes]
    operations: tuple[Operation, ...]
    dropped: tuple[str, ...]
    wait: bool


def program(kind: Kind, argument: str | None, *, pty: bool) -> Program:
    """What is asked for."""
    if kind == "exec":
        return Program(kind, argument or "", understand.exec_request(argument or "", pty=pty), argument or "")
    if kind == "subsystem":
        return Program(kind, argument or "", understand.subsystem_request(argument or ""), f"subsystem {argument}")
    made = understand.restricted_request if kind == "restricted-shell" else understand.shell_request
    return Program(kind, None, made(pty=pty), kind)


def environment(asked: Mapping[bytes, bytes], understood: Understood, allowed: Callable[[tuple[Operation, ...]], bool]) -> Environment:
    """What of the variables asked for the program may have: ``allowed`` says so of their operations."""
    given: dict[bytes, bytes] = {}
    operations: list[Operation] = []
    dropped: list[str] = []
    wait = True
    for name, value in asked.items():
        word = name.decode("utf-8", "surrogateescape")
        if word == WAIT:
            wait = value != b"off"
            continue
        wanted = understand.env_request(word, value.decode("utf-8", "surrogateescape"), understood)
        if wanted and allowed(wanted):
            given[name] = value
            operations.extend(wanted)
        else:
            dropped.append(word)
    return Environment(given, tuple(operations), tuple(dropped), wait)
