# SPDX-License-Identifier: Apache-2.0
"""A disk whose syncs take longer: a SQLite VFS that waits after each sync, for ``AuditLog.open(vfs=…)``.

``python -m tests.bench.slow_vfs 0.005 ARGUMENT…`` runs ``lockgate ARGUMENT…`` with every sync of the audit log's files 5 ms longer.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import apsw

NAME = "slow-syncs"


class _File(apsw.VFSFile):
    def __init__(self, name: str | apsw.URIFilename | None, flags: list[int], seconds: float) -> None:
        super().__init__("", name, flags)
        self._seconds = seconds

    def xSync(self, flags: int) -> None:
        super().xSync(flags)
        time.sleep(self._seconds)


class _Vfs(apsw.VFS):
    def __init__(self, seconds: float) -> None:
        super().__init__(NAME, "")
        self._seconds = seconds

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return _File(name, flags, self._seconds)


@contextmanager
def slow_syncs(seconds: float) -> Iterator[str]:
    """Registers the VFS for as long as it lasts; gives its name. ``seconds`` are added to each sync."""
    vfs = _Vfs(seconds)
    try:
        yield NAME
    finally:
        vfs.unregister()


def main() -> int:
    from gateway.audit.log import AuditLog
    from gateway.cli import main as lockgate

    with slow_syncs(float(sys.argv[1])) as name:
        AuditLog.open = functools.partial(AuditLog.open, vfs=name)  # type: ignore[method-assign]
        return lockgate(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
