# SPDX-License-Identifier: Apache-2.0
"""What sessions run on: the folder, the policy compiled from it, who is live, the audit log, and the listeners.

``build.Gateway`` is one with everything around it; with ``workers: N`` each worker is one too (``workers.worker``).
"""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway import version
from gateway.audit.log import AuditLog
from gateway.audit.note import load_private_key
from gateway.config.load import Folder, load_folder
from gateway.config.schema import GatewayConfig, Listener
from gateway.errors import AuditUnavailable, ConfigError
from gateway.govern import Approvals
from gateway.identity.authenticate import Authenticator
from gateway.identity.clock import Clock, keep_floor, read_floor, start_floor
from gateway.live import Connections, LiveSessions, Rates
from gateway.net.server import Server, Supervisor, bound, serve
from gateway.policy.policy import Policy, compile_policy
from gateway.protocols.listening import ProtocolListener, listener
from gateway.protocols.postgres.cancelkeys import CancelKeys
from gateway.recording.live import Hub

log = logging.getLogger("gateway")


@dataclass(slots=True)
class _Open:
    """A listener that is up."""

    name: str
    server: Server
    handler: ProtocolListener


@dataclass(frozen=True, slots=True)
class Change:
    """A folder that could be put in force as it is; ``listeners`` is what each listener made of it."""

    folder: Folder
    policy: Policy
    authenticator: Authenticator
    listeners: Mapping[str, Any]


ONLY_AT_START = ("name", "segment", "state", "listeners", "workers", "audit")
"""Keys of gateway.yaml that a reload reads and does not put in force; so are these of ``limits``."""
LIMITS_ONLY_AT_START = ("operations_per_identity", "approvals_pending", "approvals_pending_per_identity", "held")


def waiting_for_a_restart(started: GatewayConfig, now: GatewayConfig) -> list[str]:
    """The keys that differ from those the process began with, and that only a restart puts in force."""
    keys = [key for key in ONLY_AT_START if getattr(started, key) != getattr(now, key)]
    return keys + [f"limits.{key}" for key in LIMITS_ONLY_AT_START if getattr(started.limits, key) != getattr(now.limits, key)]


@dataclass(slots=True)
class Seat:
    """Where a data path stands among several: ``worker`` 0 is alone, or the first process. What is counted, is counted over all."""

    live: LiveSessions
    rates: Rates
    connections: Connections
    keys: CancelKeys
    worker: int = 0

    @classmethod
    def alone(cls, folder: Folder) -> Seat:
        """The only one there is."""
        return cls(LiveSessions(), Rates(folder.gateway.limits.operations_per_identity), Connections(), CancelKeys())


class DataPath:
    """Made inside the event loop. See ``govern.Gate``, which it is once ``approvals`` is set.

    Raises ``ConfigError``, or ``GatewayFault`` when the audit log cannot be opened.
    """

    approvals: Approvals

    def __init__(self, folder: Folder, seat: Seat) -> None:
        self.folder = folder
        self.started = folder.gateway
        self.policy: Policy = compile_policy(folder)
        self.live, self.connections, self.keys, self.worker = seat.live, seat.connections, seat.keys, seat.worker
        self._rates = seat.rates
        self.watching = Hub()
        self.ready = False
        self._floor = folder.state / "clock.floor"
        prepare_state(folder.state)
        self.clock = Clock(start_floor(read_floor(self._floor), None), tell=self._clock_told)
        self.authenticator = Authenticator(folder)
        settings = folder.gateway
        self.audit = AuditLog.open(folder.state, settings.name, settings.segment, settings.audit,
                                   load_private_key(folder.resolve(settings.audit.checkpoint.key)), clock=self.clock.now,
                                   worker=seat.worker)
        self.clock.begin(start_floor(read_floor(self._floor), self.audit.last_time))
        self._listeners: list[_Open] = []
        self._background = Supervisor()
        self._catalogs: list[asyncio.Task[None]] = []

    def now(self) -> float:
        return self.clock.now()

    def may_start(self, identity: str) -> bool:
        return self._rates.take(identity)

    def secrets(self) -> tuple[str, ...]:
        """Every secret the gateway holds, to be hidden wherever text is kept."""
        return tuple(secret.reveal() for credential in self.folder.credentials.values() for secret in credential.secrets())

    @property
    def address(self) -> dict[str, tuple[str, int]]:
        """Where each listener really listens."""
        return {one.name: one.server.addresses[0] for one in self._listeners}

    # --- serving

    async def _record_start(self) -> None:
        begun = {"policy": self.policy.digest, "version": version(), "pid": os.getpid()}
        await self.audit.record("gateway.start", begun | ({"worker": self.worker} if self.worker else {}))
        await self.audit.record("policy.loaded", {"policy": self.policy.digest})

    async def _listen(self, name: str, settings: Listener, sockets: Sequence[socket.socket] = ()) -> None:
        host, port = settings.place
        handler = listener(name, self, settings)
        try:
            self._listeners.append(_Open(name, await serve(handler.handle, host, port, sockets), handler))
        except OSError as error:
            raise cannot_listen(name, settings, error) from None
        self._catalogs.append(self._background.start(handler.warm(), f"{name}: warming up"))
        self._background.start(handler.tend(), f"{name}: upkeep")

    def when_warm(self, call: Callable[[], None]) -> None:
        """Call it once every target's catalog has been read, as far as it can be reached."""
        self._background.start(self._warm(call), "warm")

    async def _warm(self, call: Callable[[], None]) -> None:
        if self._catalogs:
            await asyncio.wait(self._catalogs)
        call()

    # --- a new folder

    def prepare(self, path: Path) -> Change:
        """Read a folder and see whether everything in it can be put in force. Raises ``ConfigError``."""
        folder = load_folder(path)
        return Change(folder, compile_policy(folder), self.authenticator.reloaded(folder),
                      {one.name: one.handler.prepare(folder) for one in self._listeners})

    async def record_change(self, change: Change) -> None:
        """On disk before it is in force. Raises ``AuditUnavailable``."""
        await self.audit.record("policy.loaded", {"policy": change.policy.digest, "previous": self.policy.digest})

    async def follow(self, change: Change) -> None:
        """Put it in force: it reaches live sessions at their next operation, and ends those that are in it no longer."""
        self._put_in_force(change)
        for one in self._listeners:
            await one.handler.reloaded(change.listeners[one.name])
        for session in self.live.all():
            if reason := self.policy.ended(session, self.now()):
                self.live.end(session.id, reason)

    def _put_in_force(self, change: Change) -> None:
        self.folder, self.policy, self.authenticator = change.folder, change.policy, change.authenticator

    # --- the end

    async def _drain(self, *, at_once: bool = False) -> None:
        """Close the listeners, let running commands end (unless ``at_once``), then end the sessions."""
        for one in self._listeners:
            one.server.stop_accepting()
        if not at_once:
            self.live.drain_all("the gateway is stopping")
            await asyncio.gather(*(one.server.drained(self.folder.gateway.limits.drain) for one in self._listeners))
        self.live.end_all("the gateway is stopping")
        for one in self._listeners:
            await one.server.close(drain=5.0)
            await one.handler.close()
        self._listeners.clear()

    async def _last_record(self, reason: str) -> None:
        try:
            await self.audit.record("gateway.stop", {"policy": self.policy.digest, "reason": reason})
        except AuditUnavailable:
            log.error("the audit log cannot be written; the stop is not recorded")
        await self.audit.close()
        self.authenticator.close()

    def _keep_floor(self) -> None:
        try:
            keep_floor(self._floor, self.clock.floor)
        except OSError as error:
            log.warning("the clock's floor could not be kept: %s", error.strerror)

    def _clock_told(self, kind: str, seconds: float) -> None:
        log.warning("%s: the wall clock is off by %.0f s", kind, seconds)
        if self.ready:
            self.audit.record(kind, {"seconds": round(seconds, 3)}).add_done_callback(_seen)


def _seen(recorded: asyncio.Future[int]) -> None:
    if not recorded.cancelled():
        recorded.exception()


def cannot_listen(name: str, settings: Listener, error: OSError) -> ConfigError:
    """What is wrong with a listener's address."""
    return ConfigError(f"gateway.yaml: listeners.{name}.address: cannot listen on {settings.address}: {error.strerror}")


def addresses_are_here(settings: GatewayConfig) -> None:
    """Raises ``ConfigError`` where this host does not have a listener's address (yet): asked first, so that a gateway that is started again
    and again until its network is up opens and records nothing each time.

    An address that somebody else holds is found when it is listened on: it may be a worker of the gateway before, which is waited for.
    """
    for name, listener_settings in settings.listeners.items():
        try:
            for sock in bound(*listener_settings.place, 1)[0]:
                sock.close()
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise cannot_listen(name, listener_settings, error) from None


def calm_collector() -> None:
    """The catalogs are hundreds of thousands of objects that stay: the collector need not walk through them again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def prepare_state(state: Path) -> None:
    """The state folder, for the service user alone."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    (state / "audit").mkdir(mode=0o700, exist_ok=True)
    (state / "recordings").mkdir(mode=0o700, exist_ok=True)
    (state / "index").mkdir(mode=0o700, exist_ok=True)
