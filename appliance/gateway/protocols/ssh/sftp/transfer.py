# SPDX-License-Identifier: Apache-2.0
"""What went through an open file, as ``command.end`` tells it: bytes, how far they reach, SHA-256, direction, and a first piece of them."""

from __future__ import annotations

from hashlib import sha256
from typing import Any


class Side:
    """One direction. The hash is of the bytes in the order in which they passed; ``sequential`` says that this is the file from its
    beginning on, without gap or repetition, so that the hash is the file's."""

    __slots__ = ("_hash", "bytes", "end", "sequential")

    def __init__(self) -> None:
        self._hash = sha256()
        self.bytes = 0
        self.end = 0
        self.sequential = True

    def add(self, offset: int, data: bytes | memoryview) -> None:
        """``data`` passed, for this place in the file."""
        if offset != self.bytes:
            self.sequential = False
        self._hash.update(data)
        self.bytes += len(data)
        self.end = max(self.end, offset + len(data))

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


class Transfer:
    """Both directions of one open file; ``keep`` bytes of content are kept for replay."""

    __slots__ = ("_keep", "_kept", "keeps", "read", "written")

    def __init__(self, keep: int = 0) -> None:
        self.read: Side | None = None
        self.written: Side | None = None
        self.keeps = self._keep = keep
        self._kept: list[bytes] = []

    def reading(self, offset: int, data: bytes | memoryview) -> None:
        """The caller gets these bytes."""
        if self.read is None:
            self.read = Side()
        self.read.add(offset, data)
        if self._keep:
            self._sample(data)

    def writing(self, offset: int, data: bytes | memoryview) -> None:
        """The target gets these bytes."""
        if self.written is None:
            self.written = Side()
        self.written.add(offset, data)
        if self._keep:
            self._sample(data)

    def _sample(self, data: bytes | memoryview) -> None:
        self._kept.append(bytes(data[:self._keep]))
        self._keep -= len(self._kept[-1])

    def sample(self) -> bytes:
        """The first bytes, as they passed: unmasked."""
        return b"".join(self._kept)

    @property
    def bytes(self) -> int:
        return sum(side.bytes for side in (self.read, self.written) if side is not None)

    def fields(self) -> dict[str, Any]:
        """For the record: ``direction`` is sent (the caller's bytes went to the target), received, both or none; of both, the ``read_…``
        keys tell what was received."""
        main = self.written or self.read
        if main is None:
            return {"direction": "none", "size": 0}
        found: dict[str, Any] = {"size": main.end, "sha256": main.digest, "sequential": main.sequential}
        if self.read is not None and self.written is not None:
            found |= {"direction": "both", "read_size": self.read.end, "read_sha256": self.read.digest,
                      "read_sequential": self.read.sequential}
        else:
            found["direction"] = "received" if self.written is None else "sent"
        return found
