# SPDX-License-Identifier: Apache-2.0
"""New keys again and again: each exchange costs everybody time (T66)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import asyncssh
import pytest

from gateway.protocols.ssh import rekeying
from gateway.protocols.ssh.rekeying import AT_ONCE, BYTES, SECONDS, Rekeying
from gateway.testing import MemoryAudit
from tests.unit.protocols.ssh.talk import Rules, Talk, Target, settled, talking
from tests.unit.protocols.ssh.test_abuse import sessions, until

RULES: Rules = [{"name": "all", "allow": {"ssh": {"actions": ["exec"]}}}]


def test_some_at_once_and_then_by_time_or_by_bytes() -> None:
    keys = Rekeying(0.0)
    assert [keys.may(0, 0.0) for _ in range(AT_ONCE + 1)] == [True] * AT_ONCE + [False]
    assert keys.may(0, SECONDS) and not keys.may(0, SECONDS)
    assert keys.may(BYTES, SECONDS) and not keys.may(BYTES // 2, SECONDS)


def test_what_is_saved_up_has_an_end() -> None:
    keys = Rekeying(0.0)
    assert [keys.may(0, 1e6) for _ in range(AT_ONCE + 1)] == [True] * AT_ONCE + [False]
    assert keys.may(2**40, 1e6)
    assert [keys.may(0, 1e6) for _ in range(AT_ONCE)] == [True] * (AT_ONCE - 1) + [False]
    assert not keys.may(0, 1e5)                              # a clock that went back gives nothing


def test_a_client_with_the_least_limit_that_makes_sense() -> None:
    """``RekeyLimit 1M``: it asks a little before so much has passed."""
    keys = Rekeying(0.0)
    assert all(keys.may(2**20 - 2**16, 0.0) for _ in range(1000))


async def new_keys(talk: Talk) -> bool:
    """The caller asks for new keys; whether it got them."""
    caller: Any = talk.caller
    caller._send_kexinit()
    caller._kexinit_sent = True
    assert await until(lambda: caller._kex_complete or caller._transport is None, 60)
    return caller._transport is not None


async def test_a_caller_that_asks_again_and_again_is_left_t66(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rekeying, "SECONDS", 1e9)            # a slow machine is given no more
    async with talking(tmp_path, RULES, MemoryAudit()) as talk:
        mine = sessions(talk)[0].caller
        for _ in range(AT_ONCE):
            assert await new_keys(talk)
        assert (await talk.caller.run("still here")).stdout == "still here"
        assert not await new_keys(talk)
        assert await until(lambda: mine._transport is None, 60)


async def test_keys_that_the_gateway_wants_are_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with talking(tmp_path, RULES, MemoryAudit()) as talk:
        mine: Any = sessions(talk)[0].caller
        monkeypatch.setattr(mine, "_may_rekey", lambda: False)
        mine._send_kexinit()
        mine._kexinit_sent = True
        assert await until(lambda: mine._kex_complete, 60)
        assert (await talk.caller.run("both have them")).stdout == "both have them"


async def test_nobody_asks_before_it_is_let_in_t66(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with talking(tmp_path, RULES, MemoryAudit()) as talk:
        port = talk.caller.get_extra_info("peername")[1]
        asked: list[Any] = []

        class Impatient(asyncssh.SSHClient):
            def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
                self.conn: Any = conn

            async def password_auth_requested(self) -> None:
                asked.append(self.conn)
                self.conn._send_kexinit()
                self.conn._kexinit_sent = True
                await until(lambda: self.conn._transport is None, 60)

        with pytest.raises(asyncssh.Error, match="new keys were asked for too often"):
            await asyncssh.connect("127.0.0.1", port, client_factory=Impatient, username="web-1", known_hosts=None, client_keys=None,
                                   agent_path=None, config=None, gss_host=None)
        assert asked


async def test_a_target_that_asks_again_and_again_is_left_t66(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rekeying, "SECONDS", 1e9)
    targets: list[asyncssh.SSHServerConnection] = []

    class Kept(Target):
        def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
            targets.append(conn)

        async def serve(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
            conn: Any = targets[-1]
            while conn._transport is not None:
                conn._send_kexinit()
                conn._kexinit_sent = True
                await until(lambda: conn._kex_complete or conn._transport is None, 60)

    async with talking(tmp_path, RULES, audit := MemoryAudit(), Kept) as talk:
        done = await settled(talk.caller.run("anything"), 60)
        assert done is not None and done.exit_status == 255
        assert [one["error"] for one in audit.of("command.end")] == ["target"]
