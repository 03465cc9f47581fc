# SPDX-License-Identifier: Apache-2.0
"""Where recordings are kept: ``recordings/YYYY-MM-DD/NNNNNN.rec``, the masked samples of all commands recorded in log file NNNNNN.

One file for all sessions of a log file costs one sync a batch however many sessions are busy, and is removed together with the
records that prove it. A record names its part: ``recording`` {``file``, ``offset``, ``length``, ``sha256``}.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from gateway.audit.files import sync_directory

_NAME = re.compile(r"\d{4}-\d\d-\d\d/\d{6,}\.rec")
MAX_RECORDING = 16 * 2**20


class RecordingError(ValueError):
    """A recording that is missing, shorter than its record says, or changed. The message says which."""


class Samples:
    """The recordings of one batch, which ``RecordingFile.append`` will write one after the other; ``end`` is where the next one will be."""

    __slots__ = ("end", "name", "parts")

    def __init__(self, name: str, end: int) -> None:
        self.name, self.end = name, end
        self.parts: list[bytes] = []

    def refer(self, data: bytes) -> dict[str, Any]:
        """What the record says of ``data``, if it is added next."""
        return {"file": self.name, "offset": self.end, "length": len(data), "sha256": sha256(data).hexdigest()}

    def add(self, data: bytes) -> None:
        self.parts.append(data)
        self.end += len(data)


class RecordingFile:
    """The file that the writer thread appends to. Created with the first recording; every method may raise ``OSError``."""

    def __init__(self, root: Path, name: str) -> None:
        """``name`` is ``YYYY-MM-DD/NNNNNN.rec`` under ``root``."""
        self._path, self.name = root / name, name
        self._handle = -1
        self.end = self._path.stat().st_size if self._path.exists() else 0

    def batch(self) -> Samples:
        """The recordings of the next batch: none yet."""
        return Samples(self.name, self.end)

    def append(self, parts: Sequence[bytes]) -> None:
        """Write at ``end`` and sync. ``end`` moves with ``commit`` only, so that a failed batch is overwritten."""
        if self._handle < 0:
            self._open()
        data = b"".join(parts)
        written = 0
        while written < len(data):
            written += os.pwrite(self._handle, data[written:], self.end + written)
        os.fdatasync(self._handle)

    def commit(self, end: int) -> None:
        """The batch whose recordings went up to ``end`` is on disk."""
        self.end = end

    def _open(self) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._handle = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        sync_directory(self._path.parent)
        sync_directory(self._path.parent.parent)

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def read_recording(root: Path, reference: object) -> bytes:
    """The bytes a record's ``recording`` names, checked against its digest. Raises ``RecordingError`` or ``OSError``."""
    if not isinstance(reference, dict):
        raise RecordingError("the record's recording is not an object")
    name, offset, length = reference.get("file"), reference.get("offset"), reference.get("length")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise RecordingError("the record names no recording file")
    if type(offset) is not int or type(length) is not int or offset < 0 or not 0 <= length <= MAX_RECORDING:
        raise RecordingError(f"{name}: the record gives no place in it")
    data = _read(root / name, offset, length)
    if len(data) != length:
        raise RecordingError(f"{name}: {len(data)} of {length} bytes at {offset}")
    if sha256(data).hexdigest() != reference.get("sha256"):
        raise RecordingError(f"{name}: the {length} bytes at {offset} were changed")
    return data


def _read(path: Path, offset: int, length: int) -> bytes:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise RecordingError(f"{path.parent.name}/{path.name}: missing") from None
    try:
        return os.pread(handle, length, offset)
    finally:
        os.close(handle)
