# SPDX-License-Identifier: Apache-2.0
"""``lockgate approvals`` against a real console on loopback, with real tokens."""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import socket
import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from gateway.approvals.book import Held
from gateway.cli import approvals
from gateway.cli.client import ClientProblem, client
from gateway.config.schema import Listener
from gateway.console.server import ConsoleServer
from gateway.errors import ConfigError
from gateway.model import Operation
from gateway.testing.certificates import Authority
from gateway.testing.console import ConsoleRoom
from gateway.testing.desk import command, session


@dataclass
class Answer:
    status: int
    out: str
    err: str

    @property
    def documents(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


def run_now(*words: str) -> Answer:
    """The verb as ``main`` runs it."""
    parser = argparse.ArgumentParser()
    approvals.register(parser.add_subparsers())
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        args = parser.parse_args(["approvals", *words])
        status: int = args.run(args)
    return Answer(status, out.getvalue(), err.getvalue())


class World:
    """A console and people at their terminals."""

    def __init__(self, room: ConsoleRoom, folder: Path) -> None:
        self.room, self.folder = room, folder

    async def by(self, name: str, *words: str, groups: tuple[str, ...] = ("dba",), token: str = "") -> Answer:
        path = self.folder / f"{name}.token"
        path.write_text((token or self.room.person(name, *groups)) + "\n")
        return await asyncio.to_thread(run_now, *words, "--url", self.room.url, "--token-file", str(path))

    async def asked(self, text: str = "delete from orders", *definitions: str, number: int = 1) -> tuple[asyncio.Task[Any], Held]:
        return await self.room.room.asked(command(text), session(number), *definitions)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with ConsoleRoom(tmp_path) as room:
        yield World(room, tmp_path)


async def test_list_shows_what_waits(world: World) -> None:
    asking, held = await world.asked()
    listed = await world.by("ines", "list")
    assert listed.status == 0 and listed.out.splitlines()[0].split()[:2] == ["ID", "STATE"]
    assert held.id in listed.out and "ci-bot" in listed.out and "dba 0/1" in listed.out and "delete from orders" in listed.out
    assert (await world.by("omar", "list", groups=("ops",))).out == "nothing waits\n"
    asking.cancel()


async def test_list_as_json_lines_and_by_state(world: World) -> None:
    first, held = await world.asked()
    second, other = await world.asked("delete from customers", number=2)
    await world.by("ines", "approve", held.id, "--reason", "fine")
    for words, expected in (((), [other.id]), (("--state", "granted"), [held.id]), (("--all",), [held.id, other.id]),
                            (("--state", "granted", "--state", "pending"), [held.id, other.id])):
        listed = await world.by("ines", "list", "--json", *words)
        assert [one["id"] for one in listed.documents] == expected
    first.cancel()
    second.cancel()


async def test_show_says_who_where_what_and_until_when(world: World) -> None:
    asking, held = await world.asked("delete from orders\n  where true")
    shown = await world.by("ines", "show", held.id)
    for piece in (held.id, "pending", "ci-bot (owner dana)", "orders-db, database orders, login orders_app through plant-a-1", "dba 0/1",
                  held.request.digest, "search_path = public", "    | delete from orders\n    |   where true\n", "2026-09-21T"):
        assert piece in shown.out
    document = (await world.by("ines", "show", held.id, "--json")).documents[0]
    host = "\n".join(approvals._human(document | {"database": "", "resource": "web-1", "login": "root"}))
    assert "web-1, login root through plant-a-1" in host
    for name in ("id", "state", "identity", "owner", "resource", "protocol", "text", "digest", "needs", "requested", "expires", "votes"):
        assert name in document
    asking.cancel()


async def test_approve_shows_before_it_votes(world: World) -> None:
    asking, held = await world.asked()
    voted = await world.by("ines", "approve", held.id, "--reason", "cleanup")
    assert voted.status == 0 and "    | delete from orders" in voted.out
    assert voted.out.endswith(f"voted to approve: {held.id} is granted now\n")
    assert (await asking).id == held.id
    assert world.room.audit.of("approval.vote")[0]["reason"] == "cleanup"


async def test_deny_as_json_is_one_document(world: World) -> None:
    asking, held = await world.asked()
    voted = await world.by("ines", "deny", held.id, "--reason", "no", "--json")
    assert (voted.status, voted.documents[0]["state"], len(voted.documents)) == (0, "denied", 1)
    await asyncio.gather(asking, return_exceptions=True)


@pytest.mark.parametrize(("name", "groups"), [("dana", ("dba",)), ("omar", ("ops",)), ("sam", ("security",))])
async def test_the_answer_is_no(world: World, name: str, groups: tuple[str, ...]) -> None:
    asking, held = await world.asked()
    voted = await world.by(name, "approve", held.id, "--reason", "x", groups=groups)
    assert voted.status == 1 and voted.err.startswith("lockgate: ")
    assert "error" in (await world.by(name, "approve", held.id, "--reason", "x", "--json", groups=groups)).documents[-1]
    assert held.state == "pending"
    asking.cancel()


async def test_other_answers_of_no(world: World) -> None:
    asking, held = await world.asked()
    assert (await world.by("ines", "show", "apr_none")).status == 1
    assert (await world.by("ines", "show", "../sessions")).status == 1
    assert (await world.by("bot", "list", token=world.room.robot())).status == 1
    assert (await world.by("nobody", "list", token="not-a-token")).status == 1
    assert (await world.by("ines", "approve", held.id, "--reason", " ")).status == 1
    await world.by("ines", "approve", held.id, "--reason", "x")
    assert (await world.by("pia", "approve", held.id, "--reason", "x")).status == 1
    asking.cancel()


async def test_a_pinned_digest(world: World) -> None:
    asking, held = await world.asked()
    other = await world.by("ines", "approve", held.id, "--reason", "x", "--digest", "sha256:" + "0" * 64)
    assert other.status == 1 and "no vote was sent" in other.err and held.state == "pending"
    assert (await world.by("ines", "approve", held.id, "--reason", "x", "--digest", held.request.digest)).status == 0
    asking.cancel()


async def test_t60_what_hides_is_written_out(world: World) -> None:
    """T60: no byte of the statement reaches the terminal as itself unless it prints as itself."""
    text = "select 1 -- \u202e\x1b]52;c;ZXZpbA==\x07" + " " * 300 + "\r; drop table orders\nVERDICT: safe"
    asking, held = await world.asked(text)
    for words in (("show", held.id), ("list",), ("deny", held.id, "--reason", "\x1b[2Jno")):
        shown = await world.by("ines", *words)
        assert shown.status == 0 and not set(shown.out) & set("\u202e\x1b\x07\r")
    shown = await world.by("ines", "show", held.id)
    assert "denied by ines: [2Jno" in shown.out
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    asking, held = await world.asked(text)
    shown = await world.by("ines", "show", held.id)
    assert "\\u{202e}\\x1b]52" in shown.out and "\\{300 spaces}" in shown.out and "    | VERDICT: safe" in shown.out
    assert shown.out.count("WARNING: ") == 3
    asking.cancel()


async def test_what_it_does_is_one_line_or_one_for_each_operation(world: World) -> None:
    asking, held = await world.asked()
    assert "\ndoes:      delete public.orders\nrules:" in (await world.by("ines", "show", held.id)).out
    each = (("list", "/srv/a"), ("read", "/srv/a"), ("list", "/srv/b\x1b"), ("list", "/srv/a"))
    several = replace(command("sync"), apart=True, operations=tuple(Operation("ssh", verb, (path,)) for verb, path in each))
    asking_too, other = await world.room.room.asked(several, session(2))
    assert "\ndoes:      list /srv/a\ndoes:      read /srv/a\ndoes:      list /srv/b\\x1b\nrules:" in (
        await world.by("ines", "show", other.id)).out
    assert (await world.by("ines", "show", other.id, "--json")).documents[0]["operations"] == [
        ["list", "/srv/a"], ["read", "/srv/a"], ["list", "/srv/b\x1b"]]
    for one in (asking, asking_too):
        one.cancel()


async def test_t57_a_text_that_does_not_fit_its_digest_is_not_voted_on() -> None:
    shown = {"id": "apr_1", "digest": "sha256:" + "0" * 64, "text": "select 1", "binding": {"text": "select 1"}}
    with pytest.raises(ClientProblem, match="do not vote"):
        approvals._checked(shown)


@pytest.mark.parametrize("words", [("approve", "apr_1"), ("show",), ("vote", "apr_1"), ("list", "--state", "open")])
def test_requests_that_are_wrong(words: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as ended:
        run_now(*words)
    assert ended.value.code == 2


@pytest.mark.parametrize(("content", "words"), [
    (None, ("--url", "https://127.0.0.1:1")), ("", ("--url", "https://127.0.0.1:1")), ("two words", ("--url", "https://127.0.0.1:1")),
    ("töken", ("--url", "https://127.0.0.1:1")), ("t", ("--url", "http://gateway.example:1")), ("t", ("--url", "ftp://127.0.0.1")),
    ("t", ("--url", "https://127.0.0.1:1", "--ca", "missing.crt")), ("t", ("--config", "missing")),
])
def test_options_that_cannot_be_followed(
        tmp_path: Path, content: str | None, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    token = tmp_path / "token"
    if content is not None:
        token.write_text(content)
    with pytest.raises(ConfigError) as wrong:
        run_now("list", "--token-file", str(token), *words)
    assert content is None or len(content) < 3 or content not in str(wrong.value)
    with pytest.raises(ConfigError, match="--token-file"):
        run_now("list", "--url", "https://127.0.0.1:1")


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


async def test_a_console_that_is_not_there(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("t0ken")
    asked = await asyncio.to_thread(run_now, "list", "--url", f"http://127.0.0.1:{free_port()}", "--token-file", str(token))
    assert asked.status == 2 and "cannot be asked" in asked.err and "t0ken" not in asked.err


async def test_over_tls_from_the_folder_or_from_elsewhere(tmp_path: Path) -> None:
    """``--config`` trusts the listener's own certificate, ``--ca`` what vouches for it; nothing else is talked to."""
    (tmp_path / "keys").mkdir()
    (tmp_path / "other").mkdir()
    pair = Authority(tmp_path / "keys").issue("127.0.0.1")
    other = Authority(tmp_path / "other").issue("127.0.0.1")
    room = ConsoleRoom(tmp_path, tls=pair, port=free_port())
    server = ConsoleServer(room, room.folder.gateway.listeners["console"])
    await server.start()
    try:
        asking, held = await room.room.asked()
        token = tmp_path / "token"
        token.write_text(room.person("ines", "dba"))
        url = f"https://127.0.0.1:{server.address[1]}"
        for words, status in ((("--config", str(tmp_path / "config")), 0), (("--url", url, "--ca", str(pair.ca)), 0),
                              (("--url", url, "--ca", str(other.ca)), 2), (("--url", url), 2)):
            shown = await asyncio.to_thread(run_now, "show", held.id, "--token-file", str(token), *words)
            assert (words, shown.status) == (words, status), shown.err
        pair.certificate.write_bytes(other.certificate.read_bytes())
        pair.key.write_bytes(other.key.read_bytes())
        shown = await asyncio.to_thread(run_now, "show", held.id, "--token-file", str(token), "--config", str(tmp_path / "config"))
        assert shown.status == 2 and "certificate is not trusted" in shown.err
        asking.cancel()
    finally:
        await server.stop()
        await room.approvals.close()
        room.authenticator.close()


async def test_old_tls_is_refused(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    pair = Authority(tmp_path / "keys").issue("127.0.0.1")
    room = ConsoleRoom(tmp_path, tls=pair)
    server = ConsoleServer(room, Listener(address="127.0.0.1:0", tls={"certificate": str(pair.certificate), "key": str(pair.key)}))  # type: ignore[arg-type]
    await server.start()
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.load_verify_locations(pair.ca)
    with warnings.catch_warnings(action="ignore"):
        old.minimum_version, old.maximum_version = ssl.TLSVersion.MINIMUM_SUPPORTED, ssl.TLSVersion.TLSv1_1
    try:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", server.address[1], ssl=old)
    finally:
        await server.stop()
        room.authenticator.close()


def test_the_token_is_not_in_the_clients_repr(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cr3t")
    args = argparse.Namespace(url="https://127.0.0.1:1", ca=None, config=None, token_file=tmp_path / "token")
    assert "s3cr3t" not in repr(client(args))
