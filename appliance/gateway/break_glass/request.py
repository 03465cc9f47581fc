# SPDX-License-Identifier: Apache-2.0
"""What a person asks for, and how it reaches the recorder: one JSON object and the terminal itself (SCM_RIGHTS) over a UNIX socket."""

from __future__ import annotations

import json
import re
import socket
import struct
import unicodedata
from dataclasses import asdict, dataclass
from typing import Any

from gateway.errors import Refused

SOCKET = "/run/lockgate-break-glass.sock"
LARGEST = 4096
_TERM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,31}")
_PERSON, _REASON = (2, 80), (4, 400)


@dataclass(frozen=True, slots=True)
class Request:
    """``person`` is claimed, not proved; ``term`` is the terminal's kind (``TERM``)."""

    person: str
    reason: str
    term: str = "linux"


def stated(what: str, text: str) -> str:
    """A name or a reason without what could mislead a reader. Raises ``Refused``."""
    least, most = _PERSON if what == "name" else _REASON
    clean = unicodedata.normalize("NFC", text).strip()
    if not clean.isprintable():
        raise Refused(f"the {what} holds characters that cannot be shown")
    if not least <= len(clean) <= most:
        raise Refused(f"the {what} needs {least} to {most} characters")
    return clean


def parse_request(data: bytes) -> Request:
    """Raises ``Refused``."""
    try:
        asked: Any = json.loads(data)
    except (ValueError, RecursionError):
        raise Refused("not a request") from None
    if not isinstance(asked, dict) or set(asked) != {"person", "reason", "term"} or not all(isinstance(one, str) for one in asked.values()):
        raise Refused("not a request")
    term = asked["term"] if _TERM.fullmatch(asked["term"]) else "linux"
    return Request(stated("name", asked["person"]), stated("reason", asked["reason"]), term)


def send_request(connection: socket.socket, request: Request, terminal: int) -> None:
    socket.send_fds(connection, [json.dumps(asdict(request)).encode() + b"\n"], [terminal])


def receive_request(connection: socket.socket) -> tuple[bytes, int]:
    """The request's line and the terminal. Raises ``Refused`` or ``OSError`` (also when nothing comes in time)."""
    data, handles, _, _ = socket.recv_fds(connection, LARGEST, 4)
    if not data.endswith(b"\n") or len(handles) != 1:
        for handle in handles:
            socket.close(handle)
        raise Refused("not a request")
    return data, handles[0]


def peer_user(connection: socket.socket) -> int:
    """The user id of whoever is on the other side (SO_PEERCRED)."""
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", found)[1])


def send_answer(connection: socket.socket, **said: object) -> None:
    connection.sendall(json.dumps(said).encode() + b"\n")


def receive_answer(connection: socket.socket) -> dict[str, Any]:
    """Empty where the recorder went away without one. Raises ``OSError``."""
    data = b""
    while not data.endswith(b"\n") and len(data) < LARGEST:
        more = connection.recv(LARGEST)
        if not more:
            return {}
        data += more
    found = json.loads(data)
    return found if isinstance(found, dict) else {}
