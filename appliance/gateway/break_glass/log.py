# SPDX-License-Identifier: Apache-2.0
"""The console log: the gateway's audit format, written by one process at a time, synchronously, in a folder that only root can write.

``STATE/audit`` and ``STATE/recordings`` are as the gateway's; the key that signs is the console's own, so that neither a missing TPM, nor
a broken configuration, nor a captured gateway stands between a person and a record. ``audit`` may be read by the group ``lockgate``, so
that the gateway can export, verify and watch it; recordings are root's alone.

Who can read a file of SQLite's can also lock it, and so can a captured gateway. A log that is held so is kept beside, and a new one begins
that only root can read, until somebody removes ``STATE/withheld``.
"""

from __future__ import annotations

import errno
import fcntl
import grp
import logging
import os
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.audit.files import check_sqlite, sync_directory
from gateway.audit.inbox import Entry
from gateway.audit.journal import Journal
from gateway.audit.log import prepare
from gateway.audit.note import fingerprint, load_private_key, raw_public
from gateway.audit.place import CONSOLE_KEY
from gateway.audit.record import FORMAT
from gateway.audit.recover import Recovered
from gateway.audit.space import Reserve
from gateway.audit.writer import boot_id
from gateway.break_glass.settings import BreakGlass
from gateway.config.fresh import audit_key, write_new
from gateway.config.modes import ACCOUNT
from gateway.errors import AuditUnavailable, GatewayFault, Refused

_log = logging.getLogger(__name__)
_NEEDED = 2 * 2**20
"""Free bytes below which the reserve is given up before anything is tried."""
_SEAL = 1.0
_TURN, _WITHHELD = "session.lock", "withheld"
"""The lock that keeps sessions apart, for root alone; and the mark that the group must not read the log."""


class ConsoleLog:
    """``record`` returns once the record is on disk, or raises ``AuditUnavailable``; then nothing more may happen."""

    def __init__(self, state: Path, journal: Journal, public: bytes, reserve: Reserve, locks: tuple[int, ...],
                 clock: Callable[[], float]) -> None:
        self._state, self._journal, self._public, self._reserve, self._locks, self._clock = state, journal, public, reserve, locks, clock
        self._sealed = 0.0
        self.orphaned: list[Mapping[str, Any]] = []

    @classmethod
    def open(cls, settings: BreakGlass, clock: Callable[[], float] = time.time, vfs: str | None = None) -> ConsoleLog:
        """Open or begin the log, and close what a killed recorder left open. Raises ``Refused`` where another session has it,
        ``AuditUnavailable`` where it cannot be written, or ``GatewayFault``.

        A log whose end is not what was written, or that somebody holds, is kept beside, under ``damaged``, and a new one begins: it is
        evidence, not a bolt.
        """
        state = Path(settings.state)
        try:
            check_sqlite()
            _folders(state)
            turn = _turn(state)
            try:
                return cls._alone(settings, clock, vfs, turn)
            except BaseException:
                os.close(turn)
                raise
        except (apsw.Error, OSError) as error:
            raise _unavailable(error) from None

    @classmethod
    def _alone(cls, settings: BreakGlass, clock: Callable[[], float], vfs: str | None, turn: int) -> ConsoleLog:
        state = Path(settings.state)
        try:
            aside = _set_aside(state) if _withheld(state) and _open_to_group(state) else ""
            return cls._opened(settings, clock, vfs, turn, aside)
        except _Damaged:
            return cls._opened(settings, clock, vfs, turn, _set_aside(state))
        except _Held:
            _withhold(state)
            return cls._opened(settings, clock, vfs, turn, _set_aside(state))

    @classmethod
    def _opened(cls, settings: BreakGlass, clock: Callable[[], float], vfs: str | None, turn: int, damaged: str) -> ConsoleLog:
        state = Path(settings.state)
        _folders(state)
        reserve = Reserve(state / "reserve", settings.reserve)
        if _room(state) < _NEEDED:
            reserve.release()
        try:
            place, lock = prepare(state, settings.origin, settings.segment, vfs)
        except GatewayFault:
            if _locked(state / "audit" / "lock"):
                raise _Held from None
            raise
        try:
            (state / "audit" / "lock").chmod(0o640)
            key = _key(state)
            log = cls(state, Journal(replace(place, mode=0o640), key), raw_public(key.public_key()), reserve, (lock, turn), clock)
            log._begin(settings.retention, damaged)
        except apsw.BusyError:
            log._journal.abandon()
            os.close(lock)
            raise _Held from None
        except BaseException:
            os.close(lock)
            raise
        return log

    def _begin(self, retention: float, damaged: str) -> None:
        try:
            found = self._recovered()
        except apsw.BusyError:
            raise
        except (apsw.Error, OSError):
            if not self._give():
                raise
            self._journal.abandon()
            found = self._recovered()
        opened = {"format": FORMAT, "key": fingerprint(self._public), "sqlite": apsw.sqlite_lib_version(), "unsealed": found.unsealed,
                  "orphaned": len(found.standing.consoles), "boot": boot_id(), **({"damaged": damaged} if damaged else {})}
        leftovers = self._journal.standing.leftovers()
        self._commit([("audit.opened", opened), *leftovers])
        self.orphaned = [fields for _, fields in leftovers]
        self.sign()
        self._roll(retention)
        with suppress(OSError):  # on a full disk the session goes on in the room that the reserve gave up
            self._reserve.ensure()

    def _recovered(self) -> Recovered:
        try:
            return self._journal.open(self._now(), alone=True)
        except GatewayFault:
            self._journal.abandon()
            raise _Damaged from None

    def _roll(self, retention: float) -> None:
        """A new file each month, so that old ones can go when their time is over: each is on record before."""
        with suppress(apsw.Error, OSError):
            if self._journal.created[:7] < time.strftime("%Y-%m", time.gmtime(self._clock())):
                self._journal.roll(self._now())
            for expired in self._journal.expired(int((self._clock() - retention) * 1e6)):
                fields = {"file": expired.path.name, "first": expired.first, "last": expired.last, "recordings": len(expired.recordings)}
                self._commit([("audit.pruned", fields)])
                expired.remove()

    def record(self, kind: str, fields: Mapping[str, Any], recording: bytes | None = None) -> int:
        """Gives the record's seq. Raises ``AuditUnavailable``."""
        try:
            seq = self._commit([(kind, fields)], recording)
            if time.monotonic() >= self._sealed + _SEAL:
                self.sign()
        except (apsw.Error, OSError) as error:
            if isinstance(error, apsw.BusyError):
                _withhold(self._state)
            raise _unavailable(error) from None
        return seq

    def sign(self) -> None:
        """A checkpoint over everything so far. Raises ``apsw.Error`` or ``OSError``."""
        self._retried([], sign=True)
        self._sealed = time.monotonic()

    def _commit(self, records: Sequence[tuple[str, Mapping[str, Any]]], recording: bytes | None = None) -> int:
        moment = self._now()
        entries = [Entry(None, [record], moment, recording=recording) for record in records]
        self._retried(entries)
        for entry in entries:
            if isinstance(entry.value, AuditUnavailable):
                raise entry.value
        seq = entries[-1].value
        assert isinstance(seq, int)
        return seq

    def _retried(self, entries: Sequence[Entry], *, sign: bool = False) -> None:
        """Once more in the room of the reserve where the disk is full."""
        try:
            self._journal.commit(entries, self._now(), sign=sign)
        except (apsw.FullError, OSError) as error:
            if not _is_full(error) or not self._give():
                raise
            self._journal.commit(entries, self._now(), sign=sign)

    def _give(self) -> bool:
        """Whether there was a reserve to give up."""
        if not self._reserve.path.exists():
            return False
        self._reserve.release()
        return True

    def _now(self) -> int:
        return int(self._clock() * 1e6)

    def close(self) -> None:
        """A last checkpoint, and the reserve whole again where there is room."""
        if not self._locks:
            return
        try:
            self.sign()
            self._journal.seal()
        except (apsw.Error, OSError):
            self._journal.abandon()
        with suppress(OSError):
            self._reserve.ensure()
        for lock in self._locks:
            os.close(lock)
        self._locks = ()

    def __enter__(self) -> ConsoleLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Damaged(Exception):
    """The end of the log is not what was written."""


class _Held(Exception):
    """Somebody who can read the log has locked it."""


def _turn(state: Path) -> int:
    """The lock of the one session there may be. Raises ``Refused`` or ``OSError``."""
    lock = os.open(state / _TURN, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    if not _taken(lock):
        os.close(lock)
        raise Refused("another break-glass session is open")
    return lock


def _taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _locked(path: Path) -> bool:
    """Whether somebody else has a lock on it. Raises ``OSError``."""
    lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        return not _taken(lock)
    finally:
        os.close(lock)


def _withheld(state: Path) -> bool:
    return os.path.lexists(state / _WITHHELD)


def _withhold(state: Path) -> None:
    """From now on the group does not read the log. What it has open already is kept beside when the next session begins."""
    _log.error("somebody holds the console's log: it is for root alone as long as %s is there", state / _WITHHELD)
    with suppress(OSError):
        os.close(os.open(state / _WITHHELD, os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))


def _open_to_group(state: Path) -> bool:
    try:
        return bool((state / "audit").lstat().st_mode & 0o050)
    except FileNotFoundError:
        return False


def _set_aside(state: Path) -> str:
    """Keep a log that cannot be gone on with as it is and make room for a new one; gives the name of the folder it is in."""
    name = time.strftime("damaged-%Y%m%dT%H%M%SZ", time.gmtime())
    kept = state / name
    kept.mkdir(mode=0o700)
    for folder in ("audit", "recordings"):
        (state / folder).rename(kept / folder)
    sync_directory(kept)
    sync_directory(state)
    return name


def _folders(state: Path) -> None:
    """Made where they are missing; refused where somebody else could change them."""
    group = _group()
    closed = _withheld(state)
    if closed and (state / "audit").exists() and _open_to_group(state):
        closed = False  # what the group may have open is kept beside first
    for folder, mode in ((state, 0o2750), (state / "audit", 0o700 if closed else 0o2750), (state / "recordings", 0o700)):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        info = folder.lstat()
        if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid() or info.st_mode & 0o022:
            raise GatewayFault(f"{folder}: expected a folder of this user that nobody else can write")
        if stat.S_IMODE(info.st_mode) != mode or info.st_gid != (group if mode != 0o700 else info.st_gid):
            os.chown(folder, -1, group if mode != 0o700 else -1)
            folder.chmod(mode)
    for path in () if closed else (state / "audit").glob("*.db*"):    # a copy that was put back may have lost its group
        if path.lstat().st_gid != group:
            os.chown(path, -1, group, follow_symlinks=False)


def _group() -> int:
    """The service's group may read the log; where there is none, nobody else may."""
    if os.geteuid() == 0:
        with suppress(KeyError):
            return grp.getgrnam(ACCOUNT).gr_gid
    return os.getegid()


def _key(state: Path) -> Ed25519PrivateKey:
    """The console's own key, made once."""
    path, public = state / CONSOLE_KEY.removesuffix(".pub"), state / CONSOLE_KEY
    if not path.exists():
        _written(path, audit_key(), 0o600)
    key = load_private_key(path)
    if not public.exists():
        text = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        _written(public, text + b"\n", 0o644)
    return key


def _written(path: Path, content: bytes, mode: int) -> None:
    """All of it or nothing. Raises ``OSError``."""
    try:
        write_new(path, content, mode)
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _room(state: Path) -> int:
    """Free bytes for this user (root may use what a filesystem keeps back for it)."""
    found = os.statvfs(state)
    return (found.f_bfree if os.geteuid() == 0 else found.f_bavail) * found.f_frsize


def _is_full(error: Exception) -> bool:
    return isinstance(error, apsw.FullError) or isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _unavailable(error: BaseException) -> AuditUnavailable:
    said = error.strerror if isinstance(error, OSError) else type(error).__name__
    return AuditUnavailable(f"the console's audit record cannot be written ({said})")

