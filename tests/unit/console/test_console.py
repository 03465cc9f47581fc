# SPDX-License-Identifier: Apache-2.0
"""The console over a real socket: who may do what, and what is on record of it."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.approvals.view import ApprovalView
from gateway.console.health import METRICS
from gateway.console.limits import ConsoleLimits
from gateway.errors import Refused
from gateway.testing import FailingAudit
from gateway.testing.console import ConsoleRoom
from gateway.testing.desk import command, session


class Caller:
    """Somebody with a token, or with none."""

    def __init__(self, http: aiohttp.ClientSession, room: ConsoleRoom, token: str | None) -> None:
        self._http, self._room = http, room
        self.headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    async def get(self, path: str, **more: Any) -> tuple[int, Any]:
        return await self._ask("GET", path, **more)

    async def post(self, path: str, document: Any, **more: Any) -> tuple[int, Any]:
        return await self._ask("POST", path, json=document, **more)

    async def vote(self, view: ApprovalView | dict[str, Any], what: str = "approve", reason: str = "looked at it") -> tuple[int, Any]:
        shown = view.document() if isinstance(view, ApprovalView) else view
        return await self.post(f"/api/v1/approvals/{shown['id']}/{what}", {"digest": shown["digest"], "reason": reason})

    async def _ask(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        headers = {**self.headers, **more.pop("headers", {})}
        async with self._http.request(method, self._room.url + path, headers=headers, **more) as response:
            if response.status >= 400 and path != "/readyz":
                assert response.content_type == "application/problem+json"
            return response.status, json.loads(await response.read())


class World:
    """The console and the people."""

    def __init__(self, room: ConsoleRoom, http: aiohttp.ClientSession) -> None:
        self.room, self.http = room, http

    def by(self, name: str, *groups: str) -> Caller:
        return Caller(self.http, self.room, self.room.person(name, *groups))

    def with_token(self, token: str | None) -> Caller:
        return Caller(self.http, self.room, token)

    async def asked(self, *approvals: str, **what: Any) -> tuple[asyncio.Task[Any], ApprovalView]:
        task, held = await self.room.room.asked(command(**what), session(), *approvals)
        return task, held.view(exact=True)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with ConsoleRoom(tmp_path) as room, aiohttp.ClientSession() as http:
        yield World(room, http)


async def test_a_vote_over_http_grants(world: World) -> None:
    asking, view = await world.asked()
    ines = world.by("ines", "dba")
    status, listed = await ines.get("/api/v1/approvals?state=pending")
    assert status == 200 and [one["id"] for one in listed["approvals"]] == [view.id] and listed["next"] is None
    status, shown = await ines.get(f"/api/v1/approvals/{view.id}")
    assert (status, shown["text"], shown["exact"], shown["state"]) == (200, "delete from orders", True, "pending")
    for name in ("id", "state", "identity", "owner", "resource", "protocol", "text", "digest", "needs", "requested", "expires", "votes"):
        assert name in shown
    assert shown["needs"] == [{"group": "dba", "count": 1, "have": 0}]
    status, after = await ines.vote(shown)
    assert (status, after["state"], after["needs"][0]["have"]) == (200, "granted", 1)
    assert after["votes"][0] | {"time": ""} == {"voter": "ines", "vote": "approve", "reason": "looked at it", "time": ""}
    assert (await asking).id == view.id
    vote = world.room.audit.of("approval.vote")[0]
    assert (vote["voter"], vote["voter_source"], vote["source"]) == ("ines", "127.0.0.1", "127.0.0.1:50001")


async def test_a_denial_over_http(world: World) -> None:
    asking, view = await world.asked()
    assert (await world.by("ines", "dba").vote(view, "deny", "no"))[1]["state"] == "denied"
    with pytest.raises(Refused, match="denied by ines: no"):
        await asking
    status, again = await world.by("pia", "dba").vote(view)
    assert (status, again["code"]) == (409, "conflict")


async def test_t58_who_may_not_vote(world: World) -> None:
    """T58: the owner, another group, a robot with a valid token, nobody; each attempt of a person is on record."""
    asking, view = await world.asked()
    tries = [(world.by("dana", "dba"), 403), (world.by("Dana", "dba"), 403), (world.by("omar", "ops"), 404),
             (world.by("sam", "security"), 403), (world.with_token(world.room.robot()), 403), (world.with_token(None), 401)]
    for caller, expected in tries:
        for what in ("approve", "deny"):
            assert (await caller.vote(view, what))[0] == expected
    assert world.room.audit.kinds("approval.") == ["approval.requested"]
    refused = world.room.audit.of("console.refused")
    assert [one["identity"] for one in refused if "about" in one] == ["dana", "dana", "Dana", "Dana", "sam", "sam"]
    assert sum("not a person" in str(one) or "vouches for robots" in str(one) for one in refused) == 2
    asking.cancel()


async def test_t58_a_get_never_votes(world: World) -> None:
    """T58: a mail scanner, a link preview or an image tag only ever sends GET."""
    asking, view = await world.asked()
    status, _ = await world.by("ines", "dba").get(f"/api/v1/approvals/{view.id}/approve?digest={view.digest}&reason=x")
    assert status == 405
    status, _ = await world.by("ines", "dba").get(f"/api/v1/approvals/{view.id}?approve=1")
    assert status == 200 and world.room.approvals.pending() == 1
    asking.cancel()


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"])
async def test_t58_a_form_never_votes(world: World, content_type: str) -> None:
    """T58: what a page elsewhere can make a browser send without asking is not looked at; nor is a cookie."""
    asking, view = await world.asked()
    body = json.dumps({"digest": view.digest, "reason": "x"}).encode()
    path = f"/api/v1/approvals/{view.id}/approve"
    ines = world.by("ines", "dba")
    assert (await ines._ask("POST", path, data=body, headers={"Content-Type": content_type}))[0] == 415
    cookie = {"Cookie": f"token={ines.headers['Authorization'][7:]}; Authorization={ines.headers['Authorization']}"}
    assert (await world.with_token(None).post(path, {"digest": view.digest, "reason": "x"}, headers=cookie))[0] == 401
    async with world.http.options(world.room.url + path, headers={"Origin": "https://evil.example"}) as answer:
        assert answer.status == 405 and not [name for name in answer.headers if name.lower().startswith("access-control")]
    asking.cancel()


async def test_t58_answers_cannot_be_framed_kept_or_sniffed(world: World) -> None:
    for path in ("/readyz", "/api/v1/whoami", "/no/such/page"):
        async with world.http.get(world.room.url + path) as answer:
            assert answer.headers["X-Frame-Options"] == "DENY" and "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
            assert answer.headers["X-Content-Type-Options"] == "nosniff" and answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["Server"] == "lockgate" and "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(("document", "status"), [
    ({"digest": "sha256:" + "0" * 64, "reason": "x"}, 409), ({"digest": "DIGEST", "reason": " \x1b"}, 422),
    ({"digest": "DIGEST", "reason": "x" * 3000}, 422), ({"digest": "DIGEST"}, 400), ({"digest": "DIGEST", "reason": 1}, 400),
    ({"digest": "DIGEST", "reason": "x", "grant": "yes"}, 400), (["DIGEST"], 400), ("DIGEST", 400),
])
async def test_ballots_that_do_not_count(world: World, document: Any, status: int) -> None:
    asking, view = await world.asked()
    if isinstance(document, dict) and document["digest"] == "DIGEST":
        document = {**document, "digest": view.digest}
    assert (await world.by("ines", "dba").post(f"/api/v1/approvals/{view.id}/approve", document))[0] == status
    assert world.room.audit.kinds("approval.") == ["approval.requested"]
    asking.cancel()


@pytest.mark.parametrize("body", [b"{", b'{"digest": "a", "digest": "b", "reason": "x"}', b"[" * 60_000, b"\xff", b""])
async def test_bodies_that_are_no_ballot(world: World, body: bytes) -> None:
    asking, view = await world.asked()
    path, json_type = f"/api/v1/approvals/{view.id}/approve", {"Content-Type": "application/json"}
    assert (await world.by("ines", "dba")._ask("POST", path, data=body, headers=json_type))[0] == 400
    asking.cancel()


async def test_t60_a_reason_of_ten_megabytes_is_not_read(world: World) -> None:
    asking, view = await world.asked()
    body = io.BytesIO(json.dumps({"digest": view.digest, "reason": "x" * 10_000_000}).encode())
    status, problem = await world.by("ines", "dba")._ask(
        "POST", f"/api/v1/approvals/{view.id}/approve", data=body, headers={"Content-Type": "application/json"})
    assert (status, problem["status"]) == (413, 413)
    asking.cancel()


async def test_t60_what_hides_in_the_text_is_flagged(world: World) -> None:
    text = "select 1 -- \u202e" + " " * 300 + "\x1b[8m; drop table orders"
    asking, view = await world.asked(text=text)
    _, shown = await world.by("ines", "dba").get(f"/api/v1/approvals/{view.id}")
    assert shown["text"] == text and shown["text_flags"] == ["bidi", "control", "whitespace"]
    asking.cancel()


async def test_t64_ids_of_others_do_not_exist(world: World) -> None:
    """T64: who is in none of its groups cannot tell an approval from none."""
    asking, view = await world.asked()
    omar = world.by("omar", "ops")
    real, invented = await omar.get(f"/api/v1/approvals/{view.id}"), await omar.get("/api/v1/approvals/apr_00000000000000000000")
    assert real == invented and real[0] == 404
    assert (await omar.get("/api/v1/approvals"))[1]["approvals"] == []
    asking.cancel()


@pytest.mark.parametrize("path", [
    "/api/v1/sessions", "/api/v1/sessions/ses_1", "/api/v1/sessions/ses_1/events", "/api/v1/search?q=ssn", "/api/v1/audit/head"])
async def test_t64_recordings_are_for_readers_and_each_read_is_on_record(world: World, path: str) -> None:
    """T64: other people's replays."""
    world.room.archive.records.append({"kind": "session.start", "session": "ses_1", "identity": "ci-bot", "text": "ssn"})
    for caller, expected in ((world.by("ines", "dba"), 403), (world.with_token(world.room.robot()), 403), (world.with_token(None), 401)):
        assert (await caller.get(path))[0] == expected
    assert not world.room.audit.of("console.read")
    assert (await world.by("sam", "security").get(path))[0] == 200
    [read] = world.room.audit.of("console.read")
    assert (read["identity"], read["source"]) == ("sam", "127.0.0.1") and "ssn" not in str(read)


async def test_nothing_is_read_when_that_cannot_be_recorded(tmp_path: Path) -> None:
    async with ConsoleRoom(tmp_path, audit=FailingAudit(1)) as room, aiohttp.ClientSession() as http:
        room.archive.records.append({"kind": "session.start", "session": "ses_1"})
        status, problem = await Caller(http, room, room.person("sam", "security")).get("/api/v1/sessions")
        assert (status, problem["code"]) == (503, "audit-unavailable") and "ses_1" not in str(problem)


async def test_a_vote_that_cannot_be_recorded_says_so(tmp_path: Path) -> None:
    async with ConsoleRoom(tmp_path, audit=FailingAudit(2)) as room, aiohttp.ClientSession() as http:
        asking, held = await room.room.asked()
        status, problem = await Caller(http, room, room.person("ines", "dba")).vote(held.view(exact=True))
        assert (status, problem["code"], held.state) == (503, "audit-unavailable", "pending")
        asking.cancel()


async def test_sessions_are_ended_by_those_who_may(world: World) -> None:
    ended: list[str] = []
    world.room.live.add(session(), ended.append)
    sam = world.by("sam", "security")
    assert (await world.by("ines", "dba").post("/api/v1/sessions/ses_1/end", {}))[0] == 403
    assert (await sam.post("/api/v1/sessions/ses_2/end", {}))[0] == 404
    assert await sam.post("/api/v1/sessions/ses_1/end", {}) == (200, {"session": "ses_1", "ended": True})
    assert ended == ["ended by sam"]
    assert world.room.audit.of("console.end")[0]["about"] == "ses_1"


async def test_a_live_session_is_marked(world: World) -> None:
    world.room.live.add(session(), lambda reason: None)
    world.room.archive.records += [{"kind": "session.start", "session": "ses_1"}, {"kind": "session.start", "session": "ses_9"}]
    _, listed = await world.by("sam", "security").get("/api/v1/sessions?limit=2")
    assert [(one["id"], one["live"]) for one in listed["sessions"]] == [("ses_1", True), ("ses_9", False)]
    _, listed = await world.by("sam", "security").get("/api/v1/sessions?identity=nobody")
    assert listed["sessions"] == []


@pytest.mark.parametrize("path", ["/api/v1/sessions?limit=0", "/api/v1/sessions?limit=1e3", "/api/v1/sessions?limit=9999", "/api/v1/search",
                                  "/api/v1/search?q=" + "x" * 1025, "/api/v1/approvals?state=open"])
async def test_queries_that_make_no_sense(world: World, path: str) -> None:
    assert (await world.by("sam", "security").get(path))[0] == 400


async def test_a_log_that_cannot_be_read(world: World) -> None:
    world.room.archive.broken = True
    status, problem = await world.by("sam", "security").get("/api/v1/audit/head")
    assert (status, problem["detail"]) == (500, "the log cannot be read")


async def test_t68_only_people_of_this_segment_get_in(world: World) -> None:
    """T68: tokens of robots, of other audiences, of nobody, expired, revoked, forged, none, twice."""
    room = world.room
    forged = type(room.staff)("https://login.example", "lockgate/plant-a/people")
    tokens = [
        (room.robot(), 403), (room.person("ines", "dba", aud="lockgate/plant-b/people"), 401),
        (room.person("ines", "dba", aud="lockgate/plant-a"), 401),
        (forged.person("ines", ["dba"], now=room.now()), 401), (room.person("gone", "dba"), 401), ("x", 401), ("", 401),
        (room.person("ines", "dba", lifetime=-100), 401), (room.ci.mint("nobody", now=room.now()), 403),
    ]
    for token, expected in tokens:
        assert ((await world.with_token(token).get("/api/v1/whoami"))[0], token) == (expected, token)
    good = room.person("ines", "dba")
    basic = {"Authorization": "Basic " + base64.b64encode(f"ines:{good}".encode()).decode()}
    async with world.http.get(room.url + "/api/v1/whoami", headers=basic) as answer:
        assert answer.status == 401 and "Bearer" in answer.headers["WWW-Authenticate"]
    assert (await world.with_token(None).get(f"/api/v1/whoami?access_token={good}"))[0] == 401
    twice = [("Authorization", f"Bearer {good}")] * 2
    async with world.http.get(room.url + "/api/v1/whoami", headers=twice) as answer:
        assert answer.status == 401


async def test_no_token_in_any_record_or_answer(world: World) -> None:
    token = world.room.person("ines", "dba", aud="other")
    _, problem = await world.with_token(token).get("/api/v1/whoami")
    for piece in token.split("."):
        assert piece not in world.room.audit.text() and piece not in json.dumps(problem)


async def test_refused_tokens_are_bounded_per_source(tmp_path: Path) -> None:
    async with ConsoleRoom(tmp_path, limits=ConsoleLimits(failures=3)) as room, aiohttp.ClientSession() as http:
        bad = Caller(http, room, "x")
        assert [(await bad.get("/api/v1/whoami"))[0] for _ in range(5)] == [401, 401, 401, 429, 429]
        assert len(room.audit.of("console.refused")) == 3


async def test_whoami(world: World) -> None:
    _, shown = await world.by("sam", "security").get("/api/v1/whoami")
    assert (shown["name"], shown["groups"], shown["reads"], shown["ends"]) == ("sam", ["security"], True, True)
    _, shown = await world.by("ines", "dba").get("/api/v1/whoami")
    assert (shown["name"], shown["reads"], shown["ends"]) == ("ines", False, False)


async def test_ready_only_while_serving_and_recording(world: World, tmp_path: Path) -> None:
    nobody = world.with_token(None)
    assert await nobody.get("/readyz") == (200, {"ready": True, "reason": ""})
    world.room.ready = False
    assert (await nobody.get("/readyz"))[0] == 503
    assert await nobody.get("/healthz") == (200, {"alive": True})


async def test_not_ready_without_an_audit(tmp_path: Path) -> None:
    audit = FailingAudit(1)
    async with ConsoleRoom(tmp_path, audit=audit) as room, aiohttp.ClientSession() as http:
        audit.failed = 1
        assert (await Caller(http, room, None).get("/readyz")) == (503, {"ready": False, "reason": "the audit log cannot be written"})


async def test_metrics_are_numbers_without_names(world: World) -> None:
    asking, _ = await world.asked()
    async with world.http.get(world.room.url + "/metrics") as answer:
        text = await answer.text()
    assert answer.status == 200 and answer.content_type == "text/plain"
    assert "\nlockgate_approvals_pending 1\n" in text and "# TYPE lockgate_approvals_granted_total counter\n" in text
    assert all(line.startswith(("lockgate_", "# TYPE lockgate_")) for line in text.splitlines())
    assert {line.split()[0] for line in text.splitlines() if line[0] != "#"} == {f"lockgate_{name}" for name in METRICS}
    assert "ci-bot" not in text and "{" not in text
    asking.cancel()


@pytest.mark.parametrize(("mode", "expected"), [("off", (404, 404)), ("token", (401, 200))])
async def test_metrics_as_configured(tmp_path: Path, mode: str, expected: tuple[int, int]) -> None:
    async with ConsoleRoom(tmp_path, metrics=mode) as room, aiohttp.ClientSession() as http:
        for token, status in zip((None, room.person("sam", "security")), expected, strict=True):
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            async with http.get(room.url + "/metrics", headers=headers) as answer:
                assert answer.status == status


async def test_long_lists_come_in_pages(world: World) -> None:
    asked = [await world.room.room.asked(command("x" * 1_500_000 + str(n)), session(n)) for n in range(5)]
    ines, seen, after = world.by("ines", "dba"), [], ""
    for _ in range(5):
        _, page = await ines.get(f"/api/v1/approvals?after={after}")
        seen += [one["id"] for one in page["approvals"]]
        after = page["next"]
        if after is None:
            break
    assert seen == [held.id for _, held in asked]
    for task, _ in asked:
        task.cancel()


async def test_t59_two_votes_at_once_over_http(world: World) -> None:
    asking, view = await world.asked()
    answers = await asyncio.gather(*(world.by(name, "dba").vote(view) for name in ("ines", "pia", "lou")))
    assert sorted(status for status, _ in answers) == [200, 409, 409]
    assert world.room.audit.kinds("approval.") == ["approval.requested", "approval.vote", "approval.granted"]
    assert (await asking).id == view.id
