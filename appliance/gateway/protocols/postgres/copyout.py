# SPDX-License-Identifier: Apache-2.0
"""Masking of one COPY … TO STDOUT, by the format that the plan expects and the target announces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.errors import GatewayFault
from gateway.protocols.postgres.copybinary import BinaryMasker
from gateway.protocols.postgres.copystyled import StyledMasker
from gateway.protocols.postgres.copytext import LineMasker

if TYPE_CHECKING:
    from gateway.protocols.postgres.masking import MaskPlan

CopyMasker = LineMasker | BinaryMasker | StyledMasker


def copy_masker(plan: MaskPlan, width: int, *, binary: bool = False) -> CopyMasker:
    """What masks a COPY of ``width`` columns, as CopyOutResponse announced them, in binary format or not.

    Raises ``GatewayFault`` when that is not the plan's number of columns, or not its format.
    """
    if plan.columns is None or len(plan.columns) != width:
        raise GatewayFault("the target's COPY has another number of columns than the statement")
    if not plan.copy_format or binary != (plan.copy_format == "binary"):
        raise GatewayFault("the target's COPY has another format than the statement")
    if plan.copy_style is not None and not binary:
        return StyledMasker(plan, width, plan.copy_style)
    return BinaryMasker(plan, width) if binary else LineMasker(plan, width)
