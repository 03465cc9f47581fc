# SPDX-License-Identifier: Apache-2.0
"""What a caller, or a target, does to the connection itself: sizes, floods, channels given up half way (research name T51)."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from asyncssh.channel import SSHServerChannel
from asyncssh.packet import String, UInt32

from gateway.protocols.ssh import connection
from gateway.protocols.ssh.listener import Caller
from gateway.testing import MemoryAudit
from tests.unit.protocols.ssh.talk import Rules, Talk, Target, settled, talking

RULES: Rules = [{"name": "all", "allow": {"ssh": {"actions": ["exec", "agent", "forward-local", "forward-remote"]}}}]
CHANNEL_OPEN, DATA = 90, 94


async def until(done: Callable[[], object], seconds: float = 60.0) -> bool:
    end = asyncio.get_running_loop().time() + seconds
    while not done():
        if asyncio.get_running_loop().time() > end:
            return False
        await asyncio.sleep(0.02)
    return True


def sessions(talk: Talk) -> list[Any]:
    """The gateway's side of what the caller has open."""
    return [one._session for one in gc.get_objects()
            if isinstance(one, Caller) and one._gateway is talk.gateway and one._session is not None]


async def test_packets_of_one_byte_t51(tmp_path: Path) -> None:
    """A peer that takes one byte in each packet would have the loop work for it: its connection ends."""
    async with talking(tmp_path, RULES, MemoryAudit()) as talk:
        with pytest.raises(asyncssh.Error):
            await talk.caller.create_process("cat", encoding=None, max_pktsize=1)


async def test_a_window_full_of_single_bytes_t51(tmp_path: Path) -> None:
    """What waits for a decision takes as much memory as it is long."""
    async with talking(tmp_path, RULES, audit := MemoryAudit()) as talk:
        audit.hold()
        process = await talk.caller.create_process("cat", encoding=None)
        sent: Any = process.channel
        for _ in range(20_000):
            talk.caller.send_packet(DATA, UInt32(sent._send_chan), String(b"x"))
        channel = next(iter(sessions(talk)[0].caller._channels.values()))
        assert await until(lambda: channel._recv_window == channel._init_recv_window - 20_000)
        assert len(channel._recv_buf) < 1000
        assert b"".join(data for data, _ in channel._recv_buf) == b"x" * 20_000
        audit.release()
        assert await settled(process.wait(), 60) is not None


def ask_for_nothing(talk: Talk, times: int) -> None:
    for _ in range(times):
        talk.caller.send_packet(CHANNEL_OPEN, String("no such kind"), UInt32(7), UInt32(2**20), UInt32(2**15))


async def test_answers_that_nobody_reads_t51(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They do not pile up for a peer that asks and does not read: it is left."""
    monkeypatch.setattr(connection, "UNREAD", 2**14, raising=False)
    async with talking(tmp_path, RULES, MemoryAudit()) as talk:
        mine = sessions(talk)[0].caller
        monkeypatch.setattr(talk.caller, "_recv_data", lambda: None)
        mine.pause_writing()                         # as the transport does once its buffer is full
        ask_for_nothing(talk, 1000)
        assert await until(lambda: mine._transport is None)


async def test_answers_while_keys_are_exchanged_for_ever_t51(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who begins a key exchange and does not end it is kept few answers for."""
    monkeypatch.setattr(connection, "DEFERRED", 100, raising=False)
    async with talking(tmp_path, RULES, MemoryAudit()) as talk:
        caller: Any = talk.caller
        mine = sessions(talk)[0].caller
        monkeypatch.setattr(caller, "_recv_data", lambda: None)         # it hears nothing of the exchange
        caller._send_kexinit()
        caller._kex_complete = True
        ask_for_nothing(talk, 1000)
        assert await until(lambda: mine._transport is None)
        assert len(mine._deferred_packets) <= 101


async def test_a_channel_that_is_given_up_while_the_target_begins_t51(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the target has started, and did not say so yet, is ended there when its caller leaves."""
    real = SSHServerChannel._process_exec_request

    def late(self: Any, packet: Any) -> bool | None:
        if isinstance(self, connection.CallerChannel):
            return real(self, packet)
        assert real(self, packet)
        self._session.session_started()
        return None                                  # and no answer

    monkeypatch.setattr(SSHServerChannel, "_process_exec_request", late)
    closed: list[str] = []

    class Sleeps(Target):
        async def serve(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
            self._asked.append("begun")
            await process.channel.wait_closed()
            closed.append("closed")

    async with talking(tmp_path, RULES, audit := MemoryAudit(), Sleeps) as talk:
        process = await talk.caller.create_process("sleep 60", encoding=None)
        assert await until(lambda: talk.asked)
        process.channel.close()
        assert await until(lambda: closed)
        assert [one["status"] for one in audit.of("command.end")] == ["cancelled"]
