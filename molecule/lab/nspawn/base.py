# SPDX-License-Identifier: Apache-2.0
"""The pristine tree that every host of a suite lies over: built once, by one process at a time, renamed into place when whole."""

from __future__ import annotations

import fcntl
import hashlib
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .command import run
from .names import HERE, LabError, cache_folder
from .sources import options, sources_for

PACKAGES = HERE / "packages"
RECIPE = "2"  # raise it when the steps below change what a tree holds
NOT_IN_A_CONTAINER = ("auditd.service", "audit-rules.service")  # they ask for the machine's one audit socket
YOUNG = 3600.0  # another checkout may be about to boot a host on a tree this old
LEFT_OUT = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*")


def packages(suite: str, variant: str) -> list[str]:
    """The packages of a suite: the list all share, the suite's own, and the variant's (`db`); `-NAME` leaves one of the others out."""
    lists = [PACKAGES / "all", PACKAGES / suite, *([PACKAGES / variant] if variant else [])]
    missing = [path.name for path in lists if not path.exists()]
    if missing:
        raise LabError(f"no package list {', '.join(missing)} in {PACKAGES}")
    lines = {line.partition("#")[0].strip() for path in lists for line in path.read_text(encoding="utf-8").splitlines()} - {""}
    return sorted({line for line in lines if not line.startswith("-")} - {line[1:] for line in lines if line.startswith("-")})


def base_tree(suite: str, variant: str = "") -> Path:
    """The tree's path, built first where it is not there yet (two to four minutes)."""
    wanted = packages(suite, variant)
    key = hashlib.sha256("\n".join([RECIPE, suite, *wanted]).encode()).hexdigest()[:12]
    name = "-".join(filter(None, [suite, variant, key]))
    bases = cache_folder() / "base"
    bases.mkdir(exist_ok=True)
    with _alone(bases / f".{suite}{variant}.lock"):
        tree = bases / name
        if not tree.exists():
            _build(tree, suite, wanted)
            prune(bases, suite, variant, tree)
    return tree


def prune(bases: Path, suite: str, variant: str, kept: Path) -> None:
    """Takes away what older package lists made of the same suite and variant, but for a tree that a booted host lies over, or may soon."""
    used, young = set(overlaid()), time.time() - YOUNG
    pattern = re.compile(re.escape("-".join(filter(None, [suite, variant]))) + "-[0-9a-f]{12}")
    for tree in sorted(bases.iterdir()):
        if pattern.fullmatch(tree.name) and tree != kept and str(tree) not in used and tree.stat().st_mtime < young:
            gone = tree.with_name(f"{tree.name}.gone")
            tree.rename(gone)  # whoever looks for a tree finds a whole one or none
            shutil.rmtree(gone)


def overlaid() -> Iterator[str]:
    """The lower folders of every overlay that any process of this machine has mounted; hosts have mount namespaces of their own."""
    for mounts in Path("/proc").glob("[0-9]*/mounts"):
        with suppress(OSError):
            yield from re.findall(r"\blowerdir=([^,:\s]+)", mounts.read_text(encoding="utf-8"))


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _build(tree: Path, suite: str, wanted: list[str]) -> None:
    sys.stderr.write(f"building the {suite} tree ({len(wanted)} packages named)\n")
    draft = tree.with_name(f"{tree.name}.building")
    shutil.rmtree(draft, ignore_errors=True)
    with tempfile.NamedTemporaryFile("w", suffix=".sources") as sources:
        sources.write(sources_for(suite))
        sources.flush()
        run(
            "mmdebstrap", "--quiet", "--variant=minbase", "--mode=root", f"--include={','.join(wanted)}", "--dpkgopt=force-unsafe-io",
            *(f"--aptopt={line}" for line in options()), *(f"--dpkgopt=path-exclude={path}" for path in LEFT_OUT),
            suite, str(draft), sources.name,
        )  # fmt: skip
    _make_pristine(draft)
    draft.rename(tree)


def _make_pristine(tree: Path) -> None:
    """No identity, and no apt source: a host reaches none, `apt update` is quick and true, what is installed is what there is."""
    for path in [*tree.glob("etc/ssh/ssh_host_*"), *tree.glob("etc/apt/sources.list.d/*"), *tree.glob("var/cache/apt/archives/*.deb")]:
        path.unlink()
    (tree / "etc/machine-id").write_text("")
    (tree / "etc/apt/sources.list").write_text("# a lab host has no way to a package archive\n")
    for leftover in (tree / "var/lib/apt/lists").iterdir():
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    for marker in ("etc/.updated", "var/.updated"):  # systemd need not rebuild its caches at each first boot
        (tree / marker).touch()
    for unit in NOT_IN_A_CONTAINER:
        drop_in = tree / f"etc/systemd/system/{unit}.d/lab.conf"
        drop_in.parent.mkdir(parents=True)
        drop_in.write_text("[Unit]\nConditionVirtualization=!container\n")
