# SPDX-License-Identifier: Apache-2.0
"""``python -m gateway.cli``: the program ``lockgate`` without its entry point."""

from __future__ import annotations

import sys

from gateway.cli import main

sys.exit(main())
