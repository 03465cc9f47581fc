# SPDX-License-Identifier: Apache-2.0
"""Where the compiled parts come in: ``_NAME.pyx`` beside ``NAME.py``, built by ``make native`` and carried by the wheel.

The pure-Python form is always there, gives the same bytes, and is what runs where nothing was built or ``LOCKGATE_PURE=1`` is set.
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType

PURE = os.environ.get("LOCKGATE_PURE") == "1"


def compiled(name: str) -> ModuleType | None:
    """The compiled module of this full name, ``None`` where it was not built or is not wanted.

    Raises ``ImportError`` for one that is there and cannot be loaded: a broken build is no pure one.
    """
    if PURE:
        return None
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as missing:
        if missing.name != name:
            raise
        return None
