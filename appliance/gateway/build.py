# SPDX-License-Identifier: Apache-2.0
"""The only place that wires things together: from a configuration folder to a running gateway.

Order matters: the audit log opens first and closes last, so that whatever happens in between is recorded.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from gateway import version
from gateway.approvals.book import DeskLimits
from gateway.approvals.desk import ApprovalsDesk
from gateway.approvals.notify import Notifier
from gateway.audit.log import AuditLog
from gateway.audit.note import load_private_key
from gateway.break_glass.watch import Watch
from gateway.config.address import is_loopback
from gateway.config.load import Folder, load_folder
from gateway.config.schema import Listener
from gateway.console.server import ConsoleServer
from gateway.errors import AuditUnavailable, ConfigError
from gateway.identity.authenticate import Authenticator
from gateway.identity.clock import Clock, keep_floor, read_floor, start_floor
from gateway.live import LiveSessions, Rates
from gateway.net.server import Server, Supervisor, serve
from gateway.net.tls import server_context
from gateway.policy.policy import Policy, compile_policy
from gateway.protocols.postgres.listener import PostgresListener
from gateway.protocols.postgres.messages import ALPN

log = logging.getLogger("gateway")

KEEP_TIME_EVERY = 10.0
"""Seconds between two looks at the clock's floor on disk."""


@dataclass(slots=True)
class _Open:
    """A listener that is up."""

    name: str
    server: Server
    handler: PostgresListener
    settings: Listener


class Gateway:
    """One gateway on one folder. ``start()``, then ``stop()``; ``reload()`` in between. Made inside the event loop. See ``govern.Gate``.

    Raises ``ConfigError``, or ``GatewayFault`` when the audit log cannot be opened.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.policy: Policy = compile_policy(folder)
        self.live = LiveSessions()
        self._rates = Rates(folder.gateway.limits.operations_per_identity)
        self.ready = False
        self._floor = folder.state / "clock.floor"
        prepare_state(folder.state)
        self.clock = Clock(start_floor(read_floor(self._floor), None), tell=self._clock_told)
        self.authenticator = Authenticator(folder)
        settings = folder.gateway
        self.audit = AuditLog.open(folder.state, settings.name, settings.segment, settings.audit,
                                   load_private_key(folder.resolve(settings.audit.checkpoint.key)), clock=self.now)
        self.clock = Clock(start_floor(read_floor(self._floor), self.audit.last_time), tell=self._clock_told)
        self.notifier = Notifier(folder)
        self._watch = self._console_watch(folder)
        limits = settings.limits
        self.approvals = ApprovalsDesk(
            self.audit, self.now, lambda: self.policy, lambda view: self.notifier.tell(view), gateway=settings.name,
            revoked=lambda person: self.policy.untrusted(person, self.now()) is not None,
            limits=DeskLimits(total=limits.approvals_pending, per_identity=limits.approvals_pending_per_identity, held=limits.held))
        self._listeners: list[_Open] = []
        self._background = Supervisor()
        self._catalogs: list[asyncio.Task[None]] = []
        self._console: ConsoleServer | None = None

    def now(self) -> float:
        return self.clock.now()

    @property
    def break_glass(self) -> Mapping[str, int]:
        """What was seen of the break-glass console: open, begin, end, refused."""
        return self._watch.counts if self._watch is not None else {}

    def _console_watch(self, folder: Folder) -> Watch | None:
        place = folder.gateway.audit.console
        if place is None:
            return None
        return Watch(folder.resolve(place) / "audit", folder.state / "console.seen", folder.gateway.name, self.audit,
                     lambda event: self.notifier.tell(event), self.now)

    def may_start(self, identity: str) -> bool:
        return self._rates.take(identity)

    def secrets(self) -> tuple[str, ...]:
        """Every secret the gateway holds, to be hidden wherever text is kept."""
        return tuple(secret.reveal() for credential in self.folder.credentials.values() for secret in credential.secrets())

    @property
    def address(self) -> dict[str, tuple[str, int]]:
        """Where each listener really listens."""
        found = {one.name: one.server.addresses[0] for one in self._listeners}
        if self._console is not None:
            found["console"] = self._console.address
        return found

    async def start(self) -> None:
        """Record the start and open the listeners. Raises ``AuditUnavailable``, ``ConfigError`` or ``OSError``."""
        await self.audit.record("gateway.start", {"policy": self.policy.digest, "version": version(), "pid": os.getpid()})
        await self.audit.record("policy.loaded", {"policy": self.policy.digest})
        await self.notifier.start()
        for name, settings in self.folder.gateway.listeners.items():
            if name == "console":
                self._console = ConsoleServer(self, settings)
                await self._console.start()
            else:
                await self._listen(name, settings)
        self._background.start(self._keep_time(), "clock floor")
        if self._watch is not None:
            self._background.start(self._watch.run(), "console log")
        self.ready = True

    async def _keep_time(self) -> None:
        """A clock set back revives nothing even after a crash: the floor is kept on disk while the gateway runs."""
        while True:
            try:
                await asyncio.to_thread(keep_floor, self._floor, self.clock.floor)
            except OSError as error:
                log.warning("the clock's floor could not be kept: %s", error.strerror)
            await asyncio.sleep(KEEP_TIME_EVERY)

    def when_warm(self, call: Callable[[], None]) -> None:
        """Call it once every target's catalog has been read, as far as it can be reached."""
        self._background.start(self._warm(call), "warm")

    async def _warm(self, call: Callable[[], None]) -> None:
        if self._catalogs:
            await asyncio.wait(self._catalogs)
        call()

    async def _listen(self, name: str, settings: Listener) -> None:
        host, port = settings.place
        handler = PostgresListener(self, listener_tls(self.folder, settings), is_loopback(host))
        try:
            self._listeners.append(_Open(name, await serve(handler.handle, host, port), handler, settings))
        except OSError as error:
            raise ConfigError(f"gateway.yaml: listeners.{name}.address: cannot listen on {settings.address}: {error.strerror}") from None
        self._catalogs.append(self._background.start(handler.warm(), "catalogs"))
        self._background.start(handler.roles.tend(), "session roles")

    async def reload(self, path: Path | None = None) -> str | None:
        """Read the folder again. A good one reaches live sessions at their next operation; a bad one changes nothing.

        Gives what is wrong, or ``None``. Listeners, limits of the gateway and audit settings stay as at start; what a protocol's listener
        shows and believes in TLS is read again.
        """
        try:
            folder = load_folder(path or self.folder.named)
            policy = compile_policy(folder)
            authenticator = self.authenticator.reloaded(folder)
            notifier = Notifier(folder)
            contexts = {one.name: listener_tls(folder, one.settings) for one in self._listeners}
            await self.audit.record("policy.loaded", {"policy": policy.digest, "previous": self.policy.digest})
        except (ConfigError, AuditUnavailable) as problem:
            return await self._rejected(str(problem))
        self.folder, self.policy, self.authenticator = folder, policy, authenticator
        former, self.notifier = self.notifier, notifier
        await notifier.take_over(former)
        self.approvals.policy_changed(policy.digest)
        for one in self._listeners:
            await one.handler.reloaded(contexts[one.name])
        for session in self.live.all():
            if reason := policy.ended(session, self.now()):
                self.live.end(session.id, reason)
        log.info("policy %s loaded", policy.digest)
        return None

    async def _rejected(self, why: str) -> str:
        log.error("reload refused, the old policy stays: %s", why)
        try:
            await self.audit.record("policy.rejected", {"policy": self.policy.digest, "reason": why})
        except AuditUnavailable:
            log.error("the audit log cannot be written; the refused reload is not recorded")
        return why

    async def stop(self, reason: str = "stopping") -> None:
        """Close the listeners, end sessions, record the end. Idempotent."""
        if self.ready:
            log.info("%s: no new connections, %d sessions may end their running command", reason, len(self.live))
        self.ready = False
        for one in self._listeners:
            one.server.stop_accepting()
        await self._background.close()
        await self.approvals.close()
        self.live.drain_all("the gateway is stopping")
        await asyncio.gather(*(one.server.drained(self.folder.gateway.limits.drain) for one in self._listeners))
        self.live.end_all("the gateway is stopping")
        for one in self._listeners:
            await one.server.close(drain=5.0)
            await one.handler.close()
        self._listeners.clear()
        if self._console is not None:
            await self._console.stop()
            self._console = None
        await self.notifier.stop()
        await self._last_record(reason)
        self.authenticator.close()
        log.info("stopped")

    async def _last_record(self, reason: str) -> None:
        try:
            await self.audit.record("gateway.stop", {"policy": self.policy.digest, "reason": reason})
        except AuditUnavailable:
            log.error("the audit log cannot be written; the stop is not recorded")
        await self.audit.close()
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


def listener_tls(folder: Folder, settings: Listener) -> ssl.SSLContext | None:
    """What a listener shows its callers, and whose client certificates it believes. Raises ``ConfigError``."""
    if settings.tls is None:
        return None
    authorities = (one.public_bytes(Encoding.DER) for bundle in folder.bundles.values() for one in bundle)
    certificate, key = folder.resolve(settings.tls.certificate), folder.resolve(settings.tls.key)
    try:
        return server_context(certificate, key, authorities=authorities, alpn=(ALPN,))
    except (OSError, ssl.SSLError) as wrong:
        raise ConfigError(f"listener {settings.address}: its certificate and key cannot be used: {type(wrong).__name__}") from None


def prepare_state(state: Path) -> None:
    """The state folder, for the service user alone."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    (state / "audit").mkdir(mode=0o700, exist_ok=True)
    (state / "recordings").mkdir(mode=0o700, exist_ok=True)
    (state / "index").mkdir(mode=0o700, exist_ok=True)
