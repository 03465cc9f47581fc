# SPDX-License-Identifier: Apache-2.0
"""Who could change or read the folder: contract sections 1 and 6, *Files*.

Every file and every folder on the way to it, up to ``/`` and through symbolic links, belongs to root or the service user and nobody
else can write it. A sticky world-writable folder (``/tmp``) is safe when what follows in it belongs to root or the service user. The
service user is the one that runs this, and the account ``lockgate`` where there is one.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ACCOUNT = "lockgate"
_WRITABLE = stat.S_IWGRP | stat.S_IWOTH
_READABLE = stat.S_IRGRP | stat.S_IROTH
_LINKS = 40
"""As many symbolic links as Linux follows (path_resolution(7))."""


@dataclass(frozen=True, slots=True)
class Trusted:
    """``users`` may own the folder; a file of root may be readable by ``groups``, which are the service user's own."""

    users: frozenset[int]
    groups: frozenset[int]


def trusted() -> Trusted:
    """Root, this process's user, and the account ``lockgate``."""
    users, groups = {0, os.geteuid()}, {os.getegid()} if os.geteuid() else set()
    try:
        account = pwd.getpwnam(ACCOUNT)
        users.add(account.pw_uid)
        groups.add(account.pw_gid)
    except KeyError:
        pass
    return Trusted(frozenset(users), frozenset(groups))


@dataclass(slots=True)
class _Walk:
    """A path being followed: ``at`` is reached and holds no link, ``ahead`` is what is left of the way, nearest last."""

    ahead: list[str]
    at: Path = Path("/")
    links: int = 0

    def follow(self, link: Path) -> str | None:
        """Go on where a symbolic link points to."""
        self.links += 1
        if self.links > _LINKS:
            return f"expected a file, but {link} is one of more than {_LINKS} symbolic links"
        target = link.readlink()
        self.at = Path("/") if target.is_absolute() else self.at
        self.ahead.extend(reversed(target.parts[1:] if target.is_absolute() else target.parts))
        return None


@dataclass(slots=True)
class Guard:
    """Looks at paths and remembers the folders it has already found safe."""

    trusted: Trusted = field(default_factory=trusted)
    _safe: set[str] = field(default_factory=set)

    def complaint(self, path: Path) -> str | None:
        """Why somebody else could change ``path`` or what leads to it; ``None`` when nobody could."""
        walk = _Walk(list(reversed(path.absolute().parts[1:])))
        found = self._one("/", os.lstat("/"))
        while walk.ahead and found is None:
            found = self._step(walk)
        return found

    def _step(self, walk: _Walk) -> str | None:
        part = walk.ahead.pop()
        if part == "..":
            walk.at = walk.at.parent
            return None
        here = walk.at / part
        try:
            info, above = here.lstat(), walk.at.lstat()
        except OSError as wrong:
            return f"expected {here} to be there: {wrong.strerror}"
        if _sticky(above) and info.st_uid not in self.trusted.users:
            return self._owner(str(here), info)
        if stat.S_ISLNK(info.st_mode):
            return walk.follow(here)
        walk.at = here
        return self._one(str(here), info)

    def _one(self, path: str, info: os.stat_result) -> str | None:
        if path in self._safe:
            return None
        if info.st_uid not in self.trusted.users:
            return self._owner(path, info)
        if info.st_mode & _WRITABLE and not _sticky(info):
            return f"expected {path} not to be writable by others (mode {stat.S_IMODE(info.st_mode):04o}): chmod go-w"
        self._safe.add(path)
        return None

    def _owner(self, path: str, info: os.stat_result) -> str:
        names = " or ".join(sorted(_user(uid) for uid in self.trusted.users))
        return f"expected {path} to belong to {names}, not to {_user(info.st_uid)}"

    def readable(self, path: Path) -> str | None:
        """Why somebody else could read ``path``; ``None`` when nobody could."""
        info = path.stat()
        open_to = info.st_mode & _READABLE
        if info.st_uid == 0 and info.st_gid in self.trusted.groups:
            open_to &= ~stat.S_IRGRP
        if open_to:
            return f"expected {path} not to be readable by others (mode {stat.S_IMODE(info.st_mode):04o}): chmod go-rwx"
        return None


def _sticky(info: os.stat_result) -> bool:
    return stat.S_ISDIR(info.st_mode) and bool(info.st_mode & stat.S_ISVTX)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def files(folder: Path) -> Iterator[Path]:
    """Every file and folder inside, links not followed. Raises ``OSError`` where a folder cannot be read; none there is empty."""
    for at, folders, names in walk(folder):
        for name in sorted((*folders, *names)):
            yield at / name


def walk(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """As ``os.walk``, but what cannot be read is an error and not left out: a deny might be in it."""
    def refuse(wrong: OSError) -> None:
        if not isinstance(wrong, FileNotFoundError):
            raise wrong

    for at, folders, names in os.walk(folder, onerror=refuse):
        yield Path(at), folders, names
