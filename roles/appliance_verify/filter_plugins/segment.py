# SPDX-License-Identifier: Apache-2.0
"""What the policy of a segment's folder in the inventory is called once a gateway serves it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def digest(folder: str) -> str:
    """The digest that `lockgate check` gives the same files: name and content of policy/**/*.yaml without tests, and of trust/."""
    root = Path(folder)
    whole = hashlib.sha256()
    for name, path in sorted(_files(root)):
        whole.update(hashlib.sha256(name.encode()).digest() + hashlib.sha256(path.read_bytes()).digest())
    return f"sha256:{whole.hexdigest()}"


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    for path in (*(root / "policy").rglob("*.yaml"), *(root / "trust").rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_file() and not name.startswith(("policy/tests/", "policy/schemas/")):
            yield name, path


class FilterModule:
    """What templates may call."""

    def filters(self) -> dict[str, Any]:
        return {"segment_digest": digest}
