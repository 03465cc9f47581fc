# SPDX-License-Identifier: Apache-2.0
"""A second verifier of `lockgate-audit/1` exports, written from docs/audit.md alone: it shares no code with the gateway.

    independent_verify.py EXPORT.jsonl KEY.pub [ANCHOR]      KEY.pub is an OpenSSH public key; exit status 0 intact, 1 not
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

Note = tuple[str, int, bytes, dict[str, bytes]]


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def root_of(peaks: list[bytes]) -> bytes:
    root = peaks[-1] if peaks else sha(b"")
    for peak in reversed(peaks[:-1]):
        root = sha(b"\x01" + peak + root)
    return root


def read_note(note: str, key: bytes, once: bytes | None = None) -> Note:
    """(origin, size, root, one-time keys) of a note, its signatures checked: the gateway's, and with ``once`` the one-time key's too."""
    text, signatures = note.rsplit("\n\n", 1)
    origin, size, root, *extensions = text.split("\n")
    keys = {name: base64.b64decode(value) for name, value in (line.split(" ") for line in extensions) if name in ("reset", "next")}
    signers = {origin: key} if once is None else {origin: key, origin + "/once": keys.get("reset", once)}
    for name, public in signers.items():
        signed = [base64.b64decode(line.split(" ")[2]) for line in signatures.splitlines() if line.split(" ")[1] == name]
        good = next(found[4:] for found in signed if found[:4] == sha(name.encode() + b"\n\x01" + public)[:4])
        Ed25519PublicKey.from_public_bytes(public).verify(good, (text + "\n").encode())
    return origin, int(size), base64.b64decode(root), keys


def check(lines: Iterable[bytes], key: bytes, anchors: list[Note]) -> dict[str, tuple[int, int]]:
    """Last record and last record under a signature of each origin. Raises ``AssertionError`` saying where the log was changed."""
    peaks: dict[str, list[bytes]] = {}
    seen: dict[str, tuple[int, bytes, bytes, int]] = {}  # of each origin: last seq, its leaf, the next one-time key, records vouched for
    for line in lines:
        record = json.loads(line)
        origin = record["origin"]
        tree = peaks.setdefault(origin, [])
        last, before, once, vouched = seen.get(origin, (0, bytes(8), bytes(32), 0))
        assert record["seq"] == last + 1, f"{origin}:{last + 1} is missing"
        assert record["prev"] == before[:8].hex(), f"{origin}:{last} was changed"
        for anchor in anchors:
            assert anchor[:2] != (origin, last) or anchor[2] == root_of(tree), f"{origin}: the anchor knows another history"
        if record["kind"] == "checkpoint":
            name, size, root, keys = read_note(record["note"], key, once)
            assert (name, size, root) == (origin, last, root_of(tree)), f"{origin}: something in {vouched + 1} to {last} was changed"
            once, vouched = keys["next"], size
        leaf, count = sha(b"\x00" + line), last
        seen[origin] = (last + 1, leaf, once, vouched)
        while count & 1:
            leaf, count = sha(b"\x01" + tree.pop() + leaf), count >> 1
        tree.append(leaf)
    for origin, size, root, _ in anchors:
        last = seen[origin][0] if origin in seen else 0
        assert size <= last and (size != last or root == root_of(peaks[origin])), f"{origin}: cut off, the anchor has {size} records"
    return {origin: (found[0], found[3]) for origin, found in seen.items()}


def main(export: str, public: str, *anchors: str) -> int:
    key = base64.b64decode(Path(public).read_text().split()[1])[-32:]
    try:
        notes = [read_note(Path(anchor).read_text(), key) for anchor in anchors]
        for origin, (last, vouched) in check(Path(export).read_bytes().splitlines(), key, notes).items():
            print(f"{origin}: {last} records, vouched for up to {vouched}")
    except (AssertionError, KeyError, ValueError, StopIteration, InvalidSignature) as error:
        print(f"TAMPERED: {str(error) or type(error).__name__}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
