# SPDX-License-Identifier: Apache-2.0
"""The order of requests on paths: what changes a path waits for all before it there, above or below; looking is done side by side."""

from __future__ import annotations

import asyncio
from types import TracebackType


class Turn:
    """A request's place in the order; left when it is done."""

    def __init__(self, order: Order, paths: tuple[str, ...], alone: bool, after: list[asyncio.Future[None]]) -> None:
        self.paths, self.alone = paths, alone
        self.left: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._order, self._after = order, after

    async def come(self) -> None:
        """Wait for what is before it."""
        if self._after:
            await asyncio.wait(self._after)

    def __enter__(self) -> Turn:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        self._order.leave(self)


class Order:
    """Requests under way, in the order in which they came."""

    def __init__(self) -> None:
        self._turns: list[Turn] = []

    def enter(self, paths: tuple[str, ...], *, alone: bool) -> Turn:
        """The next place. ``alone``: the request changes what is there."""
        after = [turn.left for turn in self._turns if (alone or turn.alone) and _meet(turn.paths, paths)]
        turn = Turn(self, paths, alone, after)
        self._turns.append(turn)
        return turn

    def leave(self, turn: Turn) -> None:
        self._turns.remove(turn)
        if not turn.left.done():
            turn.left.set_result(None)


def _meet(some: tuple[str, ...], others: tuple[str, ...]) -> bool:
    return any(one == other or f"{one}/".startswith(f"{other.rstrip('/')}/") or f"{other}/".startswith(f"{one.rstrip('/')}/")
               for one in some for other in others)
