# SPDX-License-Identifier: Apache-2.0
"""What happens on the console reaches the running gateway's log, webhook and numbers, also what happened while it was down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gateway.approvals.notify import Event
from gateway.break_glass.log import ConsoleLog
from gateway.break_glass.watch import Watch
from gateway.testing import FailingAudit, MemoryAudit
from tests.unit.break_glass.test_log import BEGIN, filled, settings


class Room:
    """A watch on the console log of ``folder``."""

    def __init__(self, folder: Path, audit: MemoryAudit | None = None) -> None:
        self.audit = audit or MemoryAudit()
        self.told: list[Event] = []
        self.watch = Watch(folder / "console" / "audit", folder / "console.seen", "plant-a-1", self.audit, self.told.append, lambda: 1000.0)

    def seen(self) -> list[Any]:
        return [fields["what"] for fields in self.audit.of("break-glass.seen")]


async def test_t61_the_gateway_records_and_tells_once(tmp_path: Path) -> None:
    room = Room(tmp_path)
    await room.watch.look()
    assert room.seen() == []            # nobody ever broke the glass
    filled(tmp_path)
    for _ in range(3):
        await room.watch.look()
    assert room.seen() == ["break-glass.begin", "break-glass.end"]
    begin = room.audit.of("break-glass.seen")[0]
    assert (begin["person"], begin["tty"], begin["console"], begin["console_session"]) == ("Dana", "tty1", "plant-a-1/console", "s-1")
    assert [event.fields["event"] for event in room.told] == ["break-glass.begin", "break-glass.end"]
    assert room.told[0].fields["person"] == "Dana" and room.told[0].fields["gateway"] == "plant-a-1"
    assert (room.watch.counts["begin"], room.watch.counts["open"]) == (1, 0)


async def test_t61_what_happened_while_the_gateway_was_down_is_told_when_it_is_back(tmp_path: Path) -> None:
    filled(tmp_path)
    first = Room(tmp_path)
    await first.watch.look()
    with ConsoleLog.open(settings(tmp_path)) as log:
        log.record("break-glass.begin", {**BEGIN, "session": "s-2"})
        second = Room(tmp_path)
        await second.watch.look()       # also while the session is going on
        assert second.seen() == ["break-glass.begin"]
        assert second.watch.counts["open"] == 1


async def test_a_log_that_began_anew_is_read_from_the_start(tmp_path: Path) -> None:
    filled(tmp_path)
    room = Room(tmp_path)
    await room.watch.look()
    (tmp_path / "console").rename(tmp_path / "old")
    with ConsoleLog.open(settings(tmp_path)) as log:
        log.record("break-glass.refused", {"reason": "not a terminal"})
    await room.watch.look()
    assert room.seen()[-1] == "break-glass.refused"


async def test_what_cannot_be_recorded_now_is_recorded_later(tmp_path: Path) -> None:
    filled(tmp_path)
    audit = FailingAudit(1)
    room = Room(tmp_path, audit)
    await room.watch.look()
    assert room.seen() == [] and room.told == []
    audit.repair()
    await room.watch.look()
    assert room.seen() == ["break-glass.begin", "break-glass.end"]


async def test_a_log_that_cannot_be_read_is_said_and_tried_again(tmp_path: Path) -> None:
    filled(tmp_path)
    database = tmp_path / "console" / "audit" / "000001.db"
    good = database.read_bytes()
    database.write_bytes(b"not a database, but as long as one has to be" * 200)
    room = Room(tmp_path)
    await room.watch.look()
    assert room.seen() == []
    database.write_bytes(good)
    await room.watch.look()
    assert room.seen() == ["break-glass.begin", "break-glass.end"]
