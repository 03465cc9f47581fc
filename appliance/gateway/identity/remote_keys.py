# SPDX-License-Identifier: Apache-2.0
"""Key sets of connected sites: fetched from ``jwks_url`` over TLS, cached, and forgotten when they get too old.

A set is fetched again when it has half of its ``jwks_max_age``, and counts for the whole of it while the issuer cannot be reached; so
a key the issuer removed dies within that time, and an outage shorter than half of it goes unnoticed. A ``kid`` nobody knows asks for a
fetch too. There are never two fetches from one address within ``PAUSE`` seconds. Times are of the monotonic clock. Redirects are not
followed. Nothing runs in the background: whoever presents a token waits for the fetch, at most ``TIMEOUT`` seconds.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from gateway.config.address import is_loopback
from gateway.identity.keys import SET_BYTES, KeySet, parse_key_set

PAUSE = 30.0
TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class KeySource:
    """Where the keys of an issuer are. ``ca`` is a PEM bundle, ``None`` the system's; ``max_age`` is in seconds."""

    url: str
    ca: Path | None
    max_age: float


Fetch = Callable[[KeySource], Awaitable[bytes]]


@dataclass(slots=True)
class _Held:
    keys: KeySet | None = None
    fetched: float = float("-inf")
    tried: float = float("-inf")
    problem: str = "the key set was not fetched yet"


class RemoteKeys:
    """One cache for all issuers, kept over policy reloads. One fetch per source at a time."""

    def __init__(self, fetch: Fetch | None = None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._fetch = fetch or fetch_key_set
        self._monotonic = monotonic
        self._held: dict[KeySource, _Held] = {}
        self._locks: dict[KeySource, asyncio.Lock] = {}

    def keys(self, source: KeySource) -> KeySet | None:
        """What is held and still counts."""
        held = self._held.get(source)
        if held is None or self._monotonic() - held.fetched > source.max_age:
            return None
        return held.keys

    def problem(self, source: KeySource) -> str:
        """Why nothing is held."""
        held = self._held.get(source)
        return held.problem if held is not None else "the key set was not fetched yet"

    async def refresh(self, source: KeySource, kid: str | None) -> None:
        """Fetch the set if it is due, or if it lacks ``kid``. Never raises for what the issuer does; ``problem`` says what was wrong."""
        async with self._locks.setdefault(source, asyncio.Lock()):
            held = self._held.setdefault(source, _Held())
            now = self._monotonic()
            unknown = kid is not None and (held.keys is None or not held.keys.knows(kid))
            if now - held.tried >= min(PAUSE, source.max_age / 2) and (unknown or now - held.fetched >= source.max_age / 2):
                held.tried = now
                await self._renew(source, held)

    async def _renew(self, source: KeySource, held: _Held) -> None:
        try:
            async with asyncio.timeout(TIMEOUT):
                held.keys = parse_key_set(await self._fetch(source))
        except TimeoutError:
            held.problem = f"the key set could not be fetched within {TIMEOUT:g} s"
        except (aiohttp.ClientError, OSError) as error:
            held.problem = f"the key set could not be fetched ({type(error).__name__})"
        except ValueError as error:
            held.problem = str(error)
        else:
            held.fetched = self._monotonic()


async def fetch_key_set(source: KeySource) -> bytes:
    """The document behind the address, at most ``SET_BYTES``. Raises ``ValueError``, ``aiohttp.ClientError`` or ``OSError``."""
    address = urlsplit(source.url)
    if address.scheme != "https" and not is_loopback(address.hostname or ""):
        raise ValueError("a key set is fetched over https only")
    context = ssl.create_default_context(cafile=source.ca)
    async with aiohttp.ClientSession(trust_env=False, auto_decompress=False) as client, \
            client.get(source.url, ssl=context, allow_redirects=False,
                       headers={"Accept": "application/json", "Accept-Encoding": "identity"}) as answer:
        if answer.status != 200:
            raise ValueError(f"the key set's address answered with status {answer.status}")
        data = bytearray()
        async for chunk in answer.content.iter_chunked(16_384):
            data += chunk
            if len(data) > SET_BYTES:
                raise ValueError(f"a key set may have {SET_BYTES} bytes, this one has more")
        return bytes(data)
