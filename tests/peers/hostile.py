# SPDX-License-Identifier: Apache-2.0
"""A target that turns on the gateway. It passes everything to a real server until it is told to misbehave, by name:

* at login, by the session's application_name ``evil-NAME`` (``LOGIN``);
* in answer to a statement that holds the comment ``/* evil NAME */`` (``ANSWERS``);
* before TLS, as ``before_tls`` says, on a resource that asks for it.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType

from gateway.protocols.postgres import messages
from gateway.protocols.postgres.codec import FrameReader, frame
from gateway.protocols.postgres.messages import (
    CommandComplete,
    DataRow,
    ErrorResponse,
    Field,
    ParameterStatus,
    ReadyForQuery,
    RowDescription,
)

_MARK = re.compile(rb"/\* evil ([a-z0-9_]+) \*/")
_LIMIT = 1 << 28
_V3 = messages.PROTOCOL_3_0

READY = ReadyForQuery("I").encode()
DESCRIBED = RowDescription((Field("id", type_oid=23), Field("ssn"))).encode()
DONE = CommandComplete("SELECT 1").encode() + READY


def _flood(make: Callable[[int], bytes]) -> Callable[[], Iterator[bytes]]:
    def endless() -> Iterator[bytes]:
        number = 0
        while True:
            yield b"".join(make(number + step) for step in range(200))
            number += 200
    return endless


def _once(*parts: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: iter(parts)


_NOTICE = messages.notice("x" * 1000).encode()

ANSWERS: Mapping[str, Callable[[], Iterator[bytes]]] = {
    "length_0": _once(b"D\0\0\0\0"),
    "length_3": _once(b"C\0\0\0\3"),
    "length_huge": _once(b"D\x7f\xff\xff\xff"),
    "length_huge_notice": _once(b"N\x7f\xff\xff\xff"),
    "length_negative": _once(b"T\x80\0\0\0"),
    "length_minus_one": _once(b"D\xff\xff\xff\xff"),
    "field_minus_two": _once(DESCRIBED, frame(b"D", b"\0\2\0\0\0\x011\xff\xff\xff\xfe"), DONE),
    "field_too_long": _once(DESCRIBED, frame(b"D", b"\0\2\0\0\0\x011\0\1\0\0abc"), DONE),
    "too_few_fields": _once(DESCRIBED, DataRow((b"1",)).encode(), DONE),
    "row_first": _once(DataRow((b"1", b"078-05-1120")).encode(), DONE),
    "unknown_kind": _once(b"y\0\0\0\4"),
    "ready_twice": _once(DESCRIBED, DONE, READY),
    "row_behind_ready": _once(DESCRIBED, DONE, DataRow((b"1", b"078-05-1120")).encode()),
    "bad_status": _once(DESCRIBED, CommandComplete("SELECT 0").encode(), b"Z\0\0\0\5X"),
    "no_sqlstate": _once(frame(b"E", b"SERROR\0Mbroken\0\0")),
    "strange_sqlstate": _once(frame(b"E", b"SERROR\0C\x1b[31m\0Mbroken\0\0")),
    "columns_1665": _once(RowDescription(tuple(Field(f"c{n}") for n in range(1665))).encode()),
    "columns_65535": _once(b"T\0\0\0\x06\xff\xff"),
    "other_columns": _once(RowDescription((Field("id", type_oid=23),)).encode(), DataRow((b"1",)).encode(), DONE),
    "described_twice": _once(DESCRIBED, DESCRIBED, DONE),
    "copy_both": _once(b"W\0\0\0\7\0\0\0"),
    "copy_unasked": _once(b"H\0\0\0\x0b\0\0\2\0\0\0\0", messages.CopyData(b"1\t078-05-1120\n").encode()),
    "authentication_again": _once(messages.Authentication(3).encode()),
    "key_again": _once(messages.BackendKeyData(1, b"1234").encode()),
    "not_utf8": _once(frame(b"E", b"SERROR\0C22012\0M\xff\xfe\0\0")),
    "setting_changed": _once(ParameterStatus("standard_conforming_strings", "off").encode(), DESCRIBED, DONE),
    "setting_escape": _once(ParameterStatus("a\x1b[31m", "x").encode(), DESCRIBED, DONE),
    "settings_without_end": _flood(lambda number: ParameterStatus(f"setting_{number}", "x" * 100).encode()),
    "notices_without_end": _flood(lambda number: _NOTICE),
    "closes": _once(),
}

LOGIN: Mapping[str, Callable[[], Iterator[bytes]]] = {
    "cleartext": _once(messages.Authentication(3).encode()),
    "kerberos": _once(messages.Authentication(7).encode()),
    "plus_only": _once(messages.Authentication(10, b"SCRAM-SHA-256-PLUS\0\0").encode()),
    "no_mechanism": _once(messages.Authentication(10, b"SCRAM-SHA-256").encode()),
    "md5_salt": _once(messages.Authentication(5, b"123").encode()),
    "ready_first": _once(READY),
    "length_0": _once(b"R\0\0\0\0"),
    "length_huge": _once(b"R\x7f\xff\xff\xff"),
    "no_sqlstate": _once(frame(b"E", b"SFATAL\0Mpassword is s3cret\0\0")),
    "expired": _once(ErrorResponse({"S": "FATAL", "V": "FATAL", "C": "28P01", "M": 'password authentication failed for "app"'}).encode()),
    "settings_without_end": lambda: _flood(lambda number: ParameterStatus(f"s{number}", "x").encode())(),
    "notices_without_end": _flood(lambda number: _NOTICE),
    "closes": _once(),
    "negotiates_up": _once(messages.NegotiateProtocolVersion(_V3 + 3).encode(), messages.Authentication(0).encode(), READY),
    "negotiates_nothing": _once(messages.NegotiateProtocolVersion(_V3 + 2).encode(), messages.Authentication(0).encode(), READY),
    "negotiates_options": _once(messages.NegotiateProtocolVersion(_V3, ("_pq_.x",)).encode(), messages.Authentication(0).encode(), READY),
    "negotiates_late": _once(messages.Authentication(0).encode(), messages.NegotiateProtocolVersion(_V3).encode(), READY),
    "key_of_257": _once(messages.Authentication(0).encode(), messages.BackendKeyData(1, b"x" * 257).encode(), READY),
    "key_of_32_in_3_0": _once(messages.NegotiateProtocolVersion(_V3).encode(), messages.Authentication(0).encode(),
                              messages.BackendKeyData(1, b"x" * 32).encode(), READY),
}
"""What it says instead of logging anybody in. ``scram_*`` need a look at the client's nonce: see ``_scram``."""

SCRAM = ("scram_nonce", "scram_iterations", "scram_base64", "scram_other_nonce")


class HostileTarget:
    """Listens on a port of its own; threads, because the gateway under test is another process."""

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._sock.getsockname()[1]
        self.before_tls = b"N"
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> HostileTarget:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        for one in list(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._sock.accept()
            except OSError:
                return
            self._open.add(near)
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with near, contextlib.suppress(OSError, ConnectionError):
            first = _startup(near)
            packet = messages.parse_startup(first[4:])
            if isinstance(packet, messages.SslRequest):
                near.sendall(self.before_tls)
                _wait(near)
            elif isinstance(packet, messages.Startup):
                self._session(near, first, packet.parameters.get("application_name", ""))
            else:
                with socket.create_connection(("127.0.0.1", self._upstream), 10) as far:
                    far.sendall(first)
                    _wait(far)
        self._open.discard(near)

    def _session(self, near: socket.socket, first: bytes, name: str) -> None:
        evil = name.removeprefix("evil-")
        if evil in LOGIN:
            _say(near, LOGIN[evil]())
        elif evil in SCRAM:
            _scram(near, evil)
        elif evil == "silent":
            _wait(near)
        else:
            with socket.create_connection(("127.0.0.1", self._upstream), 10) as far:
                far.settimeout(None)
                far.sendall(first)
                self._open.add(far)
                threading.Thread(target=_pass_on, args=(far, near), daemon=True).start()
                _listen(near, far)
                self._open.discard(far)


def _startup(sock: socket.socket) -> bytes:
    head = _exactly(sock, 4)
    return head + _exactly(sock, int.from_bytes(head, "big") - 4)


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = sock.recv(count - len(data))
        if not part:
            raise ConnectionError("closed")
        data += part
    return data


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def _listen(near: socket.socket, far: socket.socket) -> None:
    """Pass on what the gateway says, until a statement carries the mark."""
    reader = FrameReader(_LIMIT)
    while data := near.recv(1 << 16):
        reader.feed(data)
        for kind, payload in reader:
            found = _MARK.search(payload) if chr(kind) == "Q" else None
            if found is not None:
                _say(near, ANSWERS[found[1].decode()]())
                return
            far.sendall(frame(bytes([kind]), payload))


def _say(sock: socket.socket, parts: Iterator[bytes]) -> None:
    said = False
    for part in parts:
        sock.sendall(part)
        said = True
    if said:
        _wait(sock)


def _wait(sock: socket.socket) -> None:
    """Until the other side has closed."""
    while sock.recv(1 << 16):
        pass


def _scram(sock: socket.socket, how: str) -> None:
    sock.sendall(messages.Authentication(10, b"SCRAM-SHA-256\0\0").encode())
    head = _exactly(sock, 5)
    first = _exactly(sock, int.from_bytes(head[1:], "big") - 4)
    nonce = first.rsplit(b"r=", 1)[-1]
    said = {
        "scram_nonce": b"r=" + nonce + b"A" * (1 << 20) + b",s=c2FsdHNhbHQ=,i=4096",
        "scram_iterations": b"r=" + nonce + b"abc,s=c2FsdHNhbHQ=,i=2147483648",
        "scram_base64": b"r=" + nonce + b"abc,s=!!!!,i=4096",
        "scram_other_nonce": b"r=somethingelse,s=c2FsdHNhbHQ=,i=4096",
    }[how]
    sock.sendall(messages.Authentication(11, said).encode())
    _wait(sock)
