# SPDX-License-Identifier: Apache-2.0
"""Options that many verbs share; they come after the verb."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path

DEFAULT_FOLDER = Path("/etc/lockgate")


def add_config(parser: ArgumentParser) -> None:
    """``--config DIR``: ``args.config`` is a ``Path``."""
    parser.add_argument("--config", metavar="DIR", type=Path, default=DEFAULT_FOLDER,
                        help=f"folder that holds gateway.yaml (default {DEFAULT_FOLDER})")


def add_json(parser: ArgumentParser) -> None:
    """``--json``: one document, or JSON lines for lists."""
    parser.add_argument("--json", action="store_true", help="answer as JSON: one document, or one a line for lists")


def duration(text: str) -> float:
    """An option's value such as ``1s``, in seconds."""
    from gateway.config.quantities import parse_duration

    try:
        return parse_duration(text)
    except ValueError as wrong:
        raise ArgumentTypeError(str(wrong)) from None
