# SPDX-License-Identifier: Apache-2.0
"""The recorder: root, one process a session, started by the socket. Record first, then tell, then the shell; no shell without a record."""

from __future__ import annotations

import logging
import os
import pwd
import signal
import socket
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from gateway import version
from gateway.break_glass import terminal
from gateway.break_glass.alert import Alert, alert
from gateway.break_glass.log import ConsoleLog
from gateway.break_glass.relay import Ending, Relay
from gateway.break_glass.request import Request, parse_request, peer_user, receive_request, send_answer
from gateway.break_glass.settings import BreakGlass
from gateway.break_glass.shell import SHELL, Shell
from gateway.errors import Fault, Refused

_log = logging.getLogger(__name__)
_PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Session:
    """One session's own part of its records."""

    id: str
    person: str
    tty: str

    def fields(self) -> dict[str, Any]:
        return {"session": self.id, "person": self.person, "tty": self.tty}


class Recorder:
    """``problem`` is what is wrong with the settings' file: then the defaults hold, and the record says so."""

    def __init__(self, settings: BreakGlass, problem: str = "", *, tell: Alert = alert, clock: Callable[[], float] = time.time,
                 shell: Sequence[str] = SHELL) -> None:
        self._settings, self._problem, self._tell, self._clock, self._argv = settings, problem, tell, clock, shell

    def settle(self) -> int:
        """Make what is missing, close what a killed recorder left open, and tell of it. Gives how many. Raises ``Fault``."""
        with ConsoleLog.open(self._settings, self._clock) as log:
            return self._told_of_orphans(log)

    def _told_of_orphans(self, log: ConsoleLog) -> int:
        for fields in log.orphaned:
            self._say(f"break-glass session of {fields.get('person')} on {fields.get('tty')} lost its recorder", "orphaned", fields)
        return len(log.orphaned)

    def serve(self, connection: socket.socket) -> int:
        """One connection, from request to end. 0 after a session, 1 where there was none."""
        connection.settimeout(_PATIENCE)
        owner = peer_user(connection)
        try:
            handle = self._received(connection, owner)
        except (Refused, OSError) as problem:
            return self._refused(connection, str(problem), {})
        request, screen = handle
        try:
            return self._session(connection, request, screen, owner)
        finally:
            os.close(screen)

    def _received(self, connection: socket.socket, owner: int) -> tuple[bytes, int]:
        if owner not in (os.geteuid(), _user(self._settings.account)):
            raise Refused(f"user {owner} may not break glass")
        return receive_request(connection)

    def _session(self, connection: socket.socket, line: bytes, handle: int, owner: int) -> int:
        """The log is open from the first decision to the last record."""
        try:
            log = ConsoleLog.open(self._settings, self._clock)
        except Fault as problem:
            return self._refused(connection, str(problem), {})
        with log:
            self._told_of_orphans(log)
            try:
                name = terminal.local_name(handle, self._settings.terminals)
                request = parse_request(line)
                screen = terminal.reopened(handle, name)
            except (Refused, OSError) as problem:
                with suppress(Fault):
                    log.record("break-glass.refused", {"reason": str(problem), "user": owner})
                return self._refused(connection, str(problem), {})
            try:
                return self._recorded(connection, log, request, name, screen, owner)
            finally:
                os.close(screen)

    def _recorded(self, connection: socket.socket, log: ConsoleLog, request: Request, name: str, screen: int, owner: int) -> int:
        session = Session(uuid.uuid4().hex, request.person, name)
        until = datetime.fromtimestamp(self._clock() + self._settings.max, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        fields = session.fields() | {"reason": request.reason, "login": self._settings.account, "host": socket.gethostname(),
                                     "until": until, "pid": os.getpid(), "version": version()}
        try:
            begin = log.record("break-glass.begin", fields | ({"settings": self._problem} if self._problem else {}))
            log.sign()
        except Exception as problem:  # whatever it is: no record, no shell
            return self._refused(connection, f"the audit record cannot be written ({type(problem).__name__})", fields)
        self._say(f"BREAK GLASS: {session.person} has a root shell on {name} until {until}: {request.reason}", "begin", fields)
        ending = self._shell(connection, log, session, begin, request.term, screen, owner)
        closing = session.fields() | {"begin": begin, "status": ending.status, "reason": ending.reason}
        try:
            log.record("break-glass.end", closing)
        except Exception as problem:
            _log.critical("break-glass.end is not on record: %s", problem)
        self._say(f"break-glass session of {session.person} on {name} ended: {ending.reason}", "end", closing)
        with suppress(OSError):
            send_answer(connection, ended=ending.reason)
        return 0

    def _shell(self, connection: socket.socket, log: ConsoleLog, session: Session, begin: int, term: str, screen: int,
               owner: int) -> Ending:
        def keep(recording: bytes, first: float, last: float) -> None:
            span = {"from": round(first, 6), "to": round(last, 6)}
            log.record("break-glass.data", {"session": session.id, "begin": begin, **span}, recording)

        shell = Shell.start(term, owner, self._argv)
        try:
            signal.signal(signal.SIGTERM, _stopped)
            send_answer(connection, session=session.id, seconds=round(self._settings.max))
            with terminal.raw(screen):
                return Relay(screen, connection.fileno(), shell, self._settings, keep).run()
        except _Stopped:
            return Ending("stopped", "the recorder was told to stop")
        except Fault as problem:
            return Ending("unrecorded", str(problem))
        except OSError as problem:
            return Ending("closed", f"the terminal failed: {problem.strerror}")
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            shell.end()

    def _refused(self, connection: socket.socket, why: str, fields: Mapping[str, Any]) -> int:
        self._say(f"break glass refused: {why}", "refused", fields)
        with suppress(OSError):
            send_answer(connection, refused=why)
        return 1

    def _say(self, text: str, event: str, fields: Mapping[str, Any]) -> None:
        shown = {f"LOCKGATE_{key.upper()}": str(fields[key]) for key in ("session", "person", "tty", "reason") if key in fields}
        self._tell(text, {"LOCKGATE_EVENT": f"break-glass.{event}", **shown})


class _Stopped(Exception):
    """SIGTERM came."""


def _stopped(*_: object) -> None:
    raise _Stopped


def _user(name: str) -> int:
    """-1, which nobody has, where there is no such account."""
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return -1
