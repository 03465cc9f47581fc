# SPDX-License-Identifier: Apache-2.0
"""What the writer does batch after batch: the compiled form commits the rows that the pure one commits, and hands back what it must not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.audit import _record, turns
from gateway.audit import journal as journal_module
from gateway.audit.files import open_for_reading, unpack
from gateway.audit.journal import Journal, Place
from tests.unit.audit.failing_vfs import Disk, failing_disk
from tests.unit.audit.log_folder import KEY, ORIGIN
from tests.unit.audit.test_record_twins import COMPILED, NOW, PURE, Form, Planned, encoder_at, planned

AT = 1000
TURNS = {id(PURE): turns.PureTurns, id(COMPILED): _record.Turns}
FORMS = pytest.mark.parametrize("form", [PURE, COMPILED], ids=["pure", "compiled"])
BEGIN = Planned("command.begin", {"session": "s-1"}, ("rows",), (b"1",), NOW)
SAMPLE = Planned("command.end", {"session": "s-1"}, ("rows",), (b"1",), NOW, b"a sample")


@contextmanager
def chosen(form: Form) -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(form.chosen())
        stack.enter_context(mock.patch.multiple(journal_module, Ticket=form.Ticket, fill_many=form.fill_many, follow_many=form.follow_many))
        stack.enter_context(mock.patch.multiple(turns, parted=form.parted, cost_of=form.cost_of))
        yield


def opened(folder: Path, vfs: str | None = None) -> Journal:
    """A journal that has a file with something in it, and stands where every other one of these tests stands."""
    for name in ("audit", "recordings"):
        (folder / name).mkdir(parents=True)
    made = Journal(Place(folder, ORIGIN, "segment", b"k" * 32, vfs), KEY)
    made.open(NOW)
    stands = encoder_at(AT, NOW)
    made.encoder.tree, made.encoder.prev, made.encoder.last = stands.tree, stands.prev, stands.last
    made.commit([], NOW, sign=True)
    made.encoder.prev, made.encoder.tree = stands.prev, encoder_at(AT + 1, NOW).tree
    made.dirty = True
    return made


class Ground:
    """A journal, an inbox and the turns between them. ``run`` puts one batch after the other, each once the one before was handed over."""

    def __init__(self, form: Form, folder: Path, vfs: str | None = None, limit: int = 2**40) -> None:
        self.journal = opened(folder, vfs)
        self.inbox = form.Inbox(time.time, lambda call, *_: call(), strict=False)
        self.inbox.refusal = ""
        self.handed: list[list[Any]] = []
        self.later: list[list[Any]] = []
        self.turns = TURNS[id(form)](self.inbox, self.journal, self._handed, limit)
        self._form, self._folder = form, folder

    def _handed(self, done: Sequence[Any]) -> None:
        self.handed.append(list(done))
        self._next()

    def _next(self) -> None:
        if not self.later:
            self.inbox.close()
            return
        for entry in self.later.pop(0):
            self.inbox.put(entry)

    def made(self, plans: Sequence[Planned]) -> list[Any]:
        return [plan.made(self._form, self.journal.encoder) for plan in plans]

    def run(self, batches: Sequence[Sequence[Planned]], until: float | None = None, look: float | None = None) -> list[Any]:
        self.later = [self.made(batch) for batch in batches]
        self._next()
        far = time.monotonic() + 600
        found: list[Any] = self.turns.run(far if until is None else until, far if look is None else look)
        return found

    def rows(self) -> list[tuple[int, list[bytes]]]:
        connection = open_for_reading(self._folder / "audit" / "000001.db", live=True)
        try:
            found = connection.execute("SELECT first, count, body FROM batch WHERE first > ? ORDER BY first", (AT + 1,)).fetchall()
        finally:
            connection.close()
        return [(int(str(first)), unpack(count, body)) for first, count, body in found]

    def stands(self) -> tuple[object, ...]:
        return self.journal.encoder.mark(), dict(self.journal.standing.commands), self.journal.dirty


@pytest.fixture
def disk() -> Iterator[Disk]:
    with failing_disk("fails-for-turns") as found:
        yield found


def place_of(form: Form, entry: Any) -> object:
    return (entry.place, entry.problem) if isinstance(entry, form.Ticket) else str(entry.value)


def outcome(form: Form, folder: Path, batches: list[list[Planned]]) -> tuple[object, ...]:
    with chosen(form):
        ground = Ground(form, folder)
        rest = ground.run(batches)
        found = ([[place_of(form, entry) for entry in batch] for batch in ground.handed], ground.rows(), ground.stands(),
                 sorted(path.read_bytes() for path in folder.glob("recordings/*/*.rec")), len(rest), ground.turns.error)
        ground.journal.abandon()
    return found


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(batches=st.lists(st.lists(planned(), min_size=1, max_size=5), min_size=1, max_size=4))
def test_the_same_rows(tmp_path_factory: pytest.TempPathFactory, batches: list[list[Planned]]) -> None:
    folder = tmp_path_factory.mktemp("turns")
    assert outcome(PURE, folder / "pure", batches) == outcome(COMPILED, folder / "compiled", batches)


@FORMS
def test_each_batch_is_a_row_of_its_own_and_is_handed_over_before_the_next(form: Form, tmp_path: Path) -> None:
    with chosen(form):
        ground = Ground(form, tmp_path)
        assert ground.run([[BEGIN, BEGIN], [BEGIN], [SAMPLE, BEGIN]]) == []
        assert [[entry.place for entry in batch] for batch in ground.handed] == [[AT + 2, AT + 3], [AT + 4], [AT + 5, AT + 6]]
        assert [(first, len(lines)) for first, lines in ground.rows()] == [(AT + 2, 2), (AT + 4, 1), (AT + 5, 2)]
        ground.journal.abandon()


@FORMS
@pytest.mark.parametrize(("what", "error"), [("write", apsw.FullError), ("write", apsw.IOError), ("sync", apsw.IOError), ("sync", OSError)])
def test_t62_what_could_not_be_written_is_handed_back_and_leaves_nothing(form: Form, tmp_path: Path, disk: Disk, what: str,
                                                                         error: type[Exception]) -> None:
    with chosen(form):
        ground = Ground(form, tmp_path, "fails-for-turns")
        ground.turns.tell()
        ground.later = []
        before: Callable[[], tuple[object, ...]] = ground.stands
        stood = before()
        disk.fail(what, 1, error)
        rest = ground.run([[BEGIN, BEGIN]])
        assert len(rest) == 2
        assert isinstance(ground.turns.error, error)
        assert before() == stood
        assert ground.handed == []
        disk.mend()
        assert ground.rows() == []
        ground.journal.abandon()


@FORMS
def test_t62_nothing_is_written_beyond_the_limit(form: Form, tmp_path: Path) -> None:
    with chosen(form):
        ground = Ground(form, tmp_path, limit=100)
        ground.turns.used = 101
        assert len(ground.run([[BEGIN]])) == 1
        assert ground.rows() == []
        assert ground.turns.error is None
        ground.journal.abandon()


@FORMS
def test_what_is_due_comes_before_what_has_come(form: Form, tmp_path: Path) -> None:
    """A checkpoint, a heartbeat, a new file: the batch is handed back, so that they are looked at first."""
    with chosen(form):
        ground, past = Ground(form, tmp_path), time.monotonic() - 1
        assert len(ground.run([[BEGIN]], look=past)) == 1
        assert len(ground.run([[BEGIN]], until=past)) == 1
        assert ground.rows() == []
        ground.journal.abandon()


@FORMS
def test_after_the_first_record_since_a_checkpoint_the_writer_looks_when_the_next_one_is_due(form: Form, tmp_path: Path) -> None:
    with chosen(form):
        ground = Ground(form, tmp_path)
        ground.journal.dirty = False
        assert ground.run([[BEGIN], [BEGIN]]) == []
        assert [first for first, _ in ground.rows()] == [AT + 2]
        assert ground.journal.dirty
        assert not ground.inbox.closing
        ground.journal.abandon()
