# SPDX-License-Identifier: Apache-2.0
"""``lockgate.segment``: the first policy, gzip of a JSON object path → text: files in policy/ and trust/, and gateway.yaml; no secret."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Mapping
from pathlib import Path

from .told import Wrong, document

LARGEST = 4 * 2**20
MOST = 1000
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_PATH = re.compile(rf"(?:policy|trust)(?:/{_PART}){{1,8}}|gateway\.yaml")


def unpack(data: bytes) -> dict[str, bytes]:
    """By path. Raises ``Wrong``."""
    try:
        inflated = zlib.decompressobj(wbits=31)
        text = inflated.decompress(data, LARGEST)
    except zlib.error:
        raise Wrong("segment: expected gzip") from None
    if inflated.unconsumed_tail or not inflated.eof or inflated.unused_data:
        raise Wrong(f"segment: expected one whole gzip of at most {LARGEST} bytes")
    found = document(text, LARGEST)
    if not isinstance(found, dict) or not 0 < len(found) <= MOST:
        raise Wrong(f"segment: expected an object of 1 to {MOST} files")
    return {_path(path): _content(path, content) for path, content in found.items()}


def _path(path: str) -> str:
    if not _PATH.fullmatch(path):
        raise Wrong("segment: expected paths in policy/ and trust/ of letters, digits and . _ -, none beginning with a dot")
    return path


def _content(path: str, content: object) -> bytes:
    if not isinstance(content, str):
        raise Wrong(f"segment: {path}: expected text")
    if "PRIVATE KEY-----" in content:
        raise Wrong(f"segment: {path}: expected no private key")
    try:
        return content.encode()
    except UnicodeEncodeError:
        raise Wrong(f"segment: {path}: expected text that UTF-8 has") from None


def pack(folder: Path) -> bytes:
    """The reverse, from a segment's folder: for whoever makes a config drive. The same folder gives the same bytes. Raises ``Wrong``."""
    tops = [folder / top for top in ("policy", "trust", "gateway.yaml")]
    names = [path for top in tops for path in sorted([top, *top.rglob("*")]) if path.is_file()]
    try:
        files: Mapping[str, str] = {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in names}
    except ValueError:
        raise Wrong("expected text in UTF-8") from None
    data = gzip.compress(json.dumps(files, sort_keys=True).encode(), mtime=0)
    unpack(data)
    return data
