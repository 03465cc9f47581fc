# SPDX-License-Identifier: Apache-2.0
"""SSH certificates over HTTP: whoever may enter a resource of SSH exchanges a token for one, and is told the gateway's host keys.

The token is looked at as at the SSH door itself; one of a ``single_use`` issuer is used up by this, so the request is read first.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.approvals.binding import timestamp
from gateway.console.documents import SshCertificate, SshHostKeys
from gateway.console.gateway import ConsoleGateway
from gateway.console.guard import Guard, json_document
from gateway.console.problem import Answered, answer
from gateway.errors import ClientFault, ConfigError, Refused
from gateway.model import Identity
from gateway.protocols.ssh import hosts, issuing
from gateway.protocols.ssh.authority import KEY_LINE, Minted, PublicKey, fingerprint, public_key

if TYPE_CHECKING:
    from gateway.protocols.ssh.settings import SshListener

log = logging.getLogger(__name__)

_RESOURCES = 256
_NAME = 256


@dataclass(frozen=True, slots=True)
class _Asked:
    key: PublicKey
    resources: tuple[str, ...]
    bound: bool


class CertificateRoutes:
    """Handlers."""

    def __init__(self, gateway: ConsoleGateway, guard: Guard) -> None:
        self._gateway = gateway
        self._guard = guard

    async def mint(self, request: web.Request) -> web.Response:
        """A certificate for minutes over the caller's own public key, for the resources asked for (default: all it may enter now). It is on
        record (`certificate.issued`) before the answer leaves; a refusal is `certificate.refused`."""
        token = self._guard.token(request)
        settings, asked = self._settings(), await _asked(request)
        who = await self._guard.caller(request, token)
        if not self._gateway.may_start(who.name):
            raise Answered(429, "too-many", "too many requests of this identity (limits.operations_per_identity)", retry=1)
        ca = await self._authority(settings)
        try:
            made = issuing.issue(self._gateway.policy, settings, ca, who, asked.key, asked.resources, self._gateway.now(),
                                 request.remote if asked.bound else None)
        except Refused as fault:
            await self._record("certificate.refused", request, who, asked, {
                "resources": list(asked.resources), "reason": getattr(fault, "reason", str(fault))})
            raise
        await self._record("certificate.issued", request, who, asked, {
            "subject": who.subject, "token_id": who.token_id, "claims": dict(who.claims), "certificate": f"{made.serial:x}",
            "principals": list(made.principals), "until": timestamp(made.until), "bound": asked.bound})
        return answer(self._document(made, settings))

    async def host_keys(self, request: web.Request) -> web.Response:
        """The gateway's SSH host keys: what `known_hosts` needs, vouched for by the console's own certificate."""
        settings = self._settings(minting=False)
        published = await asyncio.to_thread(hosts.published, self._gateway.folder, settings)
        return answer(SshHostKeys(settings.place[1], tuple(one.line for one in published), tuple(one.fingerprint for one in published)))

    async def _authority(self, settings: SshListener) -> Ed25519PrivateKey:
        try:
            return await asyncio.to_thread(issuing.authority, self._gateway.folder, settings)
        except ConfigError as wrong:
            log.error("no SSH certificate can be minted: %s", wrong)
            raise Answered(503, "no-authority", "the user CA's key cannot be read; the gateway's log says more") from None

    def _settings(self, *, minting: bool = True) -> SshListener:
        settings = issuing.listener(self._gateway.started)
        if settings is None or (minting and settings.user_ca is None):
            raise Answered(404, "not-offered", "this gateway has no listeners.ssh" if settings is None else
                           "this gateway mints no SSH certificates (listeners.ssh.user_ca)")
        return settings

    @staticmethod
    def _document(made: Minted, settings: SshListener) -> SshCertificate:
        return SshCertificate(made.line, f"{made.serial:x}", made.principals, made.key, timestamp(made.until), settings.place[1])

    async def _record(self, kind: str, request: web.Request, who: Identity, asked: _Asked, more: dict[str, Any]) -> None:
        await self._gateway.audit.record(kind, {
            "identity": who.name, "issuer": who.issuer, "owner": who.owner, "groups": sorted(who.groups), "source": request.remote or "",
            "protocol": "ssh", "policy": self._gateway.policy.digest, "key": fingerprint(asked.key), **more})


async def _asked(request: web.Request) -> _Asked:
    """Raises ``Answered`` 400 or 415."""
    found = await json_document(request, frozenset({"public_key"}), frozenset({"resources", "bound"}))
    line, resources, bound = found["public_key"], found.get("resources", []), found.get("bound", False)
    if not isinstance(line, str) or not isinstance(bound, bool) or not isinstance(resources, list) or len(resources) > _RESOURCES \
            or not all(isinstance(one, str) and 0 < len(one) <= _NAME for one in resources):
        raise Answered(400, "wrong-type", f"expected public_key (text of at most {KEY_LINE} characters), resources (a list of at most "
                       f"{_RESOURCES} names) and bound (true or false)")
    try:
        return _Asked(public_key(line), tuple(dict.fromkeys(resources)), bound)
    except ClientFault as fault:
        raise Answered(400, "wrong-key", str(fault)) from None
