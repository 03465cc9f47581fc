# SPDX-License-Identifier: Apache-2.0
"""Long texts are understood by one thread beside the event loop, one after the other: a text made to cost much (``MAX_STEPS`` is some
tenths of a second) takes time from other long texts, and leaves the loop its turns.

The interpreter runs one thread at a time; while a long text is worked on, they change places every ``TURN`` seconds. What analysis
keeps per catalog it keeps per thread (``sql.knowledge``), so that nothing half made is seen by the other. Pure work alone may be given
here: what is cancelled meanwhile goes on to its end, and nobody reads its answer.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import ParamSpec, TypeVar

NEAR = 4096
"""Characters of a text that is understood on the event loop itself: a few milliseconds at worst."""
STACK = 64 * 2**20
"""Bytes of address space for the thread's stack: the parser and the walk recurse."""
TURN = 0.0005

_Given = ParamSpec("_Given")
_Made = TypeVar("_Made")


async def beside(work: Callable[_Given, _Made], *given: _Given.args, **named: _Given.kwargs) -> _Made:
    """What ``work`` gives, done on the thread. Raises what it raises."""
    return await asyncio.get_running_loop().run_in_executor(_thread(), _in_turns, partial(work, *given, **named))


def _in_turns(work: Callable[[], _Made]) -> _Made:
    before = sys.getswitchinterval()
    sys.setswitchinterval(TURN)
    try:
        return work()
    finally:
        sys.setswitchinterval(before)


@cache
def _thread() -> ThreadPoolExecutor:
    made = ThreadPoolExecutor(1, "texts")
    before = threading.stack_size(STACK)
    try:
        made.submit(int).result()           # started now, with that stack
    finally:
        threading.stack_size(before)
    return made
