# SPDX-License-Identifier: Apache-2.0
"""Somebody at the machine's serial console."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Console:
    """``seen`` is everything it showed since somebody sat down."""

    def __init__(self, wire: socket.socket) -> None:
        self._wire = wire
        self._wire.settimeout(0.5)
        self._read = 0
        self.seen = ""

    def type(self, text: str) -> None:
        self._wire.sendall(text.encode())

    def expect(self, *texts: str, seconds: float = 120) -> str:
        """Wait until one of them is shown that was not yet waited for; says which."""
        until = time.monotonic() + seconds
        while True:
            found = [(at, text) for text in texts if (at := self.seen.find(text, self._read)) >= 0]
            if found:
                at, text = min(found)
                self._read = at + len(text)
                return text
            if time.monotonic() > until:
                raise AssertionError(f"none of {texts} within {seconds} s after {self.seen[self._read :][-2000:]!r}")
            try:
                self.seen += self._wire.recv(65536).decode(errors="replace")
            except TimeoutError:
                continue


@contextmanager
def console(path: Path) -> Iterator[Console]:
    with socket.socket(socket.AF_UNIX) as wire:
        wire.connect(str(path))
        yield Console(wire)
