# SPDX-License-Identifier: Apache-2.0
"""The process that parses what is too long for the gateway's own: ``sandbox.py`` starts it, and another when it has died.

A text in is four bytes of length and UTF-8; an answer out is ``J`` (the parser's JSON) or ``E`` (``[code, message, position]`` as JSON),
four bytes of length, and that. The parser's recursion may overflow the stack, and its answer may be large: memory and time are
bounded by the kernel, and what goes over ends the process. Where AppArmor holds the gateway, this process is held to less.
"""

from __future__ import annotations

import errno
import json
import resource
import sys
from pathlib import Path
from typing import BinaryIO

from gateway.protocols.postgres.sql.parse import answer_of
from gateway.protocols.postgres.statement import SqlFault

MEMORY = 1 << 30
"""Bytes of address space."""
SECONDS = 5
"""CPU time of one text."""
MOST_TEXT = 1 << 20
MOST_ANSWER = 16 << 20
PROFILE = "lockgate//sandboxed"
"""Of the role ``gateway``, ``templates/etc/apparmor.d/lockgate.j2``: no network, no file but the program's."""


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    confine()
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    serve(sys.stdin.buffer, sys.stdout.buffer)


def confine(label: Path = Path("/proc/self/attr/apparmor/current")) -> None:
    """Put ``PROFILE`` on top of the gateway's, so that both hold: under no_new_privs a profile cannot be exchanged. Raises ``OSError``."""
    try:
        held = label.read_text().startswith("lockgate ")
    except OSError as wrong:
        if wrong.errno not in (errno.ENOENT, errno.EINVAL):     # what a kernel without AppArmor says
            raise
        return
    if held:
        label.write_text(f"stack {PROFILE}")


def serve(into: BinaryIO, out: BinaryIO) -> None:
    """Answer text after text, until there are no more."""
    while len(head := into.read(4)) == 4:
        size = int.from_bytes(head)
        if size > MOST_TEXT:
            return
        _give_time()
        kind, body = answered(into.read(size))
        out.write(kind + len(body).to_bytes(4) + body)
        out.flush()


def answered(data: bytes) -> tuple[bytes, bytes]:
    """What to answer to one text."""
    try:
        found = answer_of(data)
    except SqlFault as fault:
        return b"E", json.dumps([fault.code, str(fault), fault.position]).encode()
    if len(found) > MOST_ANSWER:
        return b"E", json.dumps(["54001", "the statement is too complex", 0]).encode()
    return b"J", found


def _give_time() -> None:
    """So many seconds from now; the kernel counts them from the start of the process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 1 + SECONDS, hard))


if __name__ == "__main__":
    main()
