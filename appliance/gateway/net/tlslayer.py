# SPDX-License-Identifier: Apache-2.0
"""One end of a TLS session as bytes in and bytes out: OpenSSL over two buffers in memory, no I/O.

A TLS layer of the event loop's keeps a transport and buffers of its own for each connection; here whoever moves the bytes asks.
"""

from __future__ import annotations

import contextlib
import ssl

RECORD = 16 * 1024
"""The most plaintext of one record, which is what one read gives (RFC 8446 section 5.1)."""


class TlsLayer:
    """After ``shake`` has said that the handshake is over, ``opened`` and ``sealed`` turn what came into plaintext and plaintext into what
    goes out. After ``shake`` and ``opened`` there may be more to send, which ``due`` gives: the handshake, alerts, new keys.
    """

    def __init__(self, context: ssl.SSLContext, *, server_side: bool, server_hostname: str | None = None) -> None:
        """Raises ``ValueError`` for a name that is none."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.object = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname)

    def shake(self, data: bytes) -> bool:
        """Go on with the handshake by what came: whether it is over. Raises ``ssl.SSLError``, and an alert may be due."""
        self._incoming.write(data)
        try:
            self.object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def due(self) -> bytes:
        """What is to be sent now, mostly nothing."""
        return self._outgoing.read() if self._outgoing.pending else b""

    def opened(self, data: bytes) -> tuple[bytes, bool]:
        """The plaintext of what came, and whether the peer said that this was its last. Raises ``ssl.SSLError``, and then nothing of it
        counts; an alert may be due."""
        incoming, session, over = self._incoming, self.object, False
        incoming.write(data)
        parts: list[bytes] = []
        try:
            while incoming.pending or session.pending():
                part = session.read(RECORD)
                if not part:
                    over = True
                    break
                parts.append(part)
        except ssl.SSLWantReadError:
            pass                                # the beginning of a record
        except ssl.SSLZeroReturnError:
            over = True
        return parts[0] if len(parts) == 1 else b"".join(parts), over

    def sealed(self, data: bytes | bytearray | memoryview) -> bytes:
        """What is to be sent for ``data``, which is at least one byte. Raises ``ssl.SSLError``."""
        taken, size = self.object.write(data), len(data)
        while taken < size:
            taken += self.object.write(memoryview(data)[taken:])
        return self._outgoing.read()

    def farewell(self) -> bytes:
        """The close_notify alert, as far as one can be sent. The peer's own is not waited for (RFC 8446 section 6.1)."""
        with contextlib.suppress(ssl.SSLError, OSError, ValueError):
            self.object.unwrap()
        return self.due()
