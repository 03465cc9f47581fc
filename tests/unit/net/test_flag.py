# SPDX-License-Identifier: Apache-2.0
"""A ``Flag`` wakes everybody who waits, and forgets who no longer does."""

from __future__ import annotations

import asyncio

from gateway.net.flag import Flag


async def test_it_wakes_all_who_wait_even_when_cleared_at_once() -> None:
    flag = Flag()
    waiting = [asyncio.create_task(flag.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    flag.set()
    flag.clear()
    await asyncio.wait_for(asyncio.gather(*waiting), 5)
    assert not flag.is_set()
    flag.set()
    await asyncio.wait_for(flag.wait(), 5)


async def test_who_gives_up_is_forgotten() -> None:
    flag = Flag()
    one, two = asyncio.create_task(flag.wait()), asyncio.create_task(flag.wait())
    await asyncio.sleep(0)
    one.cancel()
    await asyncio.wait({one})
    assert len(flag._waiters) == 1
    flag.set()
    await asyncio.wait_for(two, 5)
    assert Flag(on=True).is_set()
