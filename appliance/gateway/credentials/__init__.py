# SPDX-License-Identifier: Apache-2.0
"""What the gateway logs in with at its targets. Read from ``credentials/`` at start and reload, kept in memory only.

A ``Credential`` has a kind and what belongs to it; whatever is secret in it is a ``Secret``, which shows ``****`` in every text.
"""

from __future__ import annotations

from gateway.credentials.credential import Credential
from gateway.credentials.secret import Secret

__all__ = ["Credential", "Secret"]
