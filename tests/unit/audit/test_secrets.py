# SPDX-License-Identifier: Apache-2.0
"""T65: a secret in a command's text reaches no file, no message and no log line, however things go."""

from __future__ import annotations

import logging
from pathlib import Path

import apsw
import pytest

from gateway.errors import AuditUnavailable
from gateway.recording.read import Archive
from tests.unit.audit.failing_vfs import failing_disk
from tests.unit.audit.log_folder import BASE, begin, end, open_log, records

SECRET = "correct-horse-battery-staple"


def holding(folder: Path) -> list[Path]:
    """Files that hold it, as it is or as JSON, hexadecimal or UTF-16 would have it."""
    forms = [SECRET.encode(), SECRET.encode().hex().encode(), SECRET.encode("utf-16-le")]
    return [path for path in folder.rglob("*") if path.is_file() and any(form in path.read_bytes() for form in forms)]


async def test_no_file_message_or_log_line_holds_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    said: list[str] = []
    with failing_disk("failing") as disk:
        log = open_log(tmp_path, vfs="failing")
        await log.record("session.start", dict(BASE))
        hidden = {**begin("ALTER ROLE app PASSWORD '****'"), "text_secret": f"ALTER ROLE app PASSWORD '{SECRET}'"}
        seq = await log.record("command.begin", hidden)
        await log.record("command.end", end(seq, "refused"), b'{"columns":["password"],"rows":[["****"]]}')
        for bad in ({**hidden, "extra": object()}, {**hidden, "seq": 1}, {**hidden, "text": "\udc80"}):
            with pytest.raises(AuditUnavailable) as caught:
                await log.record("command.begin", bad)
            said.append(repr(caught.value))
        disk.fail("sync", 1, apsw.IOError)
        with pytest.raises(AuditUnavailable) as caught:
            await log.record("command.begin", hidden)
        said += [repr(caught.value), log.why_not]
        await log.close()
        disk.mend()
    Archive(tmp_path).search("ALTER ROLE")
    assert holding(tmp_path) == []
    assert any(record.get("text_digest") for record in records(tmp_path))
    assert SECRET not in caplog.text + "".join(said) + "".join(map(str, records(tmp_path)))
