# SPDX-License-Identifier: Apache-2.0
"""Debian trees by mmdebstrap, from this machine's own apt sources, cached by everything that decides what is in them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from image.commands import run, run_visibly

SUITE = "trixie"
HERE = Path(__file__).parent

_OPTIONS = (
    "--variant=minbase", "--mode=root", "--format=directory", "--components=main",
    '--aptopt=Acquire::Check-Valid-Until "false"', '--aptopt=APT::Install-Recommends "false"',
    "--dpkgopt=force-unsafe-io",
    "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/info/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-include=/usr/share/doc/*/copyright",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tree:
    """A cached tree. ``key`` changes with the package list, the suite, the options and the apt sources."""

    path: Path
    key: str


def cache_folder() -> Path:
    return Path(os.environ.get("LOCKGATE_IMAGE_CACHE", "/var/tmp/lockgate-image"))  # noqa: S108 (root's own folder in it, made 0700)


def packages(kind: str) -> list[str]:
    """The names in ``packages/KIND.list``."""
    lines = (HERE / "packages" / f"{kind}.list").read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def apt_sources(suite: str) -> str:
    """This machine's Debian sources with its suite's name replaced, as deb822 or one-line text."""
    release = re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.MULTILINE)
    own = release[1] if release else suite
    files = sorted(Path("/etc/apt/sources.list.d").glob("debian*.sources")) or [Path("/etc/apt/sources.list")]
    return "\n".join(re.sub(rf"\b{own}\b", suite, file.read_text()) for file in files)


def debian_tree(kind: str, epoch: int, *, fresh: bool = False) -> Tree:
    """The tree of ``packages/KIND.list``; made now where the cache does not hold it or ``fresh`` is asked for."""
    sources = apt_sources(SUITE)
    names = packages(kind)
    key = sha256("\n".join([SUITE, *_OPTIONS, *names, sources]).encode()).hexdigest()[:16]
    tree = Tree(cache_folder() / "trees" / f"{kind}-{key}", key)
    with locked(tree.path):
        marker = tree.path.with_suffix(".complete")
        if fresh or not marker.exists():
            marker.unlink(missing_ok=True)
            shutil.rmtree(tree.path, ignore_errors=True)
            _bootstrap(tree.path, names, sources, epoch)
            marker.touch()
    return tree


def _bootstrap(path: Path, names: list[str], sources: str, epoch: int) -> None:
    listed = path.with_suffix(".sources" if "Types:" in sources else ".list")
    listed.write_text(sources)
    env = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch), "LC_ALL": "C.UTF-8", "TMPDIR": str(path.parent)}
    run_visibly(["mmdebstrap", "--quiet", *_OPTIONS, f"--include={','.join(names)}", SUITE, path, listed], env=env)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """One build at a time touches ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def copy(tree: Tree, to: Path) -> None:
    """A working copy, owners and extended attributes included."""
    shutil.rmtree(to, ignore_errors=True)
    run(["cp", "-a", "--reflink=auto", tree.path, to])
