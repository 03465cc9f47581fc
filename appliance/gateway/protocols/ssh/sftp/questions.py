# SPDX-License-Identifier: Apache-2.0
"""Questions of the gateway's own to a target, over an SFTP channel that no caller sees: where a path lies, and whether it is a directory.

scp and rsync say paths and nothing else; what they mean is asked here. Nothing that has an effect is ever asked.
"""

from __future__ import annotations

from stat import S_ISDIR

from gateway.errors import Refused, TargetFault
from gateway.protocols.ssh.files import Pipe
from gateway.protocols.ssh.sftp import messages as m
from gateway.protocols.ssh.sftp.codec import U32, PacketReader
from gateway.protocols.ssh.sftp.machine import one_path
from gateway.protocols.ssh.sftp.names import join, shown, split


class Questions:
    """One question at a time. Raises ``TargetFault`` for answers that cannot be."""

    def __init__(self, target: Pipe) -> None:
        self._target = target
        self._answers = PacketReader(TargetFault)
        self._next = 0
        self.home = "/"

    async def begin(self) -> None:
        """To be called first."""
        self._target.write(m.hello(m.INIT, {}))
        m.parse_hello(*await self._packet(), m.VERSION_ANSWER, TargetFault)
        self.home = one_path(await self._ask(m.Realpath(b".")))

    def absolute(self, path: str) -> str:
        """A path as given, from the login's home where it is relative; not in normal form."""
        return path if path.startswith("/") else join(self.home, path)

    async def resolve(self, path: str) -> str:
        """Where an absolute path lies with links followed; of one that is not there yet, its directory. ``""`` where that is not there
        either. Raises ``Refused`` for a link of which the target does not tell the end."""
        answer = await self._ask(m.Realpath(path.encode()))
        if isinstance(answer, m.Names):
            return one_path(answer)
        if isinstance(await self._ask(m.Lstat(path.encode())), m.Found):
            raise Refused(f"the target does not tell where {shown(path)} leads")
        parent, name = split(path.rstrip("/"))
        if name in ("", ".", ".."):
            return ""
        answer = await self._ask(m.Realpath(parent.encode()))
        return join(one_path(answer), name) if isinstance(answer, m.Names) else ""

    async def is_directory(self, path: str) -> bool:
        """Links followed."""
        answer = await self._ask(m.Stat(path.encode()))
        return isinstance(answer, m.Found) and S_ISDIR(answer.attributes.permissions or 0)

    async def _ask(self, request: m.Message) -> m.Message:
        self._next += 1
        self._target.write(m.encode_request(self._next, request))
        await self._target.drain()
        data, at, end = await self._packet()
        if end - at < 9 or U32.unpack_from(data, at + 5)[0] != self._next:
            raise TargetFault("the target answered a request that was not made")
        return m.parse_answer(type(request), data, at, end)

    async def _packet(self) -> tuple[bytes, int, int]:
        while (place := self._answers.next()) is None:
            data = await self._target.read()
            if not data:
                raise TargetFault("the target ended its SFTP channel")
            self._answers.feed(data)
        return place
