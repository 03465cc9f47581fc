# SPDX-License-Identifier: Apache-2.0
"""How often a peer may ask for new keys. Each exchange costs milliseconds of the one loop that serves everybody (T66). Pure.

Clients ask for new keys by what has passed (OpenSSH: 1 GiB or 64 GiB; ``RekeyLimit`` makes it less) and by time.
"""

from __future__ import annotations

AT_ONCE = 16
"""Exchanges that may follow one another."""
BYTES = 2**19
SECONDS = 10.0
"""What lets one more be asked for: so many bytes, or so much time."""


class Rekeying:
    """What is left of them on one connection. ``now`` is monotonic, in seconds."""

    def __init__(self, now: float) -> None:
        self._left, self._seen = float(AT_ONCE), now

    def may(self, moved: int, now: float) -> bool:
        """Whether the peer may ask now; ``moved``: bytes that passed either way since it last asked."""
        self._left = min(float(AT_ONCE), self._left + moved / BYTES + max(0.0, now - self._seen) / SECONDS)
        self._seen = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
