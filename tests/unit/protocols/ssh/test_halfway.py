# SPDX-License-Identifier: Apache-2.0
"""What ends or changes while something is half way: being connected, being opened, being held (research names T9, T57)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from gateway.testing import MemoryAudit
from tests.unit.protocols.ssh.talk import Rules, Talk, Target, talking
from tests.unit.protocols.ssh.test_abuse import sessions, until

ACTIONS = ["exec", "agent", "forward-local", "forward-remote"]
RULES: Rules = [{"name": "all", "allow": {"ssh": {"actions": ACTIONS}}},
                {"name": "held", "approve": {"ssh": {"actions": ["exec"], "command": ["printf *"]}}, "by": "one-dba"}]
NONE: Rules = [{"name": "all", "allow": {"ssh": {"actions": ["exec"], "command": ["nothing"]}}}]


class Doorkeeper(Target):
    """Lets nobody in before ``open``; counts who is there."""

    open: asyncio.Event
    here: int
    came: int

    async def begin_auth(self, username: str) -> bool:  # type: ignore[override]
        type(self).came += 1
        await self.open.wait()
        return False

    def connection_made(self, conn: Any) -> None:
        type(self).here += 1

    def connection_lost(self, exc: Exception | None) -> None:
        type(self).here -= 1

    def server_requested(self, listen_host: str, listen_port: int) -> bool:
        self._asked.append(f"listen {listen_port}")
        return True


@asynccontextmanager
async def kept_waiting(root: Path, audit: MemoryAudit) -> AsyncIterator[tuple[Talk, type[Doorkeeper]]]:
    class Mine(Doorkeeper):
        open, here, came = asyncio.Event(), 0, 0

    async with talking(root, RULES, audit, Mine) as talk:
        yield talk, Mine
        Mine.open.set()


async def test_a_policy_that_changes_while_the_target_lets_us_in_t57(tmp_path: Path) -> None:
    """The command was allowed, and is not any more when it could begin: it does not."""
    async with kept_waiting(tmp_path, audit := MemoryAudit()) as (talk, target):
        process = await talk.caller.create_process("echo now", encoding=None)
        assert await until(lambda: target.came)
        await talk.change(NONE)
        target.open.set()
        assert (await asyncio.wait_for(process.wait(), 60)).exit_status == 126
        assert talk.asked == []
        assert await until(lambda: audit.of("command.end"))
        assert [one["status"] for one in audit.of("command.end")] == ["refused"]


async def test_a_forward_whose_policy_changes_while_the_target_lets_us_in_t57(tmp_path: Path) -> None:
    async with kept_waiting(tmp_path, audit := MemoryAudit()) as (talk, target):
        opening = asyncio.ensure_future(talk.caller.open_connection("127.0.0.1", 9, encoding=None))
        assert await until(lambda: target.came)
        await talk.change(NONE)
        target.open.set()
        with pytest.raises(asyncssh.ChannelOpenError):
            await asyncio.wait_for(opening, 60)
        assert talk.asked == []
        assert [one["status"] for one in audit.of("command.end")] == ["refused"]


async def test_a_channel_that_leaves_withdraws_nothing_of_another_t57(tmp_path: Path) -> None:
    """One is held, the other is being connected: whoever goes takes back its own."""
    async with kept_waiting(tmp_path, MemoryAudit()) as (talk, target):
        held = await talk.caller.create_process("printf held", encoding=None)
        assert await until(lambda: talk.gateway.approvals.listed(["pending"]))
        other = await talk.caller.create_process("echo other", encoding=None)
        assert await until(lambda: target.came)
        other.channel.close()
        await asyncio.sleep(0.3)
        assert [one.state for one in talk.gateway.approvals.listed()] == ["pending"]
        held.channel.close()
        assert await until(lambda: [one.state for one in talk.gateway.approvals.listed()] == ["withdrawn"])


async def test_connections_of_a_session_s_own_end_with_it_t09(tmp_path: Path) -> None:
    """Two that ask at once share one; none outlives the session, not even one that was being made."""
    async with kept_waiting(tmp_path, MemoryAudit()) as (talk, target):
        target.open.set()
        both = [asyncio.ensure_future(talk.caller.start_server(lambda *_: None, "127.0.0.1", 0)) for _ in range(2)]
        session = sessions(talk)[0]
        both += [asyncio.ensure_future(session.upstream(own=True)) for _ in range(3)]
        await asyncio.wait(both)
        assert target.here == 1
        session.end("enough")
        assert await until(lambda: target.here == 0)


async def test_a_connection_that_is_made_while_its_session_ends_t09(tmp_path: Path) -> None:
    async with kept_waiting(tmp_path, MemoryAudit()) as (talk, target):
        asking = asyncio.ensure_future(talk.caller.start_server(lambda *_: None, "127.0.0.1", 0))
        assert await until(lambda: target.came)
        session = sessions(talk)[0]
        talk.caller.abort()
        assert await until(lambda: session.over)
        target.open.set()
        await asyncio.wait([asking])
        assert await until(lambda: target.here == 0)
        assert talk.asked == []


async def test_another_policy_means_another_connection_of_one_s_own_t57(tmp_path: Path) -> None:
    """What the old one pinned, and logged in with, is used for nothing new."""
    async with kept_waiting(tmp_path, MemoryAudit()) as (talk, target):
        target.open.set()
        listening = await talk.caller.start_server(lambda *_: None, "127.0.0.1", 0)
        await talk.change(RULES, share="7s")
        again = await talk.caller.start_server(lambda *_: None, "127.0.0.1", 0)
        assert target.here == 2
        listening.close()
        assert await until(lambda: target.here == 1)
        again.close()


async def test_a_forward_that_opens_after_the_end_is_closed_t09(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The target takes its time to connect; the session is over by then; another one of the same identity keeps the connection."""
    may, opened, closed = asyncio.Event(), [], []

    class Slow(Doorkeeper):
        open, here, came = asyncio.Event(), 0, 0

        def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> Any:
            async def late() -> Any:
                self._asked.append("asked")
                await may.wait()

                class Session(asyncssh.SSHTCPSession[bytes]):
                    def connection_made(self, chan: Any) -> None:
                        opened.append(chan)

                    def connection_lost(self, exc: Exception | None) -> None:
                        closed.append(exc)

                return Session()
            return late()

    async with talking(tmp_path, RULES, audit := MemoryAudit(), Slow) as talk:
        Slow.open.set()
        session = sessions(talk)[0]
        opening = asyncio.ensure_future(talk.caller.open_connection("127.0.0.1", 9, encoding=None))
        assert await until(lambda: talk.asked)
        way = next(iter(session._ways))
        upstream = next(iter(way._shared.values()))[0].take()           # another session of the same identity is on it
        session.end("enough")
        await asyncio.wait([opening])
        may.set()
        assert await until(lambda: opened and closed)
        assert [one["status"] for one in audit.of("command.end")] == ["cancelled"]
        assert upstream.connection.channels == 0
        upstream.give_back()


async def test_places_that_a_session_listens_on_are_bounded_t51(tmp_path: Path) -> None:
    async with kept_waiting(tmp_path, MemoryAudit()) as (talk, target):
        target.open.set()
        made: list[asyncssh.SSHListener] = []
        with pytest.raises(asyncssh.ChannelListenError):
            for _ in range(30):
                made.append(await talk.caller.start_server(lambda *_: None, "127.0.0.1", 0))
        assert len(made) == 16
        made[0].close()
        more: list[asyncssh.SSHListener] = []
        while not more:                              # there is a place again once it is closed at the target
            with contextlib.suppress(asyncssh.ChannelListenError):
                more.append(await talk.caller.start_server(lambda *_: None, "127.0.0.1", 0))


async def test_a_forward_to_the_target_s_own_sshd_is_flagged_t47(tmp_path: Path) -> None:
    """Whatever port it has: the record, and who approves, are told that nothing inside is seen."""
    async with talking(tmp_path, RULES, audit := MemoryAudit()) as talk:
        own = sessions(talk)[0].resource.place[1]
        for port in (own, 9, 22):
            with contextlib.suppress(asyncssh.ChannelOpenError):
                _, writer = await talk.caller.open_connection("127.0.0.1", port, encoding=None)
                writer.close()
        texts = [one["text"] for one in audit.of("command.begin")]
        assert [("nested" in text) for text in texts] == [True, False, True]


async def test_a_target_that_shows_another_host_key_later_t52(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """When keys are exchanged anew it is looked at again: the session ends, on record."""
    shown: list[Any] = []

    class Changes(Target):
        def connection_made(self, conn: Any) -> None:
            shown.append(conn)

        async def serve(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
            self._asked.append("begun")
            await process.channel.wait_closed()

    async with talking(tmp_path, RULES, audit := MemoryAudit(), Changes) as talk:
        process = await talk.caller.create_process("sleep 60", encoding=None)
        assert await until(lambda: talk.asked)
        other = asyncssh.load_keypairs([asyncssh.generate_private_key("ssh-ed25519")])[0]
        shown[0]._server_host_keys = {b"ssh-ed25519": other}
        shown[0]._send_kexinit()
        shown[0]._kexinit_sent = True
        assert (await asyncio.wait_for(process.wait(), 60)).exit_status == 255
        assert await until(lambda: audit.of("target.untrusted") and audit.of("session.end"))
        assert audit.of("session.end")[0]["reason"].startswith("target: ")
        assert len(audit.of("target.untrusted")) == 1 and "not who it should be" in caplog.text


async def test_a_login_that_is_no_longer_offered_t09(tmp_path: Path) -> None:
    """Who is on it is told, whatever runs."""
    class Sleeps(Target):
        async def serve(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
            self._asked.append("begun")
            await process.channel.wait_closed()

    async with talking(tmp_path, RULES, audit := MemoryAudit(), Sleeps) as talk:
        process = await talk.caller.create_process("sleep 60", encoding=None)
        assert await until(lambda: talk.asked)
        credential = tmp_path / "etc" / "credentials" / "web-1.yaml"
        credential.write_text(credential.read_text().replace("deploy", "other"))
        await talk.change(RULES, logins=["other"])
        assert (await asyncio.wait_for(process.wait(), 60)).exit_status == 255
        assert await until(lambda: audit.of("session.end"))
        assert "no longer has the login deploy" in audit.of("session.end")[0]["reason"]


async def test_a_flood_of_window_changes_t51(tmp_path: Path) -> None:
    """What a caller makes happen is given to the disk as output is, and no more of it is kept."""
    async with talking(tmp_path, RULES, audit := MemoryAudit(), Doorkept) as talk:
        process = await talk.caller.create_process("sleep 60", encoding=None, term_type="xterm", term_size=(80, 24))
        assert await until(lambda: talk.asked)
        for size in range(60_000):
            process.change_terminal_size(80 + size % 9, 24)
            if not size % 2000:
                await asyncio.sleep(0)
        assert await until(lambda: len(audit.of("command.output")) > 1)
        process.close()
        assert await until(lambda: audit.of("command.end"))
        assert max(len(one.recording or b"") for one in audit.records) < 2**18


class Doorkept(Target):
    """Runs until its caller leaves."""

    async def serve(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        self._asked.append("begun")
        await process.channel.wait_closed()
