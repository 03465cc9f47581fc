# SPDX-License-Identifier: Apache-2.0
"""asyncssh looks for libraries that it can do without (``ctypes.util.find_library``: liboqs, nettle) and would load what it finds. To look
means to run ldconfig and, where they are there, the compiler and the linker: nothing a gateway should do, nor what is found be part of it.

ML-KEM comes from ``cryptography``; sntrup761 and UMAC are not offered (``algorithms``).
"""

from __future__ import annotations

import ctypes.util

NOT_USED = frozenset({"oqs", "liboqs", "nettle", "libnettle", "libnettle-6"})
_look = ctypes.util.find_library


def _found(name: str) -> str | None:
    return None if name in NOT_USED else _look(name)


def without() -> None:
    """From now on none of them is found. Before asyncssh is imported."""
    ctypes.util.find_library = _found
