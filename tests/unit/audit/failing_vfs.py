# SPDX-License-Identifier: Apache-2.0
"""A SQLite VFS that fails on demand: no space at the n-th write, an error of the disk at the n-th write or sync."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import apsw


class Disk:
    """``fail(what, after, error)``: the ``after``-th call of that kind from now on raises, and all that follow, until ``mend()``."""

    def __init__(self) -> None:
        self._left: dict[str, tuple[int, type[Exception]]] = {}
        self.failed = 0

    def fail(self, what: str, after: int, error: type[Exception]) -> None:
        self._left[what] = (after, error)

    def mend(self) -> None:
        self._left.clear()

    def use(self, what: str) -> None:
        if what not in self._left:
            return
        left, error = self._left[what]
        self._left[what] = (left - 1, error)
        if left <= 1:
            self.failed += 1
            raise error("injected")


class _File(apsw.VFSFile):
    def __init__(self, base: str, name: str | apsw.URIFilename | None, flags: list[int], disk: Disk) -> None:
        super().__init__(base, name, flags)
        self._disk = disk

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.use("write")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        self._disk.use("sync")
        super().xSync(flags)

    def xTruncate(self, size: int) -> None:
        self._disk.use("truncate")
        super().xTruncate(size)


class _Vfs(apsw.VFS):
    def __init__(self, name: str, disk: Disk) -> None:
        super().__init__(name, "")
        self._disk = disk

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return _File("", name, flags, self._disk)


@contextmanager
def failing_disk(name: str) -> Iterator[Disk]:
    """Registers the VFS ``name`` for as long as it lasts."""
    disk = Disk()
    vfs = _Vfs(name, disk)
    try:
        yield disk
    finally:
        vfs.unregister()
