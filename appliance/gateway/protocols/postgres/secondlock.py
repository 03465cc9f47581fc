# SPDX-License-Identifier: Apache-2.0
"""The second lock: what the target says of a result's columns is compared with the plan before any row of it passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.errors import TargetFault
from gateway.masking.model import MaskSet
from gateway.protocols.postgres import messages
from gateway.protocols.postgres.catalog.model import Catalog
from gateway.protocols.postgres.masking import MaskPlan, check_row_description

if TYPE_CHECKING:
    from gateway.protocols.postgres.context import SessionContext

DESCRIBED = 256
ROOM = 64 * 1024
"""Row descriptions remembered per session: how many, and how many bytes of them in all."""

_Compared = tuple[tuple[MaskPlan, Catalog, MaskSet], tuple[messages.Field, ...], MaskPlan]


class SecondLock:
    """Of one session: it remembers the comparisons that it made."""

    __slots__ = ("_context", "_described", "_room")

    def __init__(self, context: SessionContext) -> None:
        self._context = context
        self._described: dict[bytes, _Compared] = {}
        self._room = ROOM

    def verified(self, plan: MaskPlan | None, formats: tuple[int, ...], payload: bytes) -> tuple[tuple[messages.Field, ...], MaskPlan]:
        """The fields described, and the plan compared with them. The same description of the same plan under the same catalog and masks
        is compared once."""
        if plan is None:
            raise TargetFault("the target describes rows for a statement that returns none", "08P01")
        now = (plan, self._context.known(), self._context.masks())
        known = self._described.get(payload)
        if known is not None and known[0][1] is now[1] and known[0][2] is now[2] and (known[0][0] is plan or known[0][0] == plan):
            return known[1], known[2]
        fields = messages.parse_row_description(payload).fields
        verified = check_row_description(plan, fields, formats, now[1], now[2])
        self._keep(payload, (now, fields, verified))
        return fields, verified

    def _keep(self, payload: bytes, compared: _Compared) -> None:
        if len(payload) > ROOM:
            return
        if len(self._described) >= DESCRIBED or len(payload) > self._room:
            self._described.clear()
            self._room = ROOM
        if payload not in self._described:
            self._room -= len(payload)
        self._described[payload] = compared
