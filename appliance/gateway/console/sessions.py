# SPDX-License-Identifier: Apache-2.0
"""Sessions, replays, search and the log's head over HTTP. Each read is itself on record before it is answered."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import web

from gateway.console.documents import Ended, EventList, Head, SearchResult, SessionList
from gateway.console.gateway import Archive, ConsoleGateway
from gateway.console.guard import HEADERS, Guard, json_object
from gateway.console.problem import Answered, answer
from gateway.errors import Refused
from gateway.model import Identity
from gateway.recording.live import Watcher
from gateway.recording.terminal import listed

_MOST = 1000
_BEAT = 2.0
"""Seconds after which something is sent to a watcher although nothing happened."""
_LONGEST_QUERY = 1024


class SessionRoutes:
    """Handlers; each one asks the guard first."""

    def __init__(self, gateway: ConsoleGateway, archive: Archive, guard: Guard) -> None:
        self._gateway = gateway
        self._archive = archive
        self._guard = guard

    async def listed(self, request: web.Request) -> web.Response:
        """The newest sessions, those of this gateway that are open now marked ``live``; at most ``limit`` (100)."""
        person, limit = await self._guard.reader(request), _limit(request)
        await self._record("console.read", request, person)
        found = await asyncio.to_thread(self._archive.sessions, limit, identity=request.query.get("identity"),
                                        resource=request.query.get("resource"), open_only="open" in request.query)
        live = {session.id for session in self._gateway.live.all()}
        return answer(SessionList(tuple({**one, "live": one["id"] in live} for one in found)))

    async def show(self, request: web.Request) -> web.Response:
        """One session."""
        await self._read(request)
        return answer(await self._found(request))

    async def events(self, request: web.Request) -> web.Response:
        """What a replay is made of: its records in order, with the samples of masked results."""
        await self._read(request)
        await self._found(request)
        return answer(EventList(tuple(await asyncio.to_thread(self._archive.events, request.match_info["id"]))))

    async def watch(self, request: web.Request) -> web.StreamResponse:
        """A live session's masked output from now on, as JSON lines `{"begin": SEQ, "event": [SECONDS, KIND, TEXT]}` until it ends
        (`{"end": WHY}`); `{}` every few seconds. On record before it begins (`session.watched`). Who does not keep up is dropped."""
        person, session_id = await self._guard.onlooker(request), request.match_info["id"]
        session = next((one for one in self._gateway.live.all() if one.id == session_id), None)
        if session is None:
            raise Answered(404, "not-found", "there is no such live session")
        await self._gateway.audit.record("session.watched", {
            "session": session_id, "identity": person.name, "issuer": person.issuer, "groups": sorted(person.groups),
            "resource": session.resource, "source": request.remote or ""})
        try:
            watcher = self._gateway.watching.watch(session_id)
        except Refused as full:
            raise Answered(503, "busy", str(full), retry=5) from None
        response = web.StreamResponse(headers=HEADERS)
        response.content_type = "application/x-ndjson"
        try:
            await response.prepare(request)
            await response.write(_row({"session": session_id, "identity": session.identity.name, "resource": session.resource}))
            await response.write(_row({"end": await self._show(response, watcher, person)}))
        except ConnectionError:
            return response             # the watcher left
        finally:
            self._gateway.watching.leave(watcher)
        return response

    async def _show(self, response: web.StreamResponse, watcher: Watcher, person: Identity) -> str:
        """Until it is over; why it is."""
        while True:
            for begin, event in await watcher.take(_BEAT):
                await response.write(_row({"begin": begin, "event": listed((event,))[0]}))
            if watcher.dropped:
                return "dropped: it was not read quickly enough"
            if not self._guard.looks_on(person):
                return "the token has ended, or the right to watch"
            if all(session.id != watcher.session for session in self._gateway.live.all()):
                return "the session is over"
            await response.write(_row({}))

    async def end(self, request: web.Request) -> web.Response:
        """End a live session. It is on record who did before it happens."""
        person = await self._guard.ender(request)
        await json_object(request, frozenset(), frozenset({"reason"}))
        session_id = request.match_info["id"]
        if all(session.id != session_id for session in self._gateway.live.all()):
            raise Answered(404, "not-found", "there is no such live session")
        await self._record("console.end", request, person)
        return answer(Ended(session_id, self._gateway.live.end(session_id, f"ended by {person.name}")))

    async def search(self, request: web.Request) -> web.Response:
        """Records that contain ``q``, newest first; at most ``limit`` (100)."""
        person, limit, text = await self._guard.reader(request), _limit(request), request.query.get("q", "")
        if not 0 < len(text) <= _LONGEST_QUERY:
            raise Answered(400, "wrong-query", f"expected q of 1 to {_LONGEST_QUERY} characters")
        await self._record("console.read", request, person)
        return answer(SearchResult(tuple(await asyncio.to_thread(self._archive.search, text, limit))))

    async def head(self, request: web.Request) -> web.Response:
        """The newest signed checkpoint."""
        await self._read(request)
        return answer(Head(await asyncio.to_thread(self._archive.head)))

    async def _read(self, request: web.Request) -> None:
        await self._record("console.read", request, await self._guard.reader(request))

    async def _record(self, kind: str, request: web.Request, person: Identity) -> None:
        """Who looked at what. The text of a search is left out: it may be the very value that was masked."""
        await self._gateway.audit.record(kind, {
            "identity": person.name, "issuer": person.issuer, "groups": sorted(person.groups), "source": request.remote or "",
            "action": request.match_info.route.name or "", "about": request.match_info.get("id", "")[:128]})

    async def _found(self, request: web.Request) -> dict[str, Any]:
        found = await asyncio.to_thread(self._archive.session, request.match_info["id"])
        if found is None:
            raise Answered(404, "not-found", "there is no such session")
        return found


def _row(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode() + b"\n"


def _limit(request: web.Request) -> int:
    text = request.query.get("limit", "100")
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= _MOST):
        raise Answered(400, "wrong-limit", f"expected limit to be a number from 1 to {_MOST}")
    return int(text)
