# SPDX-License-Identifier: Apache-2.0
"""What somebody with root on the box could do to the log. For tests and the demo: ``audit verify`` has to notice."""

from __future__ import annotations

from pathlib import Path

import apsw
import zstandard


def change_records(audit: Path, old: bytes, new: bytes) -> int:
    """Replace bytes in the records of every log file under ``audit``; gives the number of batches that changed."""
    changed = 0
    for path in sorted(audit.glob("*.db")):
        connection = apsw.Connection(str(path))
        try:
            for first, body in connection.execute("SELECT first, body FROM batch").fetchall():
                assert isinstance(body, bytes)
                lines = zstandard.ZstdDecompressor().decompress(body)
                if old in lines:
                    packed = zstandard.ZstdCompressor(write_content_size=True).compress(lines.replace(old, new))
                    connection.execute("UPDATE batch SET body = ? WHERE first = ?", (packed, first))
                    changed += 1
        finally:
            connection.close()
    return changed
