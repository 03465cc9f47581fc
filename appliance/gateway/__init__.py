# SPDX-License-Identifier: Apache-2.0
"""Lockgate: the gateway that robots must walk through.

The nouns. A *listener* accepts a caller. The caller's short-lived token makes it an *identity*; with a *resource* (the target behind the
gateway) it becomes a *session*. What it sends becomes a *command* of one or more *operations*. ``govern()`` asks the *policy* for one
*decision*, waits for an *approval* where the decision says so, writes the audit *record*, and gives a *permit* or refuses. A *mask* hides
values in answers by where they come from. The *log* proves what happened; a *recording* plays it back.

The way of one request: ``protocols/X/listener`` → ``protocols/X/session`` → ``govern`` → the target → masking → the caller → ``finish``.
``build`` wires it together; ``docs/life-of-a-query.md`` follows one PostgreSQL query through it.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as _installed


def version() -> str:
    """This program's version."""
    try:
        return _installed("lockgate")
    except PackageNotFoundError:
        return "0+source"
