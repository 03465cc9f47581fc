# SPDX-License-Identifier: Apache-2.0
"""A desk, pipes and a target's files for conversations without SSH: what is decided and recorded can be looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.errors import Refused
from gateway.masking.model import NOTHING, MaskSet
from gateway.masking.stream import StreamMasker, stream_masker
from gateway.model import Decision, Operation
from gateway.protocols.ssh.operations import compile_matcher


class FakeRunning:
    """What a desk let run."""

    def __init__(self, seq: int, text: str, decision: Decision) -> None:
        self.seq, self.text, self.decision = seq, text, decision
        self.ended: dict[str, Any] | None = None

    def finish(self, status: str = "ok", **fields: Any) -> None:
        assert self.ended is None, "an end is recorded once"
        self.ended = {"status": status, **fields}


class FakeDesk:
    """Rules as the policy has them: ``(effect, matcher)``; deny beats approve beats allow, silence denies."""

    def __init__(self, rules: Sequence[tuple[str, Mapping[str, Any]]], secrets: Sequence[bytes] = (), masks: MaskSet = NOTHING) -> None:
        self.rules = [(effect, compile_matcher(spec, effect)) for effect, spec in rules]
        self.secrets, self.masks = secrets, masks
        self.runs: list[FakeRunning] = []
        self.asked: list[tuple[str, tuple[Operation, ...]]] = []
        self.refusals: list[tuple[str, str]] = []
        self.events: list[tuple[str, Mapping[str, Any]]] = []
        self.approve: Callable[[str], Any] | None = None
        self.stopped: set[int] = set()
        self.over: BaseException | None = None

    def effect(self, operation: Operation) -> str:
        found = {effect for effect, matches in self.rules if matches(operation)}
        return next((effect for effect in ("deny", "approve", "allow") if effect in found), "deny")

    async def run(self, operations: tuple[Operation, ...], text: str, *, shown: str = "", wait: bool = True) -> Any:
        assert operations
        self.asked.append((text, operations))
        effects = [self.effect(operation) for operation in operations]
        if self.over is not None:
            raise self.over
        if "deny" in effects:
            bad = operations[effects.index("deny")]
            self.refusals.append((text, bad.verb))
            raise Refused(f"no rule allows {bad.verb} of {' '.join(bad.objects)}; ask: lockgate explain")
        if "approve" in effects:
            assert self.approve is not None
            await self.approve(text)
        running = FakeRunning(len(self.runs) + 1, text, Decision("approve" if "approve" in effects else "allow"))
        self.runs.append(running)
        return running

    async def refuse(self, operations: tuple[Operation, ...], text: str, reason: str) -> None:
        self.refusals.append((text, reason))
        raise Refused(reason)

    def still(self, running: Any) -> None:
        if running.seq in self.stopped:
            raise Refused("the policy changed since this was decided")

    def masker(self) -> StreamMasker | None:
        return stream_masker(self.secrets, self.masks, 0.02)

    def event(self, kind: str, fields: Mapping[str, Any], recording: bytes | None = None) -> asyncio.Future[int]:
        self.events.append((kind, fields))
        future = asyncio.get_running_loop().create_future()
        future.set_result(len(self.events))
        return future

    async def ended(self) -> None:
        await asyncio.Event().wait()

    def ends(self) -> list[tuple[str, str]]:
        """(text, status) of everything that ran and ended."""
        return [(run.text, run.ended["status"]) for run in self.runs if run.ended is not None]


ALL = ("read", "write", "list", "stat", "rename", "remove", "mkdir", "setattr", "symlink")


def everything(*paths: str) -> tuple[str, Mapping[str, Any]]:
    """A rule that allows every file action below these paths."""
    return "allow", {"actions": list(ALL), "paths": list(paths)}


class MemoryPipe:
    """One end of a channel: ``give()`` is what its peer sends, ``taken`` what it was sent."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes] = asyncio.Queue()
        self.taken = bytearray()
        self.errors = bytearray()
        self.eof = False
        self._written = asyncio.Event()

    def give(self, data: bytes) -> None:
        self._queue.put_nowait(data)

    async def read(self) -> bytes:
        return await self._queue.get()

    def write(self, data: bytes, *, stderr: bool = False) -> None:
        if stderr:
            self.errors += data
        else:
            self.taken += data
        self._written.set()

    async def drain(self) -> None:
        await asyncio.sleep(0)

    def write_eof(self) -> None:
        self.eof = True
        self._written.set()

    async def until(self, test: Callable[[], bool]) -> None:
        """Until something was written that satisfies the test."""
        async with asyncio.timeout(10):
            while not test():
                self._written.clear()
                await self._written.wait()
