# SPDX-License-Identifier: Apache-2.0
"""A raw protocol 3.0 client: sends exactly the messages it is told to, keeps exactly the bytes that come back."""

from __future__ import annotations

import hashlib
import socket
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from gateway.errors import TargetFault
from gateway.protocols.postgres import messages
from gateway.protocols.postgres.codec import FrameReader
from gateway.protocols.postgres.scram import ScramClient, derive

Frame = tuple[str, bytes]
LIMIT = 1 << 28


@dataclass(slots=True)
class Wire:
    """One connection after its login. ``seen`` keeps every message that came."""

    sock: socket.socket
    reader: FrameReader = field(default_factory=lambda: FrameReader(LIMIT, TargetFault))
    seen: list[Frame] = field(default_factory=list)
    key: tuple[int, bytes] = (0, b"")
    closed: bool = False

    @classmethod
    def connect(cls, port: int, user: str, password: str, database: str, *, ca: Path | None = None,
                parameters: Mapping[str, str] | None = None, timeout: float = 60.0) -> Wire:
        """Log in over TLS when ``ca`` is given. An error at the door is left in ``seen`` and closes the connection."""
        sock = socket.create_connection(("127.0.0.1", port), timeout)
        if ca is not None:
            sock.sendall(messages.SslRequest().encode())
            if sock.recv(1) != b"S":
                raise ConnectionError("no TLS")
            sock = ssl.create_default_context(cafile=str(ca)).wrap_socket(sock, server_hostname="127.0.0.1")
        wire = cls(sock)
        wire.send(messages.Startup({"user": user, "database": database, **(parameters or {})}))
        wire._login(user, password)
        return wire

    def _login(self, user: str, password: str) -> None:
        scram = ScramClient()
        while True:
            kind, payload = self.next()
            if kind in ("Z", "", "E"):
                self.closed = kind != "Z"
                if self.closed:
                    self.close()
                return
            if kind == "K":
                self.key = (int.from_bytes(payload[:4], "big"), payload[4:])
            if kind != "R":
                continue
            code = int.from_bytes(payload[:4], "big")
            if code == 3:
                self.send(messages.Password(password.encode() + b"\0"))
            elif code == 5:
                inner = hashlib.md5(password.encode() + user.encode(), usedforsecurity=False).hexdigest()
                outer = hashlib.md5(inner.encode() + payload[4:], usedforsecurity=False).hexdigest()
                self.send(messages.Password(b"md5" + outer.encode() + b"\0"))
            elif code == 10:
                first = scram.first()
                self.send(messages.Password(b"SCRAM-SHA-256\0" + len(first).to_bytes(4, "big") + first))
            elif code == 11:
                challenge = scram.challenge(payload[4:])
                self.send(messages.Password(scram.final(challenge, derive(password, challenge))))

    # sending and receiving

    def send(self, *parts: messages.Message | bytes) -> None:
        self.sock.sendall(b"".join(part if isinstance(part, bytes) else part.encode() for part in parts))

    def next(self) -> Frame:
        """The next message, ``("", b"")`` at the end of the connection."""
        while (found := self.reader.next()) is None:
            try:
                data = self.sock.recv(1 << 16)
            except (ConnectionError, ssl.SSLError):
                data = b""
            if not data:
                self.closed = True
                return "", b""
            self.reader.feed(data)
        frame = chr(found[0]), bytes(found[1])
        self.seen.append(frame)
        return frame

    def until(self, kinds: str = "Z") -> list[Frame]:
        """Messages up to one of ``kinds`` or the end."""
        found: list[Frame] = []
        while True:
            frame = self.next()
            if frame[0]:
                found.append(frame)
            if not frame[0] or frame[0] in kinds:
                return found

    def query(self, text: str) -> list[Frame]:
        """One simple query and everything it brings, with ReadyForQuery."""
        self.send(messages.Query(text))
        return self.until("Z")

    def run(self, *parts: messages.Message) -> list[Frame]:
        """Extended-protocol messages followed by Sync, and everything up to ReadyForQuery."""
        self.send(*parts, messages.Sync())
        return self.until("Z")

    def cancel(self, port: int, ca: Path | None = None) -> None:
        """A CancelRequest with this connection's key, on a connection of its own."""
        cancel(port, *self.key, ca=ca)

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def cancel(port: int, process: int, secret: bytes, *, ca: Path | None = None) -> None:
    """A CancelRequest; returns when the other side has closed."""
    sock = socket.create_connection(("127.0.0.1", port), 10)
    if ca is not None:
        sock.sendall(messages.SslRequest().encode())
        if sock.recv(1) == b"S":
            sock = ssl.create_default_context(cafile=str(ca)).wrap_socket(sock, server_hostname="127.0.0.1")
    sock.sendall(messages.CancelRequest(process, secret).encode())
    try:
        while sock.recv(100):
            pass
    except (ConnectionError, ssl.SSLError):
        pass
    sock.close()


def errors(frames: Iterable[Frame]) -> list[dict[str, str]]:
    """The fields of every ErrorResponse."""
    return [dict(messages.parse_error(payload).fields) for kind, payload in frames if kind == "E"]


def codes(frames: Iterable[Frame]) -> list[str]:
    """The SQLSTATE of every ErrorResponse."""
    return [fields["C"] for fields in errors(frames)]


def rows(frames: Iterable[Frame]) -> list[tuple[bytes | None, ...]]:
    """The values of every DataRow."""
    found: list[tuple[bytes | None, ...]] = []
    for kind, payload in frames:
        if kind == "D":
            row = messages.parse_backend(ord("D"), payload)
            if isinstance(row, messages.DataRow):
                found.append(row.values)
    return found


def texts(frames: Iterable[Frame]) -> list[tuple[str | None, ...]]:
    """The values of every DataRow in text format."""
    return [tuple(None if value is None else value.decode() for value in row) for row in rows(frames)]


def tags(frames: Iterable[Frame]) -> list[str]:
    """The tag of every CommandComplete."""
    return [payload.rstrip(b"\0").decode() for kind, payload in frames if kind == "C"]


def status(frames: Iterable[Frame]) -> str:
    """The transaction status of the last ReadyForQuery."""
    found = [payload.decode() for kind, payload in frames if kind == "Z"]
    return found[-1] if found else ""
