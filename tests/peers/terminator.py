# SPDX-License-Identifier: Apache-2.0
"""Somebody between the gateway and a PostgreSQL server who ends TLS: with a certificate of its own, in clear or in TLS of its own behind.

It passes everything on, or, as ``strips`` says, takes channel binding out of what the server offers.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from dataclasses import dataclass, field
from types import TracebackType

from gateway.protocols.postgres import messages
from gateway.testing.certificates import Pair

_OFFER = b"SCRAM-SHA-256-PLUS\0"


def _stripped(data: bytes) -> bytes:
    """The AuthenticationSASL in ``data`` (type, length, code, mechanisms) without the one that binds."""
    at = data.index(_OFFER) - 9
    length = int.from_bytes(data[at + 1:at + 5], "big") - len(_OFFER)
    return data[:at + 1] + length.to_bytes(4, "big") + data[at + 5:].replace(_OFFER, b"", 1)


@dataclass
class Terminator:
    """Listens on ``port`` while it is entered. ``direct``: TLS without an SSLRequest. ``alpn``: what it says that it speaks."""

    pair: Pair
    upstream: int
    direct: bool = False
    alpn: str | None = messages.ALPN
    inner_tls: bool = False
    strips: bool = False
    answer: bytes = b"S"
    port: int = 0
    heard: bytes = b""
    _open: list[socket.socket] = field(default_factory=list)

    def __enter__(self) -> Terminator:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(self.pair.certificate, self.pair.key)
        if self.alpn is not None:
            self._context.set_alpn_protocols([self.alpn])
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.port = self._sock.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for one in (self._sock, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._thread.join(10)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._sock.accept()
                self._open.append(near)
                threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with near, contextlib.suppress(OSError, ValueError):
            if not self.direct:
                assert near.recv(8) == messages.SslRequest().encode()
                near.sendall(self.answer)
            with self._context.wrap_socket(near, server_side=True) as inside, self._far() as far:
                self._open += [inside, far]
                back = threading.Thread(target=self._back, args=(far, inside), daemon=True)
                back.start()
                while data := inside.recv(1 << 16):
                    self.heard += data
                    far.sendall(data)
                far.shutdown(socket.SHUT_WR)
                back.join(10)

    def _far(self) -> socket.socket:
        far = socket.create_connection(("127.0.0.1", self.upstream), 10)
        far.settimeout(None)
        if not self.inner_tls:
            return far
        far.sendall(messages.SslRequest().encode())
        assert far.recv(1) == b"S"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context.wrap_socket(far)

    def _back(self, far: socket.socket, inside: ssl.SSLSocket) -> None:
        with contextlib.suppress(OSError, ValueError):
            while data := far.recv(1 << 16):
                inside.sendall(_stripped(data) if self.strips and _OFFER in data else data)
            inside.unwrap()
