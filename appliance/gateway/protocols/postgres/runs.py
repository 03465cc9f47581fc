# SPDX-License-Identifier: Apache-2.0
"""Runs of whole messages, cut where a limit falls, and read where they are the gateway's own answers. Pure."""

from __future__ import annotations

from gateway.protocols.postgres import messages
from gateway.protocols.postgres.codec import DATA_ROW
from gateway.protocols.postgres.rows import INT32


def first_messages(block: bytes, count: int) -> bytes:
    """The first ``count`` whole messages of a run."""
    at = 0
    for _ in range(count):
        at += 1 + INT32(block, at + 1)[0]
    return block[:at]


def whole_messages(data: bytes, room: int) -> bytes:
    """As many whole messages as fit into ``room`` bytes."""
    at = 0
    while at < len(data) and (end := at + 1 + INT32(data, at + 1)[0]) <= room:
        at = end
    return data[:at]


def text_rows(block: bytes) -> list[tuple[str | None, ...]]:
    """The values of a run of DataRow messages in text format."""
    rows: list[tuple[str | None, ...]] = []
    at = 0
    while at < len(block):
        end = at + 1 + INT32(block, at + 1)[0]
        row = messages.parse_backend(DATA_ROW, block[at + 5:end])
        if isinstance(row, messages.DataRow):
            rows.append(tuple(None if value is None else value.decode("utf-8") for value in row.values))
        at = end
    return rows
