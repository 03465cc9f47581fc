# SPDX-License-Identifier: Apache-2.0
"""What every request passes: bounds, security headers, errors as problems, and the question who is asking."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from gateway.approvals.voters import is_reader
from gateway.console.gateway import ConsoleGateway
from gateway.console.limits import ConsoleLimits, Failures, is_loopback
from gateway.console.problem import Answered, problem
from gateway.errors import AuditUnavailable, Fault, Refused
from gateway.model import Identity
from gateway.net.source import source_of

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "lockgate",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

ENDLESS = frozenset({"sessions.watch"})
"""Routes whose answer goes on as long as what it is about; they bound it themselves."""


class Guard:
    """Who may, and how much. ``counts`` are answers by status and refused tokens, for metrics."""

    def __init__(self, gateway: ConsoleGateway, limits: ConsoleLimits) -> None:
        self._gateway = gateway
        self.limits = limits
        self._failures = Failures(limits.failures)
        self.in_flight = 0
        self.counts: Counter[str] = Counter()

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """The outermost layer: whatever happens inside becomes one answer."""
        if self.in_flight >= self.limits.in_flight:
            return self._finished(request, problem(Answered(503, "busy", "too many requests at once", retry=1)))
        self.in_flight += 1
        try:
            return self._finished(request, await self._answer(request, handler))
        finally:
            self.in_flight -= 1

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            async with asyncio.timeout(None if request.match_info.route.name in ENDLESS else self.limits.request):
                return await handler(request)
        except Answered as fault:
            return problem(fault)
        except TimeoutError:
            return problem(Answered(503, "timeout", "that took too long"))
        except web.HTTPException as fault:
            return problem(Answered(fault.status, fault.reason.lower().replace(" ", "-"), fault.reason))
        except AuditUnavailable:
            return problem(Answered(503, "audit-unavailable", "the audit log cannot be written: nothing was done", retry=5))
        except Refused as fault:
            return problem(Answered(403, "refused", str(fault)))
        except Fault as fault:
            return problem(Answered(500, "fault", str(fault)))
        except Exception as fault:
            log.error("%s %s failed: %s", request.method, request.match_info.route.name, type(fault).__name__)
            return problem(Answered(500, "fault", "the gateway failed at this; its log says more"))

    def _finished(self, request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
        self.counts[f"answers_{response.status // 100}xx"] += 1
        response.headers.update(HEADERS)
        if request.secure:
            response.headers["Strict-Transport-Security"] = "max-age=31536000"
        return response

    # --- who is asking ---

    def token(self, request: web.Request) -> str:
        """The token that is shown, not looked at yet. Raises ``Answered`` 401 or 429."""
        if wait := self._failures.wait(source_of(request.remote), asyncio.get_running_loop().time()):
            raise Answered(429, "too-many-failures", "too many refused tokens from here", retry=wait)
        token = _bearer(request)
        if token is None:
            raise Answered(401, "no-token", "expected the header `Authorization: Bearer TOKEN`, once")
        return token

    async def person(self, request: web.Request) -> Identity:
        """The person whose token this is. Raises ``Answered`` 401, 403 (a robot) or 429."""
        return await self._admitted(request, self.token(request), people=True)

    async def caller(self, request: web.Request, token: str) -> Identity:
        """Whoever the token lets in at a listener, a robot or a person. Raises ``Answered`` 401."""
        return await self._admitted(request, token, people=False)

    async def _admitted(self, request: web.Request, token: str, *, people: bool) -> Identity:
        try:
            return await self._gateway.authenticator.admit(token, request.remote or "", self._gateway.now(), people=people)
        except Refused as fault:
            self._failures.count(source_of(request.remote), asyncio.get_running_loop().time())
            self.counts["refused_tokens"] += 1
            await self._record_refused(request, fault)
            robot = str(fault).endswith("not a person")
            raise Answered(403 if robot else 401, "not-a-person" if robot else "token-refused", str(fault)) from None

    async def reader(self, request: web.Request) -> Identity:
        """A person of ``console.read``."""
        who = await self.person(request)
        if not is_reader(who, self._gateway.folder.gateway.console.read):
            raise Answered(403, "not-a-reader", f"{who.name} is not among those who may read (console.read)")
        return who

    async def ender(self, request: web.Request) -> Identity:
        """A person of ``console.end``, or of ``console.read`` where that is empty."""
        who = await self.person(request)
        settings = self._gateway.folder.gateway.console
        if not is_reader(who, settings.end or settings.read):
            raise Answered(403, "not-allowed", f"{who.name} is not among those who may end sessions (console.end)")
        return who

    def looks_on(self, who: Identity) -> bool:
        """Whether a person is of ``console.watch``, or of ``console.read`` where that is empty, and their token has not ended."""
        settings = self._gateway.folder.gateway.console
        return is_reader(who, settings.watch or settings.read) and self._gateway.now() < who.expires

    async def onlooker(self, request: web.Request) -> Identity:
        """A person who may watch a session."""
        who = await self.person(request)
        if not self.looks_on(who):
            raise Answered(403, "not-allowed", f"{who.name} is not among those who may watch sessions (console.watch)")
        return who

    async def watcher(self, request: web.Request) -> None:
        """Whoever may see metrics."""
        mode = self._gateway.folder.gateway.console.metrics
        if mode == "token":
            await self.reader(request)
        elif mode != "loopback" or not is_loopback(request.remote):
            raise Answered(404, "not-found", "Not Found")

    async def _record_refused(self, request: web.Request, fault: Refused) -> None:
        """A refused token is on record before it is answered. ``reason`` never holds the token."""
        await self._gateway.audit.record("console.refused", {
            "source": request.remote or "", "action": request.match_info.route.name or "", "reason": getattr(fault, "reason", str(fault))})


def _bearer(request: web.Request) -> str | None:
    """The token, if there is exactly one ``Authorization`` header and it is a bearer token (RFC 6750 section 2.1)."""
    shown = request.headers.getall("Authorization", [])
    if len(shown) != 1:
        return None
    scheme, _, token = shown[0].partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


async def json_object(request: web.Request, keys: frozenset[str], optional: frozenset[str] = frozenset()) -> dict[str, str]:
    """The body: a JSON object of strings with exactly these keys. Raises ``Answered`` 400 or 415, or 413 from aiohttp."""
    found = await json_document(request, keys, optional)
    if not all(isinstance(value, str) for value in found.values()):
        raise Answered(400, "wrong-type", "expected strings as values")
    return found


async def json_document(request: web.Request, keys: frozenset[str], optional: frozenset[str]) -> dict[str, Any]:
    """As ``json_object``, for values of any type."""
    if request.content_type != "application/json":
        raise Answered(415, "not-json", "expected Content-Type: application/json")
    try:
        found: Any = json.loads(await request.read(), object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise Answered(400, "not-json", "expected a JSON object without repeated keys") from None
    if not isinstance(found, dict) or not keys <= set(found) <= keys | optional:
        raise Answered(400, "wrong-keys", f"expected a JSON object with the keys {', '.join(sorted(keys))}")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is repeated")
    return found
