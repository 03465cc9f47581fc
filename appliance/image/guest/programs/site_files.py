#!/usr/bin/python3 -I
# SPDX-License-Identifier: Apache-2.0
"""What a site decides in /etc, along a closed list: ``load`` at boot, ``save`` after a change, ``status`` for who asks.

    site-files load     /var/lib/lockgate-site/etc over /etc; makes the SSH host key where there is none yet
    site-files save     the changed files of the list into /var/lib/lockgate-site/etc; says which ones
    site-files status   what was changed in /etc and will be gone after a reboot; exit status 1 where there is anything

/etc is the verified root's with a layer in memory above it (lockgate-etc.service in the initrd): what is in that layer was changed.
"""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

LIST = Path("/usr/share/lockgate/site-files")
STORE = Path("/var/lib/lockgate-site/etc")
ETC = Path("/etc")
LAYER = Path("/run/lockgate-etc/upper")
OWN = frozenset({"machine-id", ".updated", ".pwd.lock", "audit/audit.rules", "audit/audit.rules.prev"})
"""What the system itself writes at every boot."""


def patterns() -> list[tuple[str, ...]]:
    lines = LIST.read_text().splitlines()
    return [PurePosixPath(line).parts for line in lines if line and not line.startswith("#")]


def decided_by_site(name: PurePosixPath, allowed: list[tuple[str, ...]]) -> bool:
    """Whether ``name``, relative to /etc, is in the list."""
    return any(len(one) == len(name.parts) and all(map(fnmatchcase, name.parts, one)) for one in allowed)


def files(folder: Path) -> Iterator[PurePosixPath]:
    """The regular files in ``folder`` that belong to root and that nobody else may write; links are not followed."""
    for path in sorted(folder.rglob("*")):
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode):
            continue
        name = PurePosixPath(path.relative_to(folder))
        if found.st_uid != 0 or found.st_mode & 0o022:
            print(f"{path}: writable by others than root, left alone", file=sys.stderr)
            continue
        yield name


def copy(source: Path, target: Path) -> bool:
    """Replace ``target`` in one step, same mode and group. False where it is the same already."""
    found, data = source.stat(), source.read_bytes()
    if target.is_file() and not target.is_symlink() and target.read_bytes() == data and _same(found, target.stat()):
        return False
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.new")
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as out:
        out.write(data)
        os.fchown(out.fileno(), 0, found.st_gid)
        os.fchmod(out.fileno(), stat.S_IMODE(found.st_mode))
        out.flush()
        os.fsync(out.fileno())
    fresh.rename(target)
    return True


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_mode, one.st_uid, one.st_gid) == (other.st_mode, other.st_uid, other.st_gid)


def load() -> int:
    allowed = patterns()
    for name in files(STORE):
        if decided_by_site(name, allowed):
            copy(STORE / name, ETC / name)
        else:
            print(f"{STORE / name}: not in {LIST}, left out", file=sys.stderr)
    socket.sethostname((ETC / "hostname").read_text().strip())
    key = ETC / "ssh/ssh_host_ed25519_key"
    if not key.exists():
        subprocess.run(["/usr/bin/ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(key)], check=True)
        save()
    return 0


def save() -> int:
    """Copies what is new, removes what the layer no longer has. Prints a line for each: nothing printed, nothing changed."""
    allowed = patterns()
    changed = [name for name in files(LAYER) if decided_by_site(name, allowed)]
    STORE.mkdir(mode=0o755, parents=True, exist_ok=True)
    for name in changed:
        if copy(LAYER / name, STORE / name):
            print(f"saved {name}")
    for name in files(STORE):
        if name not in changed:
            (STORE / name).unlink()
            print(f"removed {name}")
    return 0


def status() -> int:
    allowed = patterns()
    passing = [str(name) for name in files(LAYER) if not decided_by_site(name, allowed) and str(name) not in OWN]
    unsaved = [str(name) for name in files(LAYER) if decided_by_site(name, allowed) and _unsaved(name)]
    print(
        "\n".join([*(f"gone after a reboot: {name}" for name in passing), *(f"not saved yet: {name}" for name in unsaved)])
        or "nothing but saved files"
    )
    return 1 if passing or unsaved else 0


def _unsaved(name: PurePosixPath) -> bool:
    kept = STORE / name
    return not kept.is_file() or kept.read_bytes() != (LAYER / name).read_bytes()


if __name__ == "__main__":
    verbs = {"load": load, "save": save, "status": status}
    if len(sys.argv) != 2 or sys.argv[1] not in verbs:
        sys.exit(__doc__)
    sys.exit(verbs[sys.argv[1]]())
