# SPDX-License-Identifier: Apache-2.0
"""Recordings are written where their record says, and read back only if they are still the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.recording.store import RecordingError, RecordingFile, read_recording

NAME = "2026-11-22/000001.rec"


def kept(root: Path, *parts: bytes) -> list[dict[str, Any]]:
    file = RecordingFile(root, NAME)
    places, batch = [], file.batch()
    for part in parts:
        places.append(batch.refer(part))
        batch.add(part)
    file.append(batch.parts)
    file.commit(batch.end)
    file.close()
    return places


def test_each_part_is_found_again(tmp_path: Path) -> None:
    first, second = kept(tmp_path, b"one", b"two")
    third, = kept(tmp_path, b"three")
    assert [read_recording(tmp_path, place) for place in (first, second, third)] == [b"one", b"two", b"three"]
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600
    assert third["offset"] == 6


def test_a_failed_batch_is_overwritten(tmp_path: Path) -> None:
    file = RecordingFile(tmp_path, NAME)
    file.append([b"never committed"])
    file.append([b"committed"])
    file.commit(9)
    batch = file.batch()
    place = batch.refer(b"more")
    batch.add(b"more")
    file.append(batch.parts)
    file.commit(batch.end)
    file.close()
    assert read_recording(tmp_path, place) == b"more"
    assert (tmp_path / NAME).read_bytes().startswith(b"committedmore")


@pytest.mark.parametrize("change", [
    {"file": "../../etc/passwd"}, {"file": "/etc/passwd"}, {"file": "2026-11-22/../../x.rec"}, {"file": "2026-11-22/000002.rec"},
    {"file": None},
    {"offset": -1}, {"offset": "0"}, {"offset": True}, {"offset": 1}, {"length": 2}, {"length": 4}, {"length": 2**40}, {"length": None},
    {"sha256": "0" * 64}, {"sha256": None},
])
def test_references_that_lead_elsewhere(tmp_path: Path, change: dict[str, Any]) -> None:
    place, = kept(tmp_path, b"one")
    with pytest.raises(RecordingError):
        read_recording(tmp_path, place | change)


@pytest.mark.parametrize("place", [None, [], "2026-11-22/000001.rec", 7])
def test_references_that_are_none(tmp_path: Path, place: object) -> None:
    with pytest.raises(RecordingError):
        read_recording(tmp_path, place)
