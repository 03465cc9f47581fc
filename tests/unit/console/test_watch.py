# SPDX-License-Identifier: Apache-2.0
"""Looking on over the console: who may, what they get, what is on record, when it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.console import sessions
from gateway.model import Session
from gateway.recording.live import ROOM
from gateway.recording.terminal import Event
from gateway.testing.console import ConsoleRoom
from gateway.testing.desk import session

PATH = "/api/v1/sessions/{}/watch"


class World:
    """A console, one live session, and somebody who reads lines."""

    def __init__(self, room: ConsoleRoom, http: aiohttp.ClientSession) -> None:
        self.room, self.http, self.session = room, http, session()
        room.live.add(self.session, lambda reason: None)
        self.watched, self.left = asyncio.Event(), asyncio.Event()
        room.watching.asked = lambda _, on: (self.watched if on else self.left).set()

    def get(self, token: str, one: Session | None = None) -> Any:
        headers = {"Authorization": f"Bearer {token}"}
        return self.http.get(self.room.url + PATH.format((one or self.session).id), headers=headers)

    def show(self, data: bytes) -> None:
        self.room.watching.publish(self.session.id, [(7, Event(1_500_000, "o", data))])


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(sessions, "_BEAT", 0.05)
    async with ConsoleRoom(tmp_path) as room, aiohttp.ClientSession() as http:
        yield World(room, http)


async def lines(response: aiohttp.ClientResponse, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while len(found) < count:
        if (row := json.loads(await response.content.readline())) != {}:
            found.append(row)
    return found


async def test_a_reader_sees_masked_output_as_it_happens_and_is_on_record(world: World) -> None:
    async with world.get(world.room.person("sam", "security")) as response:
        assert response.status == 200
        assert response.content_type == "application/x-ndjson"
        assert response.headers["Cache-Control"] == "no-store"
        assert (await lines(response, 1))[0]["session"] == world.session.id
        world.show(b"$ ****\r\n\xff")
        assert await lines(response, 1) == [{"begin": 7, "event": [1.5, "o!", "$ ****\r\n\xff"]}]
        world.room.live.remove(world.session.id)
        assert await lines(response, 1) == [{"end": "the session is over"}]
    record, = [one.fields for one in world.room.audit.records if one.kind == "session.watched"]
    assert (record["session"], record["identity"]) == (world.session.id, "sam")
    assert not world.room.watching.watched(world.session.id)


async def test_others_see_nothing_and_what_is_not_live_is_not_found(world: World) -> None:
    for token, status in ((world.room.person("dana", "dba"), 403), (world.room.robot(), 403), ("nonsense", 401)):
        async with world.get(token) as response:
            assert response.status == status
    world.room.live.remove(world.session.id)
    async with world.get(world.room.person("sam", "security")) as response:
        assert response.status == 404
    assert not [one for one in world.room.audit.records if one.kind == "session.watched"]


async def test_who_does_not_keep_up_is_dropped(world: World) -> None:
    async with world.get(world.room.person("sam", "security")) as response:
        await world.watched.wait()
        world.show(b"x" * ROOM)
        assert (await lines(response, 2))[1] == {"end": "dropped: it was not read quickly enough"}


async def test_a_watcher_who_leaves_is_gone(world: World) -> None:
    response = await world.get(world.room.person("sam", "security"))
    await world.watched.wait()
    response.close()
    await world.left.wait()


async def test_looking_on_ends_with_the_token(world: World) -> None:
    async with world.get(world.room.person("sam", "security")) as response:
        await world.watched.wait()
        world.room.room.clock.advance(13 * 3600)
        assert (await lines(response, 2))[1] == {"end": "the token has ended, or the right to watch"}
