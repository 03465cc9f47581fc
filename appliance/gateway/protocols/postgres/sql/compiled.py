# SPDX-License-Identifier: Apache-2.0
"""The compiled twin of this package's hot part, ``_walk.pyx``: ``None`` where it was not built or is not wanted.

Each module puts the compiled forms in place of its own at its end, and keeps in ``PURE`` what the twin hands back: forms of a
statement that are not written out there.
"""

from __future__ import annotations

from gateway.native import compiled

fast = compiled("gateway.protocols.postgres.sql._walk")
