# SPDX-License-Identifier: Apache-2.0
"""The disk under ``state``: whether what is synced is kept, whether it has room, whether anybody else can look.

"On disk" is a promise that the disk makes. It can be measured only from one side: a sync that returns faster than any medium can answer
was not carried out. One that takes its time may still be a lie of something below.
"""

from __future__ import annotations

import contextlib
import os
import stat
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.audit.files import size_of
from gateway.audit.space import used
from gateway.doctor.finding import Check, Sign
from gateway.errors import ConfigError

WRITES = 64
BLOCK = 4096
PATIENCE = 3.0
IMPOSSIBLE = 15e-6
"""Seconds: below the fastest media with a bus in between; memory answers in one to three microseconds."""
SPINNING = 1e-3
"""A disk that turns needs milliseconds, unless a cache with a battery answers for it."""
MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs", "squashfs"})
REMOTE = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "ceph", "glusterfs", "afs"})
LAYERED = frozenset({"overlay", "aufs"})
NO_BARRIER = frozenset({"nobarrier", "barrier=0", "barrier=none"})


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of /proc/self/mountinfo (proc(5)): where, what kind, with which options; ``device`` is MAJOR:MINOR."""

    point: str
    kind: str
    options: frozenset[str]
    device: str


@dataclass(frozen=True, slots=True)
class Disk:
    """The disk under the state folder, as it was found. ``syncs`` are seconds, one for each synced write of one block."""

    state: Path
    mount: Mount | None
    syncs: tuple[float, ...]
    rotational: bool | None
    free: int
    total: int
    used: int
    limit: int
    reserve: int
    reserve_wanted: int
    open_to_others: tuple[str, ...] = ()

    @property
    def median(self) -> float:
        """Seconds that a synced write takes; 0 where none was made."""
        return statistics.median(self.syncs) if self.syncs else 0.0


def look_at(state: Path, limit: int, reserve: int) -> Disk:
    """Measure and count. ``limit`` and ``reserve`` are ``audit.retention.size`` and ``audit.reserve``.

    Raises ``ConfigError`` where this user may not look.
    """
    place = next(one for one in (state, *state.parents) if one.is_dir())        # before the first start there is no state folder yet
    try:
        mount = mount_of(place, Path("/proc/self/mountinfo").read_text())
        space = os.statvfs(place)
        begun = (state / "audit").is_dir()
        return Disk(
            state, mount, synced_writes(place), _rotational(mount), space.f_bavail * space.f_frsize, space.f_blocks * space.f_frsize,
            used(state / "audit", state / "recordings") if begun else 0, limit, size_of(state / "reserve") if begun else reserve, reserve,
            tuple(_open_to_others(state)))
    except OSError as wrong:
        raise ConfigError(f"expected a state folder that can be looked at: {wrong.filename or state}: {wrong.strerror}") from None


def mount_of(path: Path, mountinfo: str) -> Mount | None:
    """The mount that holds ``path``: of those above it the longest, of several there the last."""
    place, best = str(path.resolve()), None
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, (kind, _, more) = before.split(), after.split(maxsplit=2)
        point = fields[4].encode().decode("unicode_escape")
        if place == point or place.startswith(point.rstrip("/") + "/"):
            found = Mount(point, kind, frozenset((*fields[5].split(","), *more.split(","))), fields[2])
            best = found if best is None or len(point) >= len(best.point) else best
    return best


def synced_writes(folder: Path) -> tuple[float, ...]:
    """Seconds of each of a few blocks written with O_DSYNC into a file without a name. Raises ``OSError``."""
    handle = _scratch(folder)
    block, taken = os.urandom(BLOCK), list[float]()
    try:
        end = time.monotonic() + PATIENCE
        for number in range(WRITES):
            begun = time.perf_counter()
            os.pwrite(handle, block, number * BLOCK)
            taken.append(time.perf_counter() - begun)
            if time.monotonic() > end:
                break
    finally:
        os.close(handle)
    return tuple(taken)


def _scratch(folder: Path) -> int:
    with contextlib.suppress(OSError):
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_DSYNC | os.O_CLOEXEC, 0o600)
    handle, name = tempfile.mkstemp(prefix=".sync-", dir=folder)        # a file system without O_TMPFILE
    try:
        return os.open(name, os.O_RDWR | os.O_DSYNC | os.O_CLOEXEC)
    finally:
        os.close(handle)
        Path(name).unlink()


def _rotational(mount: Mount | None, sys: Path = Path("/sys/dev/block")) -> bool | None:
    """Whether the kernel takes the device, or the one its partition is on, for one that turns."""
    if mount is None:
        return None
    device = sys / mount.device
    for place in (device / "queue", device.resolve().parent / "queue"):
        with contextlib.suppress(OSError):
            return (place / "rotational").read_text().strip() == "1"
    return None


def _open_to_others(state: Path) -> Iterator[str]:
    for path in (state, state / "audit", state / "recordings", state / "audit" / "digest.key"):
        if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
            yield f"{path} ({stat.S_IMODE(path.stat().st_mode):04o})"


# --- checks -----------------------------------------------------------------------------------------------------------------------


def _amount(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def _kind_in(disk: Disk, kinds: frozenset[str]) -> Iterator[Sign]:
    if disk.mount is not None and (disk.mount.kind in kinds or disk.mount.kind.startswith("fuse") and "nfs" in kinds):
        yield Sign(str(disk.state), f"lies on {disk.mount.kind}, mounted at {disk.mount.point}")


def _unbarred(disk: Disk) -> Iterator[Sign]:
    if disk.mount is not None and (found := sorted(disk.mount.options & NO_BARRIER)):
        yield Sign(disk.mount.point, f"is mounted with {', '.join(found)}")


def _in_memory(disk: Disk) -> bool:
    return disk.mount is not None and disk.mount.kind in MEMORY


def _too_fast(disk: Disk) -> Iterator[Sign]:
    if disk.syncs and disk.median < IMPOSSIBLE and not _in_memory(disk):
        yield Sign(str(disk.state), f"a synced write of {BLOCK} bytes takes {disk.median * 1e6:.1f} µs (median of {len(disk.syncs)}): "
                   "no medium is that fast, so a power cut loses what was said to be on disk")


def _too_fast_to_turn(disk: Disk) -> Iterator[Sign]:
    if disk.syncs and disk.rotational and IMPOSSIBLE <= disk.median < SPINNING / 10:
        yield Sign(str(disk.state), f"a synced write takes {disk.median * 1e6:.0f} µs on a disk that the kernel takes for a turning one")


def _no_room(disk: Disk) -> Iterator[Sign]:
    if disk.free < disk.reserve_wanted:
        yield Sign(str(disk.state), f"{_amount(disk.free)} of {_amount(disk.total)} are free")


def _at_the_limit(disk: Disk) -> Iterator[Sign]:
    if disk.used > 0.9 * disk.limit:
        yield Sign(str(disk.state), f"log and recordings take {_amount(disk.used)} of {_amount(disk.limit)} (audit.retention.size)")


def _smaller_than_the_limit(disk: Disk) -> Iterator[Sign]:
    if disk.free + disk.used < disk.limit:
        yield Sign(str(disk.state), f"{_amount(disk.free)} are free, {_amount(disk.used)} used: less than the {_amount(disk.limit)} of "
                   "audit.retention.size, so the disk is full before the limit is reached")


def _no_reserve(disk: Disk) -> Iterator[Sign]:
    if disk.reserve < disk.reserve_wanted:
        yield Sign(str(disk.state / "reserve"), f"has {_amount(disk.reserve)} instead of {_amount(disk.reserve_wanted)}")


def _seen_by_others(disk: Disk) -> Iterator[Sign]:
    for saw in disk.open_to_others:
        yield Sign(saw, "others than the service user may look or write")


CHECKS: tuple[Check[Disk], ...] = (
    Check("disk.memory", "high", "The state folder lies in memory: a restart loses the log.", "Put `state` on a disk.",
          lambda disk: _kind_in(disk, MEMORY)),
    Check("disk.sync", "high", "A synced write returns faster than any medium can answer: it is not carried out.",
          "Look for a hypervisor's cache mode (unsafe), a container's layer, libeatmydata, a controller without battery.", _too_fast),
    Check("disk.barrier", "high", "The file system is mounted so that a sync does not reach the medium.", "Mount it without that option.",
          _unbarred),
    Check("disk.full", "high", "There is less room than the reserve needs.",
          "Collect the log and let its time be over, or give it more room.", _no_room),
    Check("disk.sync-turning", "medium", "A synced write returns faster than a turning disk can.",
          "Make sure that the cache which answers for it has a battery, or that the kernel is wrong about the disk.", _too_fast_to_turn),
    Check("disk.network", "medium", "The state folder lies on a file system of another machine: locks and syncs are that one's promise.",
          "Put `state` on a disk of this machine.", lambda disk: _kind_in(disk, REMOTE)),
    Check("disk.layer", "medium", "The state folder lies in a container's layer: it goes with the container.", "Give it a volume.",
          lambda disk: _kind_in(disk, LAYERED)),
    Check("audit.limit", "medium", "Log and recordings have almost reached their size limit, at which operations stop.",
          "Collect the log; let its time be over sooner (`audit.retention.local`), or give it more (`size`).", _at_the_limit),
    Check("audit.room", "medium", "The disk is smaller than what the log may take.",
          "Lower `audit.retention.size`, or give the disk more room.", _smaller_than_the_limit),
    Check("audit.reserve", "medium", "The file that is given up to write the last records on a full disk is not there.",
          "Make room; it comes back by itself while the gateway runs.", _no_reserve),
    Check("state.modes", "medium", "Others may look into the state folder.", "chmod -R go= on it.", _seen_by_others),
)
"""What is looked at on the disk."""
