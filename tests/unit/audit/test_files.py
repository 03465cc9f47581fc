# SPDX-License-Identifier: Apache-2.0
"""How batches get into a file of the log: the compiled form leaves the rows that the pure one leaves, and fails as it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.audit import _files, files
from gateway.audit.files import Appender, LogFile, PureAppender, open_for_reading, unpack
from tests.unit.audit.failing_vfs import Disk, failing_disk

LINES = st.lists(st.binary(max_size=3000).map(lambda line: b"{" + line.replace(b"\n", b"")), min_size=1, max_size=6)
Making = Callable[[apsw.Connection, zstandard.ZstdCompressor], Appender]


def compiled(connection: apsw.Connection, packer: zstandard.ZstdCompressor) -> Appender:
    return _files.Appender(connection, packer.compress)


def without_the_system_library(connection: apsw.Connection, packer: zstandard.ZstdCompressor) -> Appender:
    return _files.Appender(connection, packer.compress, False)


@pytest.fixture(params=[PureAppender, compiled, without_the_system_library], ids=["pure", "compiled", "zstandard"])
def making(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Making:
    monkeypatch.setattr(files, "appender", request.param)
    found: Making = request.param
    return found


@pytest.fixture
def disk() -> Iterator[Disk]:
    with failing_disk("fails-for-files") as found:
        yield found


def begun(folder: Path, vfs: str | None = None) -> LogFile:
    file = LogFile.create(folder / "000001.db", {"origin": b"o"}, vfs)
    file.append(1, [b"{}"])
    return file


def rows(folder: Path) -> list[tuple[int, list[bytes]]]:
    connection = open_for_reading(folder / "000001.db", live=True)
    try:
        found = connection.execute("SELECT first, count, body FROM batch ORDER BY first").fetchall()
    finally:
        connection.close()
    return [(int(str(first)), unpack(count, body)) for first, count, body in found]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(batches=st.lists(LINES, min_size=1, max_size=5))
def test_what_was_appended_is_read(making: Making, tmp_path_factory: pytest.TempPathFactory, batches: list[list[bytes]]) -> None:
    folder, expected, first = tmp_path_factory.mktemp("log"), [(1, [b"{}"])], 2
    file = begun(folder)
    for lines in batches:
        assert file.append(first, lines) > 0
        expected.append((first, lines))
        first += len(lines)
        assert rows(folder) == expected
    file.seal()
    assert not (folder / "000001.db-wal").exists()
    assert rows(folder) == expected


def test_a_batch_of_many_megabytes(making: Making, tmp_path: Path) -> None:
    lines = [bytes([number]) * 2**20 for number in range(32, 64)]
    file = begun(tmp_path)
    file.append(2, lines)
    file.append(34, [b"{}"])
    assert rows(tmp_path) == [(1, [b"{}"]), (2, lines), (34, [b"{}"])]
    file.close()


@pytest.mark.parametrize(("what", "error", "expected"), [
    ("write", apsw.FullError, apsw.FullError), ("write", apsw.IOError, apsw.IOError), ("sync", apsw.IOError, apsw.IOError),
    ("sync", OSError, OSError)])
def test_a_disk_that_fails_leaves_nothing(making: Making, tmp_path: Path, disk: Disk, what: str, error: type[Exception],
                                          expected: type[Exception]) -> None:
    file = begun(tmp_path, "fails-for-files")
    file.append(2, [b'{"a":1}'])
    disk.fail(what, 1, error)
    with pytest.raises(expected):
        file.append(3, [b'{"a":2}'])
    disk.mend()
    assert rows(tmp_path) == [(1, [b"{}"]), (2, [b'{"a":1}'])]
    assert not file.connection.in_transaction
    file.append(3, [b'{"a":3}'])
    assert rows(tmp_path)[2:] == [(3, [b'{"a":3}'])]
    file.close()


def test_a_seq_is_not_written_twice(making: Making, tmp_path: Path) -> None:
    file = begun(tmp_path)
    file.append(2, [b'{"a":1}'])
    with pytest.raises(apsw.ConstraintError, match="batch"):
        file.append(2, [b'{"a":2}'])
    assert rows(tmp_path)[1:] == [(2, [b'{"a":1}'])]
    file.close()


def test_no_table(making: Making, tmp_path: Path) -> None:
    connection = apsw.Connection(str(tmp_path / "x.db"))
    with pytest.raises(apsw.SQLError, match="no such table: batch"):
        making(connection, zstandard.ZstdCompressor()).append(1, 1, b"{}")
    connection.close()


def test_nothing_is_appended_after_the_end(tmp_path: Path) -> None:
    file = begun(tmp_path)
    appender = compiled(file.connection, zstandard.ZstdCompressor())
    appender.close()
    appender.close()
    with pytest.raises(RuntimeError, match="closed"):
        appender.append(2, 1, b"{}")
    file.close()


def test_an_sqlite_that_takes_no_extension_is_written_to_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                                      caplog: pytest.LogCaptureFixture) -> None:
    def refused(*_: object) -> Appender:
        raise apsw.ExtensionLoadingError

    monkeypatch.setattr(_files, "Appender", refused)
    file = begun(tmp_path)
    file.append(2, [b'{"a":1}'])
    file.append(3, [b'{"a":2}'])
    assert rows(tmp_path)[1:] == [(2, [b'{"a":1}']), (3, [b'{"a":2}'])]
    assert caplog.text.count("takes no extension") == 1
    file.close()
