# SPDX-License-Identifier: Apache-2.0
"""Texts longer than ``sql.parse.DEFAULT_LIMIT`` are parsed by one process of their own (``sandboxed.py``), one after the other.

What kills it (a stack that overflows, its bounds of memory and time) is a refusal of that text, 54001, and nothing else: the next
text starts another. The event loop never waits for it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from weakref import WeakKeyDictionary

from gateway.protocols.postgres.sandboxed import MOST_ANSWER, MOST_TEXT
from gateway.protocols.postgres.statement import SqlFault

PATIENCE = 20.0
"""Seconds of waiting for one answer, by the clock: the process has its own bound of CPU time, which a busy machine stretches."""

_TOO_MUCH = "the statement is too long, too deep or too complex to be parsed"


class Sandbox:
    """The process of one event loop. ``parse`` is all that callers need; ``close`` ends it."""

    def __init__(self) -> None:
        self._process: Process | None = None
        self._turn = asyncio.Lock()

    async def parse(self, data: bytes) -> bytes:
        """The parser's JSON for a text. Raises ``SqlFault``: 42601, 54001."""
        if len(data) > MOST_TEXT:
            raise SqlFault("54001", _TOO_MUCH)
        async with self._turn:
            try:
                async with asyncio.timeout(PATIENCE):
                    kind, body = await self._ask(data)
            except (OSError, EOFError, ValueError, TimeoutError):
                await self._end()
                raise SqlFault("54001", _TOO_MUCH) from None
            except BaseException:           # cancelled in the middle: what it answers now belongs to nobody
                await self._end()
                raise
        if kind == b"J":
            return body
        code, message, position = json.loads(body)
        raise SqlFault(code, message, position)

    async def _ask(self, data: bytes) -> tuple[bytes, bytes]:
        process = self._process
        if process is None or process.returncode is not None:
            process = self._process = await _start()
        if process.stdin is None or process.stdout is None:
            raise OSError("no pipes")
        process.stdin.write(len(data).to_bytes(4) + data)
        await process.stdin.drain()
        head = await process.stdout.readexactly(5)
        size = int.from_bytes(head[1:])
        if size > MOST_ANSWER:
            raise ValueError("an answer longer than any it may give")
        return head[:1], await process.stdout.readexactly(size)

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def close(self) -> None:
        """End the process, if there is one."""
        async with self._turn:
            await self._end()


async def _start() -> Process:
    """The process knows this program's path and nothing else of its environment; it ends when its input does."""
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PYTHONDONTWRITEBYTECODE": "1"}
    environment |= {name: os.environ[name] for name in ("LOCKGATE_PURE",) if name in os.environ}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-s", "-m", "gateway.protocols.postgres.sandboxed", stdin=PIPE, stdout=PIPE, stderr=DEVNULL, cwd="/",
        env=environment, close_fds=True)


_SANDBOXES: WeakKeyDictionary[asyncio.AbstractEventLoop, Sandbox] = WeakKeyDictionary()


def sandbox() -> Sandbox:
    """The one of the running event loop; its process is started by the first text."""
    loop = asyncio.get_running_loop()
    found = _SANDBOXES.get(loop)
    if found is None:
        found = _SANDBOXES[loop] = Sandbox()
    return found
