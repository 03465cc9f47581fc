# SPDX-License-Identifier: Apache-2.0
"""Room on the disk: the reserve that lets the last records through, the size limit, and what may be removed when its time is over."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from gateway.audit.files import file_bytes, log_files, size_of, sync_directory


class Reserve:
    """A file of real blocks, given up when the disk is full."""

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.size = path, size

    def ensure(self) -> None:
        """Make it whole. Raises ``OSError`` (no space) and then takes no room."""
        if size_of(self.path) == self.size:
            return
        handle = os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            os.ftruncate(handle, 0)
            os.posix_fallocate(handle, 0, self.size)
            os.fsync(handle)
        except OSError:
            self.release()
            raise
        finally:
            os.close(handle)

    def release(self) -> None:
        self.path.unlink(missing_ok=True)
        sync_directory(self.path.parent)


def used(audit: Path, recordings: Path) -> int:
    """Bytes that the log and the recordings take."""
    total = sum(file_bytes(path) for path in log_files(audit))
    return total + sum(size_of(path) for path in recordings.glob("*/*.rec"))


@dataclass(frozen=True, slots=True)
class Expired:
    """A sealed file whose time is over, with the recordings that belong to it."""

    path: Path
    first: int
    last: int
    recordings: tuple[Path, ...]

    def remove(self) -> None:
        """Unlink recordings first, so that no recording outlives the records that prove it."""
        for recording in self.recordings:
            recording.unlink(missing_ok=True)
            if not any(recording.parent.iterdir()):
                recording.parent.rmdir()
        for suffix in ("-wal", "-shm", ""):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)
        sync_directory(self.path.parent)
