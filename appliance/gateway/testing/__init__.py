# SPDX-License-Identifier: Apache-2.0
"""Shipped fakes, for this project's tests and for those of people who extend it. Nothing here is used when serving.

``FrozenClock`` is time that moves when told, ``MemoryAudit`` an audit log in a list, ``FailingAudit`` one whose disk
breaks at the n-th record, ``TokenIssuer`` an issuer with real keys that signs real tokens.
"""

from __future__ import annotations

from gateway.testing.audit import FailingAudit, MemoryAudit, Record
from gateway.testing.clock import FrozenClock
from gateway.testing.issuer import TokenIssuer

__all__ = ["FailingAudit", "FrozenClock", "MemoryAudit", "Record", "TokenIssuer"]
