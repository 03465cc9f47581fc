# SPDX-License-Identifier: Apache-2.0
"""The webhook: tells people that something waits. Best effort: it never holds a request up and decides nothing.

POST of a JSON document to ``notify.webhook.url``, over verified TLS, redirects not followed. With ``secret`` the header
``Lockgate-Signature: t=SECONDS,v1=HEX`` carries HMAC-SHA-256 over ``SECONDS.BODY``, so that a receiver can tell a forged or
replayed document. An answer of 2xx is delivery; others are tried again a few times while the approval is still open.

Keys: ``id``, ``gateway``, ``identity``, ``owner``, ``resource``, ``protocol``, ``verbs``, ``objects``, ``needs`` (``group``, ``count``,
``have``), ``requested``, ``expires``, ``digest``, ``console`` (its address), and with ``include_text`` ``text`` and ``text_flags``.

Somebody breaking the glass is told of too, with other keys: ``event`` (``break-glass.begin``, ``.end`` or ``.refused``), ``gateway``,
``origin`` and ``seq`` (of the console's record), ``time``, and as far as it has them ``session``, ``person``, ``reason``, ``tty``,
``host``, ``status``.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import aiohttp

from gateway.approvals.view import ApprovalView
from gateway.config.load import Folder
from gateway.credentials import Credential
from gateway.credentials.secret import Secret
from gateway.errors import ConfigError
from gateway.net.tls import client_context

log = logging.getLogger(__name__)

ATTEMPTS = 5
QUEUE = 1000
"""Documents waiting to be sent; more are dropped and counted."""
_AGAIN = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, not an approval. ``until`` is when nobody needs to hear of it any more, seconds since the epoch."""

    id: str
    fields: Mapping[str, Any]
    until: float


@dataclass(frozen=True, slots=True)
class Target:
    """Where and how. ``pause`` are seconds before the second attempt; each later one waits twice as long."""

    url: str
    context: ssl.SSLContext | None = None
    secret: Secret = field(default=Secret(""))
    include_text: bool = False
    timeout: float = 10.0
    pause: float = 1.0
    console: str = ""


class Notifier:
    """Sends to the folder's webhook, if it has one. ``tell`` never blocks; one task of its own delivers, one after the other.

    ``counts``: sent, failed, dropped. Raises ``ConfigError`` where the credential or the CA bundle cannot be used.
    """

    def __init__(self, folder: Folder | None, *, target: Target | None = None,
                 sleep: Callable[[float], Awaitable[None]] = asyncio.sleep, clock: Callable[[], float] = time.time) -> None:
        self._target = target if folder is None else target_of(folder)
        self._sleep = sleep
        self._clock = clock
        self._waiting: asyncio.Queue[ApprovalView | Event] = asyncio.Queue(QUEUE)
        self._task: asyncio.Task[None] | None = None
        self.counts: Counter[str] = Counter()

    def tell(self, view: ApprovalView | Event) -> None:
        """Send word of a new request or an event, some time soon."""
        if self._target is None:
            return
        try:
            self._waiting.put_nowait(view)
        except asyncio.QueueFull:
            self.counts["dropped"] += 1
            log.error("the webhook is too slow: %s is not told of", _named(view))

    async def start(self) -> None:
        """Begin to deliver."""
        if self._target is not None and self._task is None:
            self._task = asyncio.create_task(self._run(self._target), name="webhook")

    async def stop(self) -> None:
        """Stop; what was not delivered yet is not."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def take_over(self, other: Notifier) -> None:
        """Go on where ``other`` stops, with its counts and what it has not delivered yet."""
        await other.stop()
        self._waiting, self.counts = other._waiting, other.counts
        await self.start()

    async def _run(self, target: Target) -> None:
        timeout = aiohttp.ClientTimeout(total=target.timeout)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=False, cookie_jar=aiohttp.DummyCookieJar()) as http:
            while True:
                view = await self._waiting.get()
                try:
                    await self._deliver(http, target, view)
                except asyncio.CancelledError:
                    with suppress(asyncio.QueueFull):
                        self._waiting.put_nowait(view)      # for whoever takes over
                    raise
                except Exception as fault:  # one document that cannot be sent must not end the task that sends them
                    self._failed(view, type(fault).__name__)

    async def _deliver(self, http: aiohttp.ClientSession, target: Target, view: ApprovalView | Event) -> None:
        body = json.dumps(dict(view.fields) if isinstance(view, Event) else document(view, target)).encode()
        until = view.until if isinstance(view, Event) else datetime.fromisoformat(view.expires).timestamp()
        why = "expired"
        for attempt in range(ATTEMPTS):
            if attempt:
                await self._sleep(target.pause * 2 ** (attempt - 1))
            if self._clock() >= until:
                break
            status, why = await self._post(http, target, body)
            if 200 <= status < 300:
                self.counts["sent"] += 1
                return
            if 300 <= status < 500 and status not in _AGAIN:
                break
        self._failed(view, why)

    async def _post(self, http: aiohttp.ClientSession, target: Target, body: bytes) -> tuple[int, str]:
        """The status (0 where there was no answer) and what to say of it. The answer's body is not read."""
        headers = {"Content-Type": "application/json", "User-Agent": "lockgate"}
        if target.secret:
            headers["Lockgate-Signature"] = signature(target.secret, body, int(self._clock()))
        tls: ssl.SSLContext | bool = target.context if target.context is not None else True
        try:
            async with http.post(target.url, data=body, headers=headers, ssl=tls, allow_redirects=False) as response:
                return response.status, f"status {response.status}"
        except (aiohttp.ClientError, TimeoutError, OSError) as fault:
            return 0, type(fault).__name__

    def _failed(self, view: ApprovalView | Event, why: str) -> None:
        self.counts["failed"] += 1
        log.error("the webhook did not take %s: %s", _named(view), why)


def _named(what: ApprovalView | Event) -> str:
    return what.id if isinstance(what, Event) else f"approval {what.id}"


def document(view: ApprovalView, target: Target) -> dict[str, Any]:
    """What is sent. The text, where it is wanted, is the one the log may show."""
    shown: dict[str, Any] = {
        "id": view.id, "gateway": view.gateway, "identity": view.identity, "owner": view.owner, "resource": view.resource,
        "protocol": view.protocol, "verbs": list(view.verbs), "objects": list(view.objects),
        "needs": [{"group": need.group, "count": need.count, "have": need.have} for need in view.needs],
        "requested": view.requested, "expires": view.expires, "digest": view.digest, "console": target.console,
    }
    if target.include_text:
        shown |= {"text": view.text, "text_flags": list(view.text_flags)}
    return shown


def signature(secret: Secret, body: bytes, moment: int) -> str:
    """The header's value."""
    mac = hmac.new(secret.reveal().encode(), str(moment).encode() + b"." + body, hashlib.sha256)
    return f"t={moment},v1={mac.hexdigest()}"


def target_of(folder: Folder) -> Target | None:
    """The webhook of a folder, or ``None``. Raises ``ConfigError``."""
    webhook = folder.gateway.notify.webhook
    if webhook is None:
        return None
    console = folder.gateway.listeners.get("console")
    scheme = "http" if console is not None and console.tls is None else "https"
    return Target(webhook.url, _context(folder), _secret(folder.credentials, webhook.secret), webhook.include_text, webhook.timeout,
                  console=f"{scheme}://{console.address}" if console is not None else "")


def _context(folder: Folder) -> ssl.SSLContext | None:
    webhook = folder.gateway.notify.webhook
    if webhook is None or not webhook.url.startswith("https://"):
        return None
    try:
        return client_context("verify-full", folder.resolve(webhook.ca) if webhook.ca is not None else None)
    except OSError as fault:
        raise ConfigError(f"gateway.yaml: notify.webhook.ca: {type(fault).__name__}: expected a CA bundle in PEM") from None


def _secret(credentials: Any, name: str | None) -> Secret:
    if name is None:
        return Secret("")
    found: Credential | None = credentials.get(name)
    if found is None or not found.token:
        raise ConfigError(f"gateway.yaml: notify.webhook.secret: expected the name of a credential of kind bearer, not {name}")
    return found.token
