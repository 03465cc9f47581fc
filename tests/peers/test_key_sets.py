# SPDX-License-Identifier: Apache-2.0
"""``jwks_url`` against a real HTTPS server: attack T8, and what such a server may try."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from gateway.identity import remote_keys
from gateway.identity.keys import SET_BYTES
from gateway.identity.remote_keys import KeySource, RemoteKeys, fetch_key_set
from gateway.testing import TokenIssuer
from gateway.testing.certificates import Authority

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def served(folder: Path, handler: Handler, name: str = "localhost") -> AsyncIterator[KeySource]:
    """An issuer's site with a certificate of its own authority."""
    pair = Authority(folder).issue(name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    application = web.Application()
    application.router.add_get("/jwks", handler)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        port = runner.addresses[0][1]
        yield KeySource(f"https://localhost:{port}/jwks", pair.ca, 600.0)
    finally:
        await runner.cleanup()


async def test_fetched_over_tls(tmp_path: Path) -> None:
    issuer = TokenIssuer("i", "a")

    async def answer(request: web.Request) -> web.Response:
        return web.json_response(issuer.jwks())

    async with served(tmp_path, answer) as source:
        keys = RemoteKeys()
        await keys.refresh(source, issuer.key_id)
        found = keys.keys(source)
    assert found is not None
    assert found.knows(issuer.key_id)


async def test_a_certificate_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response(TokenIssuer("i", "a").jwks())

    for name, ca in (("localhost", None), ("other.example", tmp_path / "ca.crt")):
        async with served(tmp_path, answer, name) as source:
            unvouched = KeySource(source.url, ca, 600.0)
            with pytest.raises(aiohttp.ClientError):
                await fetch_key_set(unvouched)
            keys = RemoteKeys()
            await keys.refresh(unvouched, None)
            assert keys.keys(unvouched) is None
            assert "could not be fetched" in keys.problem(unvouched)


async def test_redirects_errors_and_floods_are_refused(tmp_path: Path) -> None:
    async def elsewhere(request: web.Request) -> web.Response:
        raise web.HTTPFound("https://localhost:1/jwks")

    async def broken(request: web.Request) -> web.Response:
        return web.Response(status=503, text="{}")

    async def flood(request: web.Request) -> web.Response:
        return web.Response(body=b" " * (SET_BYTES + 1))

    for handler, message in ((elsewhere, "status 302"), (broken, "status 503"), (flood, "has more")):
        async with served(tmp_path, handler) as source:
            with pytest.raises(ValueError, match=message):
                await fetch_key_set(source)


async def test_a_site_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = asyncio.Event()

    async def silent(request: web.Request) -> web.Response:
        await release.wait()
        return web.Response()

    monkeypatch.setattr(remote_keys, "TIMEOUT", 0.3)
    async with served(tmp_path, silent) as source:
        keys = RemoteKeys()
        await keys.refresh(source, None)
        release.set()
        assert keys.keys(source) is None
        assert "within 0.3 s" in keys.problem(source)


async def test_plaintext_is_for_loopback_only() -> None:
    with pytest.raises(ValueError, match="https only"):
        await fetch_key_set(KeySource("http://issuer.example/jwks", None, 600.0))
