# SPDX-License-Identifier: Apache-2.0
"""What SFTP, scp and rsync share: limits, and how a transfer's end is recorded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from gateway.errors import Refused
from gateway.model import Operation
from gateway.protocols.ssh.desk import Desk, Running
from gateway.protocols.ssh.sftp.codec import MAX_PACKET

if TYPE_CHECKING:
    from gateway.protocols.ssh.sftp.transfer import Transfer


class Pipe(Protocol):
    """One end of a channel."""

    async def read(self) -> bytes:
        """What came, ``b""`` at the end."""

    def write(self, data: bytes, *, stderr: bool = False) -> None: ...
    async def drain(self) -> None: ...
    def write_eof(self) -> None: ...


class FileDesk(Desk, Protocol):
    """The desk, and how what cannot be decided at all is recorded."""

    async def refuse(self, operations: tuple[Operation, ...], text: str, reason: str) -> None:
        """Raises ``Refused`` once that is recorded."""


Resolve = Callable[[str], Awaitable[str]]
"""Where a path lies on the target with links followed, ``""`` where it does not exist."""

KEEPS = 64 * 2**20
"""Bytes of content that one channel keeps of all its open files; what is opened beyond keeps none."""
KEEPS_OF_ONE = 8 * 2**20
"""Of one file, at most: it is one record."""
SAYS = 20
"""Lines on stderr that a channel gets about refusals: clients show little of an SFTP status."""


@dataclass(frozen=True, slots=True)
class FileLimits:
    """Bounds of one channel. ``message``: bytes of an SFTP packet; ``handles``: open files; ``content``: bytes of each file kept for
    replay; ``deciding``: requests that are decided, or held, at once; ``requests``: sent to the target and unanswered; ``reading``: bytes
    asked for and not delivered, where what is read is looked at."""

    message: int = MAX_PACKET
    handles: int = 128
    content: int = 0
    deciding: int = 64
    requests: int = 1024
    reading: int = 8 * 2**20


def finish(desk: FileDesk, running: Running, transfer: Transfer, path: str, status: str, error: str = "", resolved: str = "") -> None:
    """Record the end of a transfer. The piece of content that is kept is masked first; ``resolved`` is where the path led, if elsewhere."""
    sample = transfer.sample()
    if sample and (masker := desk.masker()) is not None:
        sample = masker.feed(sample) + masker.end()
    about = transfer.fields() | ({"resolved": resolved} if resolved and resolved != path else {})
    running.finish(status, bytes=transfer.bytes, error=error, recording=sample or None, path=path, **about)


def told(no: Refused) -> str:
    """A refusal as the caller sees it."""
    return " ".join(part for part in (str(no), no.hint) if part)
