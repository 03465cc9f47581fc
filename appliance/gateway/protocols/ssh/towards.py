# SPDX-License-Identifier: Apache-2.0
"""The way to a resource: its host key is one that is pinned, or signed by a pinned host CA, or there is no connection.

Connections are shared within one identity, resource and login only: nothing on one tells the target, or another session, of a third. With
``share: 0`` and with a credential that is signed for a session (``ssh-ca``) they are shared within one session; the caller's agent and X11
have a connection of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import asyncssh

from gateway.config.address import split_address
from gateway.config.load import Folder
from gateway.credentials import Credential
from gateway.errors import ConfigError, GatewayFault, TargetFault
from gateway.model import Session
from gateway.protocols.ssh.algorithms import OFFERED
from gateway.protocols.ssh.connection import PACKET, WINDOW, TargetConnection
from gateway.protocols.ssh.settings import SshResource
from gateway.protocols.ssh.target_key import PERMITS, USUAL, load_ca, sign_for_target
from gateway.protocols.ssh.upstream import Target, Upstream

log = logging.getLogger("gateway.ssh")

MISMATCH = "host-key"
"""The code of a target's fault that is none of those that pass: it is not who it should be."""
OWN_IDLE = 5.0
"""Seconds that a connection of one session alone stays without a channel."""
Key = tuple[str, bool, str, str, str, str]
"""Identity (name, whether it is a person, issuer), resource, login; and the session, where no other may be on it."""
Record = Callable[[Session, str, Mapping[str, Any]], Awaitable[None]]
"""One record of a session, of this kind: back once it is on disk."""


@dataclass(frozen=True, slots=True)
class Login:
    """What we log in with at the target."""

    user: str
    keys: tuple[Any, ...] = ()
    password: str | None = None


class Towards:
    """How this folder's resources are reached. ``record`` keeps which certificates were made, and which target is not who it should be."""

    def __init__(self, folder: Folder, record: Record, now: Callable[[], float]) -> None:
        self._folder, self._record, self._now = folder, record, now
        self._shared: dict[Key, list[Upstream]] = {}
        self._connecting: dict[Key, asyncio.Lock] = {}
        self._hosts: dict[str, Any] = {}
        self._alarms: set[asyncio.Task[None]] = set()

    def check(self) -> None:
        """Whether what is pinned and what we log in with can be read. Raises ``ConfigError``."""
        for resource in self._folder.policy.resources:
            if isinstance(resource, SshResource):
                self._hosts[resource.name] = known(self._folder, resource)

    async def shared(self, session: Session, resource: SshResource) -> Upstream:
        """Room for one channel on a connection of this identity's to this login; of this session's, where none is to be shared. Raises
        ``TargetFault``."""
        alone = resource.share <= 0 or self._credential(resource, session.login).kind == "ssh-ca"
        identity = session.identity
        key = (identity.name, identity.person, identity.issuer, resource.name, session.login, session.id if alone else "")
        async with self._connecting.setdefault(key, asyncio.Lock()):
            for upstream in (kept := self._shared.setdefault(key, [])):
                if upstream.roomy:
                    return upstream.take()
            kept[:] = [upstream for upstream in kept if upstream.usable]
            made = await self._connect(session, resource, share=OWN_IDLE if alone else resource.share)
            kept.append(made)
            return made.take()

    async def own(self, session: Session, resource: SshResource) -> Upstream:
        """A connection for one session alone, which closes it. Raises ``TargetFault``."""
        return await self._connect(session, resource, share=None)

    def left(self, session: Session) -> None:
        """A session is over: what was its alone is closed."""
        for key in [key for key in self._shared if key[-1] == session.id]:
            for upstream in self._shared[key]:
                upstream.retire()

    def retire(self) -> None:
        """Another folder is in force: nobody new comes."""
        for upstream in [one for kept in self._shared.values() for one in kept]:
            upstream.retire()

    def close(self) -> None:
        for upstream in [one for kept in self._shared.values() for one in kept]:
            upstream.close()
        self._shared.clear()

    @property
    def empty(self) -> bool:
        """Nothing is left of it."""
        return not any(upstream.taken for kept in self._shared.values() for upstream in kept)

    def tidy(self) -> None:
        """Forget connections that have ended."""
        for key, kept in list(self._shared.items()):
            kept[:] = [upstream for upstream in kept if upstream.usable]
            if not kept and not self._connecting[key].locked():
                del self._shared[key], self._connecting[key]

    # connecting

    def _credential(self, resource: SshResource, login: str) -> Credential:
        return self._folder.credentials[resource.credentials.get(login, resource.credential)]

    async def _connect(self, session: Session, resource: SshResource, *, share: float | None) -> Upstream:
        host, port = split_address(resource.address)
        login = await self._login(session, resource, own=share is None)
        try:
            async with asyncio.timeout(self._folder.gateway.limits.target_connect):
                return await self._open(session, host, port, login, resource, share)
        except TimeoutError:
            raise TargetFault(f"{resource.name} did not let us in in time (limits.target_connect)") from None
        except asyncssh.HostKeyNotVerifiable as wrong:
            await self._untrusted(session, resource, wrong)
            said = f"{resource.name} did not show the host key that is pinned for it; nothing was sent, and its operators are told"
            raise TargetFault(said, MISMATCH) from None
        except asyncssh.PermissionDenied:
            raise TargetFault(f"{resource.name} refused the gateway's credential for {session.login}") from None
        except asyncssh.Error as fault:
            raise TargetFault(f"{resource.name}: the connection failed ({type(fault).__name__})") from None
        except OSError as fault:
            raise TargetFault(f"{resource.name} cannot be reached: {fault.strerror or type(fault).__name__}") from None

    async def _untrusted(self, session: Session, resource: SshResource, wrong: asyncssh.HostKeyNotVerifiable) -> None:
        log.error("%s at %s is not who it should be: %s; nothing more is sent to it", resource.name, resource.address, wrong.reason)
        await self._record(session, "target.untrusted", {"reason": wrong.reason[:500], "address": resource.address})

    def _changed(self, session: Session, resource: SshResource, wrong: asyncssh.HostKeyNotVerifiable) -> None:
        """In the middle of a connection."""
        task = asyncio.ensure_future(self._untrusted(session, resource, wrong))
        self._alarms.add(task)
        task.add_done_callback(self._alarmed)

    def _alarmed(self, task: asyncio.Task[None]) -> None:
        """The log has it, if the records have not."""
        self._alarms.discard(task)
        if not task.cancelled():
            task.exception()

    async def _open(self, session: Session, host: str, port: int, login: Login, resource: SshResource, share: float | None) -> Upstream:
        loop = asyncio.get_running_loop()
        target = Target(login.password)
        options = self._options(host, port, login, resource, target)
        options.waiter = waiter = loop.create_future()
        _, connection = await loop.create_connection(lambda: TargetConnection(loop, options, wait="auth"), host, port)
        try:
            await waiter
        except BaseException:
            connection.abort()
            raise
        target.alarm = partial(self._changed, session, resource)
        return Upstream(connection, target, share=share)

    def _options(self, host: str, port: int, login: Login, resource: SshResource, target: Target) -> asyncssh.SSHClientConnectionOptions:
        hosts = self._hosts.get(resource.name) or known(self._folder, resource)
        methods = ["publickey"] if login.keys else ["password", "keyboard-interactive"]
        return asyncssh.SSHClientConnectionOptions(
            client_factory=lambda: target, host=host, port=port, config=None, known_hosts=hosts, username=login.user,
            client_keys=list(login.keys) or None, agent_path=None, gss_host=None, gss_kex=False, gss_auth=False, x509_trusted_certs=None,
            preferred_auth=methods, password_auth=login.password is not None, kbdint_auth=login.password is not None,
            public_key_auth=bool(login.keys), host_based_auth=False, login_timeout=0, disable_trivial_auth=False, encoding=None,
            window=WINDOW, max_pktsize=PACKET, client_version="lockgate", **OFFERED)

    async def _login(self, session: Session, resource: SshResource, *, own: bool) -> Login:
        """Raises ``TargetFault``."""
        credential = self._credential(resource, session.login)
        if credential.kind == "password":
            return Login(session.login, password=credential.password.reveal())
        try:
            if credential.kind == "ssh-ca":
                return Login(session.login, keys=await self._signed(session, resource, credential, own))
            return Login(session.login, keys=(asyncssh.import_private_key(credential.private_key.reveal()),))
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError):
            raise TargetFault(f"the credential {credential.name} holds no key that can be used") from None

    async def _signed(self, session: Session, resource: SshResource, credential: Credential, own: bool) -> tuple[Any, ...]:
        """A key and a certificate for this connection alone."""
        try:
            async with asyncio.timeout(self._folder.gateway.limits.target_connect):
                source = credential.source or await own_addresses(*resource.place)
        except (OSError, TimeoutError):
            raise TargetFault(f"{resource.name} cannot be reached: its address is not known") from None
        try:
            ca = load_ca(credential.private_key.reveal())
            made = sign_for_target(ca, session, self._folder.gateway.name, self._now(), principals=credential.principals,
                                   lifetime=credential.lifetime, source=source, permits=PERMITS if own else USUAL)
        except (ValueError, GatewayFault) as wrong:
            raise TargetFault(f"the credential {credential.name} cannot sign: {wrong}") from None
        await self._record(session, "target.certificate", made.fields())
        return tuple(made.client_keys())


async def own_addresses(host: str, port: int) -> tuple[str, ...]:
    """Where the gateway's packets to this place come from: what the kernel would choose (a UDP socket that sends nothing). Raises
    ``OSError``."""
    found: dict[str, None] = {}
    for family, _, _, _, place in await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(place)
            found[str(probe.getsockname()[0]).partition("%")[0]] = None
    if not found:
        raise OSError("no way there")
    return tuple(found)


def known(folder: Folder, resource: SshResource) -> Any:
    """What is pinned for a resource, as asyncssh takes it. Raises ``ConfigError``."""
    try:
        text = folder.resolve(resource.host_keys).read_text() if resource.host_keys is not None else ""
        pinned = asyncssh.import_known_hosts(text)
        lines = folder.resolve(resource.host_ca).read_text().splitlines() if resource.host_ca is not None else []
        authorities = [asyncssh.import_public_key(line) for line in lines if line.strip() and not line.startswith("#")]
    except (OSError, ValueError, asyncssh.KeyImportError) as wrong:
        raise ConfigError(f"resource {resource.name}: what is pinned for its host key cannot be read: {type(wrong).__name__}") from None

    def trusted(host: str, address: str, port: int | None) -> Any:
        keys, signers, revoked, *_ = pinned.match(host, address, port)
        return keys, [*signers, *authorities], revoked

    return trusted
