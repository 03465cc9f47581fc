# SPDX-License-Identifier: Apache-2.0
"""Makes a role on the target for each session, drops it when the session is over, and sweeps up what a crash left.

::

    session.start ─▶ credential.issued (on disk) ─▶ CREATE ROLE … ─▶ the session logs in as it ─▶ … ─▶ the session ends
                       ─▶ its connections are terminated ─▶ REASSIGN OWNED | DROP OWNED ─▶ DROP ROLE ─▶ credential.revoked | credential.left

``ephemeral.py`` holds the SQL. Everything runs over connections of the administrative login of the credential, on which no text of a
caller's is ever sent: for each database one that makes and one that drops, so that a session that is hard to drop keeps nobody out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gateway.audit.journal import worker_suffix
from gateway.config.load import Folder
from gateway.credentials import Credential
from gateway.errors import AuditUnavailable, GatewayFault, TargetFault
from gateway.govern import session_fields
from gateway.model import Session
from gateway.protocols.postgres import ephemeral
from gateway.protocols.postgres.ephemeral import KIND, Mark, OneTimeLogin
from gateway.protocols.postgres.settings import PostgresResource
from gateway.protocols.postgres.target import TargetConnection
from gateway.protocols.postgres.towards import Towards

if TYPE_CHECKING:
    from gateway.datapath import DataPath

log = logging.getLogger("gateway.postgres")

ADMIN_SETTINGS = {"search_path": "pg_catalog", "application_name": "lockgate roles", "statement_timeout": "30000", "lock_timeout": "2000",
                  "idle_in_transaction_session_timeout": "60000", "synchronous_commit": "off"}
"""A target that crashes takes the sessions with it; a role that comes back with its recovery is swept."""
SWEEP_EVERY = 60.0
SOON = 1.0
"""Seconds after which what a session left is tried again, and twice that each time it is left once more, up to ``SWEEP_EVERY``: what kept
it (a lock, a slow end of a connection) is often gone by then."""
IDLE = 5.0
"""Seconds after which a kept connection is tried before it is trusted."""
DOWN = 1.0
"""Seconds for which a target that could not be reached is not tried again: many sessions may end at once."""
CLOSE_TIMEOUT = 5.0
INSTANCE = "roles.instance"

_T = TypeVar("_T")


class Left(Exception):
    """A role that could not be dropped, and why."""


class Admin:
    """The administrative connection to one database, opened when it is needed; one piece of work at a time."""

    def __init__(self, towards: Towards, resource: PostgresResource, database: str, credential: Credential) -> None:
        self._towards, self.resource, self.database, self.credential = towards, resource, database, credential
        self._connection: TargetConnection | None = None
        self._lock = asyncio.Lock()
        self._used = 0.0
        self._retired = False
        self._failed: tuple[float, TargetFault] | None = None
        self.version = 0

    async def run(self, work: Callable[[TargetConnection], Awaitable[_T]]) -> _T:
        """``work`` has the connection for itself. What it leaves open is rolled back. Raises what it raises, and ``TargetFault``."""
        async with self._lock:
            connection = await self._connected()
            try:
                return await work(connection)
            except (ValueError, LookupError, TypeError):
                raise TargetFault("the target answered a query of the gateway's own with another shape", "08P01") from None
            finally:
                self._used = time.monotonic()
                await self._settle(connection)
                if self._retired:
                    await self._hang_up()

    async def _connected(self) -> TargetConnection:
        if self._connection is not None and not await self._alive(self._connection):
            self._connection = None
        if self._connection is None:
            self._connection = await self._opened()
            match await self._connection.query("show server_version_num"):
                case [(str(number),)] if number.isdecimal():
                    self.version = int(number) // 10000
                case _:
                    raise TargetFault("the target did not say its version", "08P01")
        return self._connection

    async def _opened(self) -> TargetConnection:
        if self._failed is not None and time.monotonic() - self._failed[0] < DOWN:
            raise TargetFault(str(self._failed[1]), self._failed[1].code)
        try:
            return await self._towards.open(self.resource, self.database, ADMIN_SETTINGS)
        except TargetFault as fault:
            self._failed = time.monotonic(), fault
            raise

    async def _alive(self, connection: TargetConnection) -> bool:
        if connection.stream.gone.is_set() or connection.stream.buffered:
            connection.stream.abort()
            return False
        if time.monotonic() - self._used < IDLE:
            return True
        try:
            return await connection.query("select 1", timeout=2.0) == [("1",)]
        except (TargetFault, OSError):
            connection.stream.abort()
            return False

    async def _settle(self, connection: TargetConnection) -> None:
        """After work that failed the connection is used again only if it can be rolled back."""
        if connection.status == "I" and not connection.stream.gone.is_set():
            return
        try:
            await connection.query("rollback", timeout=5.0)
        except (TargetFault, OSError):
            connection.stream.abort()
            self._connection = None

    async def close(self) -> None:
        """Hang up; once the work is done, where there is any."""
        self._retired = True
        if not self._lock.locked():
            await self._hang_up()

    async def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


@dataclass(slots=True)
class Lease:
    """A role that was made, or is about to be, and whom it is for. ``admin`` drops it. ``fields`` begin its records; ``asked`` once the
    target was asked to make it."""

    role: str
    mark: Mark
    admin: Admin
    fields: Mapping[str, Any]
    asked: bool = False


class SessionRoles:
    """All roles of one listener's sessions. ``towards`` gives how resources are reached now."""

    def __init__(self, gateway: DataPath, towards: Callable[[], Towards]) -> None:
        self._gateway, self._towards = gateway, towards
        settings = gateway.folder.gateway
        self._name, self._segment = settings.name, settings.segment
        self._instance = ""
        self._leases: dict[str, Lease] = {}
        self._makers: dict[tuple[PostgresResource, str], Admin] = {}
        self._droppers: dict[tuple[PostgresResource, str], Admin] = {}
        self._told: dict[tuple[str, str], str] = {}
        self._leftover = asyncio.Event()

    # --- a session's role -----------------------------------------------------------------------------------------------------

    async def issue(self, session: Session, resource: PostgresResource, database: str) -> OneTimeLogin | None:
        """What this session logs in with; ``None`` where the credential is of another kind and all sessions share it.

        Raises ``TargetFault`` (28000) when the role could not be made, ``AuditUnavailable`` when that could not be recorded; in both cases
        the session must not begin. ``revoke`` has to be called whatever happens.
        """
        credential = self._gateway.folder.credentials[resource.credential]
        if credential.kind != KIND:
            return None
        mark = Mark(self._name, self._segment, self._instance_number(), session.id, resource.name, database)
        login = await asyncio.to_thread(ephemeral.one_time_login, ephemeral.role_name(self._name, session.id))
        about = {"credential": credential.name, "role": login.username}
        lease = Lease(login.username, mark, self._admin(self._droppers, resource, database),
                      session_fields(session, self._gateway.policy) | about)
        until = self._latest_end(session)
        await self._gateway.audit.record("credential.issued", {
            **lease.fields, "member_of": list(credential.member_of), "until": ephemeral.moment(until)})
        self._leases[session.id] = lease
        await self._create(lease, login, self._admin(self._makers, resource, database), until)
        return login

    async def _create(self, lease: Lease, login: OneTimeLogin, admin: Admin, until: float) -> None:
        async def work(connection: TargetConnection) -> None:
            lease.asked = True
            await connection.query(ephemeral.create(login, lease.mark, admin.credential.member_of, until, admin.version))

        try:
            async with asyncio.timeout(self._gateway.folder.gateway.limits.target_connect):
                await admin.run(work)
        except (TargetFault, OSError, TimeoutError) as fault:
            reason = "the target did not make it in time" if isinstance(fault, TimeoutError) else str(fault)
            log.error("%s: the role %s could not be made: %s", lease.mark.resource, lease.role, reason)
            raise TargetFault(f"no role could be made for this session: {reason}", "28000") from None

    def _latest_end(self, session: Session) -> float:
        limits = self._gateway.policy.session_limits(session.identity, session.resource, self._gateway.now())
        ends = (session.identity.session_until, limits.until, None if limits.max is None else session.started + limits.max)
        return min((end for end in ends if end is not None), default=session.identity.session_until)

    async def revoke(self, session_id: str) -> None:
        """The session is over: drop its role. What cannot be dropped now is locked, reported and tried again by the sweep."""
        lease = self._leases.get(session_id)
        if lease is None:
            return
        self._gateway.live.remove(session_id)       # the caller is gone, and may come back before this is done
        await self._drop(lease, {})
        self._leases.pop(session_id, None)
        if lease.admin not in self._droppers.values() and all(other.admin is not lease.admin for other in self._leases.values()):
            await lease.admin.close()

    async def _drop(self, lease: Lease, more: Mapping[str, Any]) -> None:
        """Drop it and record that; never raises for what the target or the log did."""
        try:
            found = await self._dropped(lease) if lease.asked else False
        except (TargetFault, OSError, Left) as reason:
            await self._left(lease, str(reason), more)
            return
        self._told.pop((lease.mark.resource, lease.role), None)
        await self._record("credential.revoked", {**lease.fields, **more, "found": found})

    async def _dropped(self, lease: Lease) -> bool:
        """With the login that made it; with the one that holds now where that one is no longer let in."""
        async def work(connection: TargetConnection) -> bool:
            return await drop_role(connection, lease.role, lease.mark, admin)

        admin = lease.admin
        try:
            return await admin.run(work)
        except TargetFault as fault:
            resource = self._gateway.policy.resources.get(lease.mark.resource)
            if not fault.code.startswith("28") or not isinstance(resource, PostgresResource):
                raise
            admin = self._admin(self._droppers, resource, lease.mark.database)
            return await admin.run(work)

    async def _left(self, lease: Lease, reason: str, more: Mapping[str, Any]) -> None:
        self._leftover.set()
        if self._news(lease.mark.resource, lease.role, reason):
            log.error("%s: the role %s is left on the target and will be tried again: %s", lease.mark.resource, lease.role, reason)
            await self._record("credential.left", {**lease.fields, **more, "reason": reason})

    def _news(self, resource: str, what: str, reason: str) -> bool:
        """Whether this was not told already."""
        if self._told.get((resource, what)) == reason:
            return False
        self._told[resource, what] = reason
        return True

    async def _record(self, kind: str, fields: Mapping[str, Any]) -> None:
        try:
            await self._gateway.audit.record(kind, fields)
        except AuditUnavailable:
            log.error("the audit log cannot be written; %s of the role %s is not recorded", kind, fields["role"])

    # --- what a crash left ------------------------------------------------------------------------------------------------------

    async def tend(self) -> None:
        """Sweep now and then, until cancelled, and sooner after something was left."""
        pause = SOON
        while True:
            self._leftover.clear()
            await self.sweep()
            pause = min(2 * pause, SWEEP_EVERY) if self._leftover.is_set() else SWEEP_EVERY
            self._leftover.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._leftover.wait()
                    pause = SOON
                    await asyncio.sleep(SOON)

    async def sweep(self) -> None:
        """Drop every role of this gateway whose session is not live. A target that cannot be reached is tried again next time."""
        for resource in list(self._gateway.policy.resources.values()):
            if isinstance(resource, PostgresResource) and self._gateway.folder.credentials[resource.credential].kind == KIND:
                for database in resource.offered:
                    await self._sweep(self._admin(self._droppers, resource, database))

    async def _sweep(self, admin: Admin) -> None:
        name = admin.resource.name
        try:
            found = await admin.run(lambda connection: named(connection, self._name))
        except (TargetFault, OSError) as fault:
            if self._news(name, f"database {admin.database}", str(fault)):
                log.warning("%s/%s could not be searched for roles of sessions that are over: %s", name, admin.database, fault)
            return
        self._told.pop((name, f"database {admin.database}"), None)
        for role, mark, over in found:
            if self._is_abandoned(role, mark, admin, over):
                await self._drop(Lease(role, mark, admin, self._swept_fields(role, mark, admin), asked=True), {"swept": True})

    def _is_abandoned(self, role: str, mark: Mark, admin: Admin, over: bool) -> bool:
        """Whether it is this gateway's, and of a session that is not live. Of another state folder's only when its time is over."""
        if not ephemeral.is_ours(self._name, role) or (mark.gateway, mark.segment) != (self._name, self._segment):
            return False
        if mark.session in self._leases or any(mark.session == session.id for session in self._gateway.live.all()):
            return False
        return (mark.instance == self._instance_number() or over) and self._is_place(mark, admin)

    def _is_place(self, mark: Mark, admin: Admin) -> bool:
        """Whether the role is looked after from here: its own resource and database, or any where those are no longer served."""
        if (mark.resource, mark.database) == (admin.resource.name, admin.database):
            return True
        theirs = self._gateway.policy.resources.get(mark.resource)
        return not isinstance(theirs, PostgresResource) or mark.database not in theirs.offered

    def _swept_fields(self, role: str, mark: Mark, admin: Admin) -> dict[str, Any]:
        return {"session": mark.session, "resource": mark.resource, "protocol": "postgres", "policy": self._gateway.policy.digest,
                "credential": admin.credential.name, "role": role}

    # --- connections ------------------------------------------------------------------------------------------------------------

    def _admin(self, admins: dict[tuple[PostgresResource, str], Admin], resource: PostgresResource, database: str) -> Admin:
        found = admins.get((resource, database))
        if found is None:
            credential = self._gateway.folder.credentials[resource.credential]
            found = admins[resource, database] = Admin(self._towards(), resource, database, credential)
        return found

    def _instance_number(self) -> str:
        if not self._instance:
            self._instance = instance(self._gateway.folder.state / f"{INSTANCE}{worker_suffix(self._gateway.worker)}")
        return self._instance

    async def reloaded(self) -> None:
        """The folder changed: new roles are made with what it says now. Leases keep the login that can drop their role; where its password
        no longer works, the sweep does it with the new one."""
        kept = [lease.admin for lease in self._leases.values()]
        former = [*self._makers.values(), *(admin for admin in self._droppers.values() if admin not in kept)]
        self._makers, self._droppers = {}, {}
        for admin in former:
            await admin.close()

    async def close(self) -> None:
        """Drop what is still there, for a bounded time, and hang up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                for session_id in list(self._leases):
                    await self.revoke(session_id)
        for admin in (*self._makers.values(), *self._droppers.values(), *(lease.admin for lease in self._leases.values())):
            await admin.close()


async def named(connection: TargetConnection, gateway: str) -> list[tuple[str, Mark, bool]]:
    """Every role that bears the gateway's prefix and a mark, and whether its time is over. Raises ``TargetFault``, ``ValueError``."""
    rows = await connection.query(ephemeral.ours(gateway))
    found = [(name, Mark.parse(comment), over == "true") for name, comment, over, _ in rows]
    return [(name, mark, over) for name, mark, over in found if name is not None and mark is not None]


async def drop_role(connection: TargetConnection, role: str, mark: Mark, admin: Admin) -> bool:
    """Drop one role with everything it holds here. False where there is none with this mark: it comes into being together with it.

    Raises ``Left`` and ``TargetFault``.
    """
    if not any((name, found) == (role, mark) for name, found, _ in await named(connection, mark.gateway)):
        return False
    owner, version = admin.credential.owner, admin.version
    await connection.query(ephemeral.lock(role))
    gone = await connection.query(ephemeral.take_over(role, owner, version))
    if any(row != ("t",) for row in gone):
        raise Left("a connection, or a prepared transaction, of it could not be ended")
    await connection.query(ephemeral.drop(role, owner, version))
    return True


def role_prefix(folder: Folder, resource: PostgresResource) -> str:
    """What the names of the roles that sessions on it log in as begin with; empty where they all share one."""
    return ephemeral.prefix(folder.gateway.name) if folder.credentials[resource.credential].kind == KIND else ""


def instance(path: Path) -> str:
    """The state folder's own number, made on first use. Raises ``GatewayFault``."""
    try:
        number = path.read_text("ascii").strip()
    except FileNotFoundError:
        number = secrets.token_hex(8)
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(number + "\n")
            file.flush()
            os.fsync(handle)
    if len(number) != 16:
        raise GatewayFault(f"{path}: expected 16 hexadecimal digits")
    return number
