# SPDX-License-Identifier: Apache-2.0
"""Connections to targets that a session left clean, until the next session of the same caller takes one over (``reuse`` of a resource).

::

    the caller says goodbye ─▶ Relay.left_clean ─▶ give ─▶ DISCARD ALL ─▶ kept ─▶ take ─▶ taken_over ─▶ the next session
                                      │                        │            │        │
                                      └────────────────────────┴────────────┴────────┴─▶ closed, wherever anything is not as it was

Same caller means: identity with issuer, subject, groups and entry; claimed user, resource, database, startup parameters. No byte of a
caller's is sent on a kept connection before its own session's record is on disk, and whatever the target says meanwhile closes it.
docs/decisions/0037.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.errors import TargetFault
from gateway.model import Session
from gateway.net.server import Supervisor
from gateway.protocols.postgres.catalog.load import CONTEXT_SQL, Row, parse_context
from gateway.protocols.postgres.messages import Terminate
from gateway.protocols.postgres.target import CLOSE_TIMEOUT, TargetConnection

log = logging.getLogger("gateway.postgres")

PER_CALLER = 8
"""Connections kept for one identity on one resource, those being made clean among them."""
IN_ALL = 64
"""In all, in one process; the one that waited longest goes first."""
OLDEST = 900.0
"""Seconds after its login that a connection is still given to a session: what the target would decide anew at a login, it then does."""
CLEAN_TIMEOUT = 5.0
CHECK_TIMEOUT = 2.0

WHO = 6
"""Parts of ``same_caller`` that are the identity's."""

Caller = tuple[object, ...]


def same_caller(session: Session, settings: Mapping[str, str]) -> Caller:
    """What two sessions must have in common to use one connection after the other."""
    who = session.identity
    return (who.name, who.issuer, who.subject, who.person, who.groups, who.entry,
            session.login, session.resource, session.database, *sorted(settings.items()))


@dataclass(slots=True, eq=False)
class Lease:
    """A connection, whom it is for, and what it was like after its login. ``opened_by`` is the session that logged in."""

    caller: Caller
    connection: TargetConnection
    resource: str
    under: object                                 # the policy that the session was admitted by
    opened_by: str
    opened: float                                 # loop time
    seconds: float                                # to be kept, unused
    reported: Mapping[str, str]
    context: Row = ()
    timer: asyncio.TimerHandle | None = field(default=None, repr=False)

    def as_it_was(self, row: Row) -> bool:
        """Whether role, pinned settings and reports are those of the login; the schemas may be others, but no temporary one may have been
        made: the catalog may still know what was in it. Raises ``TargetFault``."""
        then, now = parse_context(self.context), parse_context(row)
        return (now.user, now.session_user, now.role, *_settings(now)) == (then.user, then.session_user, then.role, *_settings(then)) \
            and now.user == now.session_user and now.temp_schema is None and self.connection.parameters == self.reported

    @property
    def owner(self) -> Caller:
        """Whose it is, whatever the startup parameters: ``PER_CALLER`` counts these."""
        return (*self.caller[:WHO], self.resource)


def _settings(state: Any) -> tuple[str, ...]:
    return (state.search_path, state.standard_conforming_strings, state.client_encoding, state.row_security,
            state.session_replication_role)


class Kept:
    """The kept connections of one listener. ``policy`` gives the one in force: what was opened under another is given to nobody."""

    def __init__(self, policy: Callable[[], object]) -> None:
        self._policy = policy
        self._closed = False
        self._idle: list[Lease] = []               # the one that came last is at the end
        self._cleaning: list[Lease] = []
        self._work = Supervisor()

    def __len__(self) -> int:
        return len(self._idle) + len(self._cleaning)

    @staticmethod
    def lease(session: Session, settings: Mapping[str, str], connection: TargetConnection, seconds: float, under: object) -> Lease:
        """For a connection that was just logged in, so that it can be given. ``under``: the policy that the session was admitted by."""
        return Lease(same_caller(session, settings), connection, session.resource, under, session.id, _now(), seconds,
                     connection.parameters)

    def _holds(self, lease: Lease) -> bool:
        return not self._closed and lease.under is self._policy()

    # a session ends

    def give(self, lease: Lease) -> None:
        """A session has left it, with nothing open and nothing owed: made clean in the background, or closed."""
        same = sum(one.owner == lease.owner for one in (*self._idle, *self._cleaning))
        if not self._holds(lease) or not lease.context or same >= PER_CALLER or len(self._cleaning) >= IN_ALL \
                or _now() - lease.opened >= OLDEST:
            self._hang_up(lease)
            return
        if len(self) >= IN_ALL:
            self._discard(self._idle[0])
        self._cleaning.append(lease)
        self._work.start(self._cleaned(lease), "clean connection")

    async def _cleaned(self, lease: Lease) -> None:
        stream, clean = lease.connection.stream, False
        try:
            await lease.connection.query("discard all", max_rows=0, timeout=CLEAN_TIMEOUT)
            clean = lease.connection.status == "I" and _silent(lease) and lease.connection.parameters == lease.reported
        except TargetFault as fault:
            log.info("a connection is not kept: %s", fault)
        finally:
            self._cleaning.remove(lease)
            if not (clean and self._holds(lease)):
                clean = False
                stream.abort()
        if not clean:
            return
        stream.tap, stream.when_gone = lambda data: self._spoke(lease), lambda: self._discard(lease)
        lease.timer = asyncio.get_running_loop().call_later(lease.seconds, self._discard, lease)
        self._idle.append(lease)

    def _spoke(self, lease: Lease) -> bool:
        """The target says something to nobody: it ends the connection, or a setting of it changed."""
        self._discard(lease)
        return True

    # a session begins

    async def take(self, session: Session, settings: Mapping[str, str]) -> tuple[Lease, Row] | None:
        """A connection for this session alone, and what ``CONTEXT_SQL`` answers on it now; ``None`` where none is as it was."""
        caller = same_caller(session, settings)
        lease = next((one for one in reversed(self._idle) if one.caller == caller), None)
        if lease is None:
            return None
        self._idle.remove(lease)
        self._release(lease)
        try:
            if self._holds(lease) and _silent(lease) and _now() - lease.opened < OLDEST:
                rows = await lease.connection.query(CONTEXT_SQL, max_rows=1, timeout=CHECK_TIMEOUT)
                if rows and lease.as_it_was(rows[0]) and lease.connection.status == "I" and self._holds(lease):
                    return lease, rows[0]
        except TargetFault:
            self.forget(lease.resource)            # the server was most likely started anew
        except BaseException:
            lease.connection.stream.abort()
            raise
        lease.connection.stream.abort()
        return None

    # all of them

    def forget(self, resource: str | None = None) -> None:
        """Close what is kept of a resource, or everything."""
        for lease in [one for one in self._idle if resource in (None, one.resource)]:
            self._discard(lease)

    async def make_room(self, servers: Collection[tuple[str, int]]) -> bool:
        """Close what is kept at these servers (host, port), whatever the resource, and wait until they have let go; whether any was."""
        found = [one for one in self._idle if (one.connection.address.host, one.connection.address.port) in servers]
        for lease in found:
            self._idle.remove(lease)
            self._release(lease)
        await asyncio.gather(*(_let_go(lease.connection) for lease in found))
        return bool(found)

    def reloaded(self) -> None:
        """Policy or credentials may be others: nothing that was opened before is given to anybody."""
        self.forget()

    async def close(self) -> None:
        """The gateway stops."""
        self._closed = True
        self.forget()
        await self._work.drain(CHECK_TIMEOUT)
        await self._work.close()

    def _discard(self, lease: Lease) -> None:
        if lease in self._idle:
            self._idle.remove(lease)
            self._release(lease)
            self._hang_up(lease)

    @staticmethod
    def _release(lease: Lease) -> None:
        lease.connection.stream.tap = lease.connection.stream.when_gone = None
        if lease.timer is not None:
            lease.timer.cancel()
            lease.timer = None

    def _hang_up(self, lease: Lease) -> None:
        self._work.start(lease.connection.close(), "goodbye")


def _silent(lease: Lease) -> bool:
    """Nothing of the target's is unread, and it is there."""
    stream = lease.connection.stream
    return not stream.buffered and not stream.ended and not stream.has_gone()


async def _let_go(connection: TargetConnection) -> None:
    """Say goodbye and wait for the target to close: only then its place there is free."""
    connection.stream.write(Terminate().encode())
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_TIMEOUT):
            while await connection.stream.read():
                pass
    connection.stream.abort()


def _now() -> float:
    return asyncio.get_running_loop().time()
