# SPDX-License-Identifier: Apache-2.0
"""The disk under ``state``: what is measured, what is impossible."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.doctor import disk
from gateway.doctor.disk import Disk, Mount
from gateway.doctor.finding import examined

MOUNTINFO = """22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
30 27 8:1 / /var/lib/lockgate rw,relatime shared:1 - xfs /dev/sda1 rw,nobarrier
31 27 0:40 / /var/lib/lock rw - tmpfs tmpfs rw
32 27 0:41 / /with\\040blank rw - overlay overlay rw,lowerdir=/a
33 30 0:42 / /var/lib/lockgate rw - tmpfs tmpfs rw
"""
HONEST = Disk(Path("/state"), Mount("/", "ext4", frozenset({"rw"}), "254:0"), (1e-3,) * 8, False, 10**12, 10**12, 10**6, 10**10, 16 * 2**20,
              16 * 2**20)


def ids(found: Disk) -> list[str]:
    return [finding.id for finding in examined(disk.CHECKS, found)]


def test_an_honest_disk_has_no_finding() -> None:
    assert ids(HONEST) == []


@pytest.mark.parametrize(
    ("path", "point", "kind"),
    [("/etc", "/", "ext4"), ("/var/lib/lockgate/state", "/var/lib/lockgate", "tmpfs"), ("/var/lib/lockgate2", "/", "ext4"),
     ("/var/lib/lock/x", "/var/lib/lock", "tmpfs"), ("/with blank/x", "/with blank", "overlay")])
def test_the_mount_of_a_path(path: str, point: str, kind: str) -> None:
    found = disk.mount_of(Path(path), MOUNTINFO)
    assert found is not None
    assert (found.point, found.kind) == (point, kind)


@pytest.mark.parametrize(("kind", "wanted"), [
    ("tmpfs", "disk.memory"), ("ramfs", "disk.memory"), ("nfs4", "disk.network"), ("fuse.sshfs", "disk.network"),
    ("overlay", "disk.layer")])
def test_kinds_of_file_systems(kind: str, wanted: str) -> None:
    assert ids(replace(HONEST, mount=Mount("/", kind, frozenset(), "0:1"))) == [wanted]


@pytest.mark.parametrize(("changes", "wanted"), [
    ({"syncs": (2e-6,) * 64}, ["disk.sync"]),
    ({"syncs": (2e-6,) * 64, "mount": Mount("/", "tmpfs", frozenset(), "0:1")}, ["disk.memory"]),
    ({"syncs": (30e-6,) * 64}, []),
    ({"syncs": (30e-6,) * 64, "rotational": True}, ["disk.sync-turning"]),
    ({"syncs": (4e-3,) * 64, "rotational": True}, []),
    ({"mount": Mount("/", "ext4", frozenset({"rw", "barrier=0"}), "0:1")}, ["disk.barrier"]),
    ({"free": 2**20}, ["disk.full", "audit.room"]),
    ({"free": 10**9}, ["audit.room"]),
    ({"used": 95 * 10**8}, ["audit.limit"]),
    ({"reserve": 0}, ["audit.reserve"]),
    ({"open_to_others": ("/state (0755)",)}, ["state.modes"]),
])
def test_each_finding(changes: dict[str, object], wanted: list[str]) -> None:
    assert ids(replace(HONEST, **changes)) == wanted  # type: ignore[arg-type]


def test_a_real_folder_is_measured_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "audit").mkdir(mode=0o700)
    (tmp_path / "recordings").mkdir(mode=0o755)
    tmp_path.chmod(0o700)
    found = disk.look_at(tmp_path, 2**30, 2**20)
    assert 1 <= len(found.syncs) <= disk.WRITES
    assert found.median > 0
    assert found.mount is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audit", "recordings"]
    assert len(found.open_to_others) == 1
    assert "audit.reserve" in ids(found)


def test_a_file_system_without_files_that_have_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refused(path: object, flags: int, *more: object, **named: object) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(95, "not supported")
        return real(path, flags, *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refused)
    assert disk.synced_writes(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_before_the_first_start_the_folder_above_is_measured(tmp_path: Path) -> None:
    found = disk.look_at(tmp_path / "not" / "yet", 2**30, 2**20)
    assert found.syncs
    assert "audit.reserve" not in ids(found)
