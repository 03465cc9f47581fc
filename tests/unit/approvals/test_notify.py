# SPDX-License-Identifier: Apache-2.0
"""The webhook, against a real receiver on loopback."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from gateway.approvals import notify
from gateway.approvals.notify import ATTEMPTS, QUEUE, Notifier, Target, document, target_of
from gateway.approvals.view import ApprovalView
from gateway.config.schema import Webhook
from gateway.credentials import Credential
from gateway.credentials.secret import Secret
from gateway.errors import ConfigError
from gateway.net.tls import client_context, server_context
from gateway.testing.certificates import Authority
from gateway.testing.desk import DeskRoom, command


class Receiver:
    """Answers with the statuses it is given, then 200; keeps what it got."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        self.got.append((dict(request.headers), await request.read()))
        status = self.statuses.pop(0) if self.statuses else 200
        return web.Response(status=status, headers={"Location": self.url} if status in (301, 307) else {})


@pytest.fixture
async def receiver(tmp_path: Path) -> AsyncIterator[Receiver]:
    found = Receiver()
    app = web.Application()
    app.router.add_post("/hook", found.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    pair = Authority(tmp_path).issue("127.0.0.1")
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_context(pair.certificate, pair.key))
    await site.start()
    found.url = f"https://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield found
    await runner.cleanup()


async def view(**what: Any) -> ApprovalView:
    room = DeskRoom()
    asking, held = await room.asked(command(**what))
    asking.cancel()
    return replace(held.view(exact=False), state="pending")


def target(receiver: Receiver, tmp_path: Path, **more: Any) -> Target:
    return Target(receiver.url, client_context("verify-full", tmp_path / "ca.crt"), Secret("hook-s3cret"), **more)


class Pauses:
    """Instead of sleeping."""

    def __init__(self) -> None:
        self.all: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.all.append(seconds)


async def sent(notifier: Notifier, *views: ApprovalView) -> None:
    await notifier.start()
    for one in views:
        notifier.tell(one)
    for _ in range(500):
        if sum(notifier.counts.values()) >= len(views):
            break
        await asyncio.sleep(0.01)
    await notifier.stop()


async def test_it_says_who_where_and_what_but_not_the_text(receiver: Receiver, tmp_path: Path) -> None:
    shown = await view(text="alter role x password 'hunter2'", shown="alter role x password '****'")
    notifier = Notifier(None, target=target(receiver, tmp_path, console="https://gw:1"), clock=lambda: 1_790_000_000.0)
    await sent(notifier, shown)
    [(headers, body)] = receiver.got
    said = json.loads(body)
    assert (said["id"], said["digest"], said["identity"], said["resource"]) == (shown.id, shown.digest, "ci-bot", "orders-db")
    assert said["needs"] == [{"group": "dba", "count": 1, "have": 0}] and said["console"] == "https://gw:1"
    assert "text" not in said and b"alter role" not in body
    moment, mac = headers["Lockgate-Signature"].split(",")
    expected = hmac.new(b"hook-s3cret", moment[2:].encode() + b"." + body, hashlib.sha256).hexdigest()
    assert (moment, mac) == ("t=1790000000", f"v1={expected}")
    assert notifier.counts == {"sent": 1}


async def test_the_text_where_it_is_wanted_is_the_one_the_log_may_show(receiver: Receiver, tmp_path: Path) -> None:
    shown = await view(text="alter role x password 'hunter2'", shown="alter role x password '****'")
    await sent(Notifier(None, target=target(receiver, tmp_path, include_text=True), clock=lambda: 0.0), shown)
    assert json.loads(receiver.got[0][1])["text"] == "alter role x password '****'" and b"hunter2" not in receiver.got[0][1]


async def test_it_tries_again_and_waits_longer_each_time(receiver: Receiver, tmp_path: Path) -> None:
    receiver.statuses = [500, 503, 429]
    pauses = Pauses()
    notifier = Notifier(None, target=target(receiver, tmp_path), sleep=pauses, clock=lambda: 0.0)
    await sent(notifier, await view())
    assert (len(receiver.got), pauses.all, notifier.counts) == (4, [1.0, 2.0, 4.0], {"sent": 1})


@pytest.mark.parametrize(("statuses", "tries"), [([500] * 20, ATTEMPTS), ([403], 1), ([307], 1), ([301], 1)])
async def test_it_gives_up(receiver: Receiver, tmp_path: Path, statuses: list[int], tries: int, caplog: pytest.LogCaptureFixture) -> None:
    receiver.statuses = statuses
    notifier = Notifier(None, target=target(receiver, tmp_path), sleep=Pauses(), clock=lambda: 0.0)
    await sent(notifier, await view())
    assert (len(receiver.got), notifier.counts) == (tries, {"failed": 1})
    assert "did not take approval" in caplog.text and "hook-s3cret" not in caplog.text


async def test_what_expired_is_not_told(receiver: Receiver, tmp_path: Path) -> None:
    notifier = Notifier(None, target=target(receiver, tmp_path), clock=lambda: 4_000_000_000.0)
    await sent(notifier, await view())
    assert not receiver.got and notifier.counts == {"failed": 1}


async def test_a_receiver_that_cannot_prove_itself_is_told_nothing(receiver: Receiver, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    Authority(tmp_path / "other")
    wrong = replace(target(receiver, tmp_path), context=client_context("verify-full", tmp_path / "other" / "ca.crt"))
    notifier = Notifier(None, target=wrong, sleep=Pauses(), clock=lambda: 0.0)
    await sent(notifier, await view())
    assert not receiver.got and notifier.counts == {"failed": 1}


async def test_telling_never_blocks_and_the_queue_is_bounded(receiver: Receiver, tmp_path: Path) -> None:
    notifier, shown = Notifier(None, target=target(receiver, tmp_path)), await view()
    for _ in range(QUEUE + 3):
        notifier.tell(shown)
    assert notifier.counts == {"dropped": 3}


async def test_one_that_cannot_be_sent_does_not_stop_the_next(receiver: Receiver, tmp_path: Path) -> None:
    good = await view()
    notifier = Notifier(None, target=target(receiver, tmp_path), clock=lambda: 0.0)
    await sent(notifier, replace(good, expires="nonsense"), good)
    assert notifier.counts == {"failed": 1, "sent": 1} and len(receiver.got) == 1


async def test_without_a_webhook_nothing_is_kept() -> None:
    notifier = Notifier(None)
    notifier.tell(await view())
    await notifier.start()
    await notifier.stop()
    assert not notifier.counts


def folder(tmp_path: Path, **webhook: Any) -> Any:
    """As much of a folder as the webhook looks at."""
    gateway = SimpleNamespace(notify=SimpleNamespace(webhook=Webhook(**webhook) if webhook else None), listeners={})
    known = {"hook": Credential("hook", "bearer", token=Secret("hook-s3cret")), "db": Credential("db", "password")}
    return SimpleNamespace(gateway=gateway, credentials=known, resolve=lambda name: tmp_path / name)


def test_from_the_folder(tmp_path: Path) -> None:
    Authority(tmp_path)
    assert target_of(folder(tmp_path)) is None
    found = target_of(folder(tmp_path, url="https://x/hook", ca="ca.crt", secret="hook", include_text=True))
    assert found is not None and found.context is not None and found.secret.reveal() == "hook-s3cret" and found.include_text
    assert "hook-s3cret" not in repr(found)
    assert found.context.check_hostname


@pytest.mark.parametrize("webhook", [{"secret": "none"}, {"secret": "db"}, {"ca": "missing.crt"}])
def test_a_folder_that_cannot_be_followed(tmp_path: Path, webhook: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"gateway.yaml: notify.webhook"):
        target_of(folder(tmp_path, url="https://x/hook", **webhook))


async def test_the_document_is_json_whatever_the_text_holds(tmp_path: Path) -> None:
    shown = await view(text="x\u202e\x1b\ud800")
    body = json.dumps(document(shown, Target("https://x", include_text=True)))
    assert json.loads(body)["text_flags"] == ["bidi", "control", "invisible"]
    assert notify.signature(Secret("k"), body.encode(), 1).startswith("t=1,v1=")


async def test_a_reload_loses_no_word_that_was_not_delivered_yet(receiver: Receiver, tmp_path: Path) -> None:
    """The former one is in the middle of its tries, another document waits behind it: the new one delivers both, and goes on counting."""
    stuck = asyncio.Event()

    async def never(seconds: float) -> None:
        stuck.set()
        await asyncio.Event().wait()

    receiver.statuses = [503]
    hook = target(receiver, tmp_path)
    former, later = Notifier(None, target=hook, sleep=never, clock=lambda: 0.0), Notifier(None, target=hook, clock=lambda: 0.0)
    await former.start()
    former.tell(await view())
    former.tell(await view())
    async with asyncio.timeout(20):
        await stuck.wait()
        await later.take_over(former)
        while len(receiver.got) < 3:  # noqa: ASYNC110 - the receiver is another server, it has no event to wait for
            await asyncio.sleep(0.01)
    await later.stop()
    assert later.counts is former.counts
