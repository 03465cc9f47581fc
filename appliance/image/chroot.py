# SPDX-License-Identifier: Apache-2.0
"""Programs inside a tree, cut off from this machine: see ``enter``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from image.commands import run

ENTER = Path(__file__).parent / "enter"
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def inside(
    tree: Path,
    command: Sequence[str | Path],
    *,
    binds: Mapping[str, Path] | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
) -> str:
    """What ``command`` printed in ``tree``. ``binds`` shows folders of this machine there. Raises ``CommandFailed``."""
    shown = [f"{source}:{target}" for target, source in (binds or {}).items()]
    set_to = [f"{name}={value}" for name, value in {"PATH": _PATH, "LC_ALL": "C.UTF-8", "HOME": "/root", **(env or {})}.items()]
    return run([ENTER, tree, *shown, "--", "chroot", tree, "/usr/bin/env", "-i", *set_to, *command], stdin=stdin)
