# SPDX-License-Identifier: Apache-2.0
"""Signatures that were verified before: a robot shows the same token on every connection of its pool.

Only the signature is remembered, which nothing but the token's bytes and the key decide. Times, audience, identity entry, source,
revocation and replay are looked at each time.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from hashlib import sha256

from gateway.identity.keys import Key
from gateway.identity.token import Token, verify

KEPT = 4096
"""Signatures remembered; the one verified first is forgotten first."""


class Proven:
    """Remembers by the SHA-256 of the whole token, never the token, and for one ``Key`` object: keys read or fetched anew are others."""

    def __init__(self) -> None:
        self._by: OrderedDict[bytes, Key] = OrderedDict()

    def verify(self, token: Token, key: Key) -> None:
        """As ``token.verify``; raises what it raises, and remembers nothing of a token that is refused."""
        mark = sha256(token.text.encode()).digest()
        if self._by.get(mark) is key:
            return
        verify(token, key)
        self._by[mark] = key
        if len(self._by) > KEPT:
            with suppress(KeyError):                    # several threads verify tokens of ``single_use`` issuers
                self._by.popitem(last=False)
