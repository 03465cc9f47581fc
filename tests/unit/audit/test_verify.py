# SPDX-License-Identifier: Apache-2.0
"""T63: whatever is edited, deleted, reordered, swapped, cut off or put back is found, and the place is named."""

from __future__ import annotations

import asyncio
import io
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.audit.checkpoint import Checkpoint, Signer, parse_checkpoint
from gateway.audit.note import parse_note, raw_public
from gateway.audit.reader import LogReader, newest_notes
from gateway.audit.tree import Tree, leaf_hash
from gateway.audit.verify import Report, Trust, read_anchors, verify_export, verify_folder
from gateway.errors import ConfigError
from tests.unit.audit.log_folder import BASE, KEY, ORIGIN, PUBLIC, begin, commands, filled, lines, open_log, records, verify

Database = sqlite3.Connection


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    asyncio.run(filled(folder, 40))
    return folder


@pytest.fixture
def state(tmp_path: Path, template: Path) -> Path:
    """A closed log of two runs, to be spoiled."""
    return Path(shutil.copytree(template, tmp_path / "state"))


def head(state: Path) -> Checkpoint:
    return parse_checkpoint(parse_note(newest_notes(LogReader(state / "audit"))[ORIGIN]))


def opened(state: Path) -> Database:
    return sqlite3.connect(state / "audit" / "000001.db", isolation_level=None)


def rows(database: Database) -> list[tuple[int, int, list[bytes]]]:
    found = database.execute("SELECT first, count, body FROM batch ORDER BY first").fetchall()
    return [(first, count, zstandard.decompress(body).split(b"\n")) for first, count, body in found]


def put(database: Database, first: int, kept: list[bytes]) -> None:
    database.execute("UPDATE batch SET count = ?, body = ? WHERE first = ?", (len(kept), zstandard.compress(b"\n".join(kept)), first))


def row_of(database: Database, seq: int) -> tuple[int, list[bytes]]:
    return next((first, kept) for first, count, kept in rows(database) if first <= seq < first + count)


def change(state: Path, seq: int, edit: Callable[[bytes], bytes]) -> None:
    database = opened(state)
    first, kept = row_of(database, seq)
    kept[seq - first] = edit(kept[seq - first])
    put(database, first, kept)
    database.close()


def tampered(report: Report, *seqs: int) -> None:
    assert report.status == 1, report.document()
    places = {finding.seq for finding in report.findings}
    assert places & set(seqs), f"expected one of {seqs}, found {[str(finding) for finding in report.findings]}"
    assert all(finding.origin == ORIGIN for finding in report.findings)


async def test_t63_an_untouched_log_is_intact(state: Path) -> None:
    report = verify(state)
    assert (report.status, report.verdict, report.findings) == (0, "intact", [])
    said = report.origins[ORIGIN]
    assert said["first"] == 1
    assert said["last"] == len(records(state))
    assert said["vouched"] == said["last"] - 1
    assert said["recordings"] == 80
    assert any("no anchor given" in note for note in report.notes)
    assert verify(state, head(state)).origins[ORIGIN]["anchored"] == said["vouched"]


@pytest.mark.parametrize("seq", [2, 4, 5, 17, 42])
async def test_t63_an_edited_record(state: Path, seq: int) -> None:
    change(state, seq, lambda line: line.replace(b'"kind":"', b'"kind":"x', 1))
    tampered(verify(state), seq)


async def test_t63_an_edited_text_in_place(state: Path) -> None:
    seq = next(record["seq"] for record in records(state) if record.get("text") == "SELECT 7")
    change(state, seq, lambda line: line.replace(b"SELECT 7", b"SELECT 8"))
    report = verify(state)
    tampered(report, seq)
    assert any(finding.file == "000001.db" for finding in report.findings)


async def test_t63_only_white_space_added(state: Path) -> None:
    change(state, 7, lambda line: line.replace(b",", b", ", 1))
    tampered(verify(state), 7)


async def test_t63_the_last_checkpoint_is_vouched_for_by_its_own_signature(state: Path) -> None:
    last = records(state)[-1]["seq"]
    for edit in (lambda line: line.replace(b"plant-a", b"plant-b", 1), lambda line: line[:-1] + b',"more":1}',
                 lambda line: line.replace(b',"kind"', b', "kind"')):
        copy = state.parent / "copy"
        shutil.copytree(state, copy)
        change(copy, last, edit)
        assert verify(copy).status == 1
        shutil.rmtree(copy)


async def test_t63_a_deleted_row_and_a_deleted_record(state: Path) -> None:
    for whole in (True, False):
        copy = state.parent / f"copy-{whole}"
        shutil.copytree(state, copy)
        database = opened(copy)
        first, kept = row_of(database, 20)
        if whole:
            database.execute("DELETE FROM batch WHERE first = ?", (first,))
        else:
            put(database, first, kept[:-1] if len(kept) > 1 else [b""])
        database.close()
        tampered(verify(copy), first, first + len(kept) - 1, first - 1)


async def test_t63_reordered_and_swapped_records(state: Path) -> None:
    database = opened(state)
    (first, _), (second, _) = row_of(database, 10), row_of(database, 14)
    a, b = row_of(database, 10)[1], row_of(database, 14)[1]
    put(database, first, b)
    put(database, second, a)
    database.close()
    tampered(verify(state), first, 10, 14)


async def test_t63_rows_renumbered_to_hide_a_gap(state: Path) -> None:
    database = opened(state)
    first, kept = row_of(database, 20)
    database.execute("DELETE FROM batch WHERE first = ?", (first,))
    database.execute("UPDATE batch SET first = first - ? WHERE first > ?", (len(kept), first))
    database.close()
    tampered(verify(state), first, first - 1, 20)


@pytest.mark.parametrize("statement", [
    "UPDATE batch SET count = 'seven' WHERE first = {first}",
    "UPDATE batch SET body = CAST(X'FFFE80' AS TEXT) WHERE first = {first}",
    "UPDATE batch SET body = NULL WHERE first = {first}",
    "UPDATE batch SET body = X'28B52FFD' WHERE first = {first}",
    "UPDATE batch SET body = X'28B52FFDE0FFFFFFFFFFFFFF7F00' WHERE first = {first}",
    "UPDATE batch SET body = zeroblob(100) WHERE first = {first}",
    "UPDATE batch SET body = substr(body, 1, length(body) - 3) WHERE first = {first}",
    "UPDATE batch SET body = body || X'00' WHERE first = {first}",
    "UPDATE batch SET count = -1 WHERE first = {first}",
    "UPDATE batch SET count = count + 1 WHERE first = {first}",
    "DROP TABLE batch",
    "ALTER TABLE batch RENAME TO other",
    "UPDATE batch SET first = -5 WHERE first = {first}",
])
async def test_t63_broken_rows_are_findings_not_crashes(state: Path, statement: str) -> None:
    """Research 1.3: a BLOB changed to TEXT crashed the first verifier."""
    database = opened(state)
    first, _ = row_of(database, 20)
    loose = "CREATE TABLE loose (first INTEGER PRIMARY KEY, count, body)"
    database.executescript(f"{loose}; INSERT INTO loose SELECT * FROM batch; DROP TABLE batch; ALTER TABLE loose RENAME TO batch")
    assert verify(state).status == 0, "the schema is not evidence"
    database.execute(statement.format(first=first))
    database.close()
    assert verify(state).status == 1


NO_RECORDS = [b"", b"{}", b"[]", b"null", b'{"seq":"20"}', b"\xff\xfe", b'{"seq":20', b'{"seq":1e400}', b'{"seq":true}']


@pytest.mark.parametrize("line", NO_RECORDS)
async def test_t63_a_record_that_is_none(state: Path, line: bytes) -> None:
    change(state, 20, lambda _: line)
    assert verify(state).status == 1


async def test_t63_a_file_damaged_at_any_place(state: Path) -> None:
    path = state / "audit" / "000001.db"
    data = path.read_bytes()
    for place in (5, 30, 100, 5000, len(data) // 2, len(data) - 50):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1:])
        verify(state)
    path.write_bytes(data[:len(data) // 2])
    assert verify(state).status in (1, 2)
    path.write_bytes(b"not a database at all" * 1000)
    assert verify(state).status == 1


async def test_t63_a_whole_file_removed(tmp_path: Path) -> None:
    from tests.unit.audit.log_folder import settings
    from tests.unit.audit.test_log import fill_files
    log = open_log(tmp_path, settings(database="1MiB"))
    await fill_files(log, tmp_path, 3)
    await log.close()
    assert verify(tmp_path).status == 0
    middle = tmp_path / "audit" / "000002.db"
    data = middle.read_bytes()
    middle.unlink()
    report = verify(tmp_path)
    assert report.status == 1
    assert "missing" in str(report.findings[0])
    middle.write_bytes(data)
    (tmp_path / "audit" / "000001.db").unlink()
    report = verify(tmp_path)
    assert report.status == 1
    assert "no record says that their time was over" in str(report.findings[0])


# ---- recordings


async def test_t63_changed_cut_missing_and_swapped_recordings(tmp_path: Path) -> None:
    state = tmp_path / "state"
    log = open_log(state)
    for text in (b"first sample!", b"second sample"):
        await commands(log, 1, text)
    await log.close()
    path = next(state.glob("recordings/*/*.rec"))
    data = path.read_bytes()
    assert data == b"first sample!second sample"
    for broken in (b"First sample!second sample", b"second samplefirst sample!", data[:-1], b""):
        path.write_bytes(broken)
        report = verify(state)
        assert report.status == 1
        assert all("recording" in finding.what for finding in report.findings)
    path.unlink()
    assert verify(state).status == 1
    path.symlink_to("/etc/passwd")
    assert verify(state).status == 1
    path.unlink()
    path.write_bytes(data)
    assert verify(state).status == 0


# ---- somebody who has the gateway's key


def forged(kept: list[bytes], signer: Signer) -> list[bytes]:
    """History from record 20 on written anew and signed by whoever has the gateway's key, with one-time keys of their own."""
    tree, prev, made = Tree(), "0" * 16, []
    for line in kept:
        record = orjson.loads(line)
        if record["seq"] >= 20:
            record["prev"] = prev
            if record["kind"] == "checkpoint":
                record["note"] = signer.sign(tree, record["time"])
                signer.committed()
            elif "text" in record:
                record["text"] = "SELECT 'nothing happened'"
            line = orjson.dumps(record)
        leaf = leaf_hash(line)
        tree.append(leaf)
        prev = leaf[:8].hex()
        made.append(line)
    return made


async def test_t63_history_rewritten_with_the_gateway_s_own_key(state: Path) -> None:
    """Research 1.3: the identity key is not enough, the chain of one-time keys breaks."""
    report = verify_lines(forged(lines(state), Signer(ORIGIN, KEY)))
    assert report.status == 1
    assert any("one-time" in finding.what for finding in report.findings)


async def test_t63_history_signed_with_another_key(state: Path) -> None:
    report = verify_lines(forged(lines(state), Signer(ORIGIN, Ed25519PrivateKey.generate())))
    assert any("not signed by the gateway's key" in finding.what for finding in report.findings)
    assert report.status == 1
    other = verify_folder(state / "audit", Trust((raw_public(Ed25519PrivateKey.generate().public_key()),)))
    assert other.status == 1
    assert verify_folder(state / "audit", Trust((raw_public(Ed25519PrivateKey.generate().public_key()), PUBLIC))).status == 0


# ---- truncation and rollback


def cut_after(state: Path, seq: int) -> None:
    database = opened(state)
    first, kept = row_of(database, seq)
    put(database, first, kept[:seq - first + 1])
    database.execute("DELETE FROM batch WHERE first > ?", (first,))
    database.close()


async def test_t63_a_tail_cut_off_at_a_checkpoint_needs_an_anchor(state: Path) -> None:
    anchor = head(state)
    checkpoint = [record["seq"] for record in records(state) if record["kind"] == "checkpoint"][-3]
    cut_after(state, checkpoint)
    alone = verify(state)
    assert alone.status == 0
    assert any("cannot be seen" in note for note in alone.notes)
    tampered(verify(state, anchor), checkpoint + 1)


async def test_t63_an_older_copy_put_back_and_written_on(tmp_path: Path) -> None:
    """Rollback: the gateway itself goes on from the older state; the restart is on record, the anchor tells."""
    state = tmp_path / "state"
    await filled(state, 5, runs=1)
    shutil.copytree(state, tmp_path / "older")
    await filled(state, 5, runs=1)
    anchor = head(state)
    shutil.rmtree(state)
    shutil.copytree(tmp_path / "older", state)
    log = open_log(state)
    await log.record("command.begin", begin("SELECT 'another history'"))
    await commands(log, 20)
    await log.close()
    assert verify(state).status == 0
    report = verify(state, anchor)
    assert report.status == 1
    assert any("another history" in finding.what for finding in report.findings)


async def test_t63_anchors_must_be_signed_and_known(state: Path) -> None:
    note = newest_notes(LogReader(state / "audit"))[ORIGIN]
    with pytest.raises(ConfigError, match="not signed"):
        read_anchors(note, (raw_public(Ed25519PrivateKey.generate().public_key()),), "anchor")
    with pytest.raises(ConfigError, match="audit head"):
        read_anchors("nothing of the kind", (PUBLIC,), "anchor")
    with pytest.raises(ConfigError):
        read_anchors(note.replace("\n" + str(head(state).size), "\n1"), (PUBLIC,), "anchor")
    elsewhere = Checkpoint("another-gateway", 5, bytes(32), "2026-01-01T00:00:00.000000Z", bytes(32))
    report = verify(state, elsewhere)
    assert report.status == 1
    assert report.findings[0].origin == "another-gateway"


# ---- exported files, odd folders, live logs


def verify_lines(kept: list[bytes], *anchors: Checkpoint) -> Report:
    return verify_export(io.BytesIO(b"".join(line + b"\n" for line in kept)), "export.jsonl", Trust((PUBLIC,), anchors))


async def test_t63_an_export_verifies_alone(state: Path) -> None:
    kept = lines(state)
    report = verify_lines(kept, head(state))
    assert report.status == 0
    assert any("not looked at" in note for note in report.notes)
    tampered(verify_lines(kept[:9] + kept[10:]), 10)
    tampered(verify_lines([*kept[:9], kept[10], kept[9], *kept[11:]]), 10)
    tampered(verify_lines([*kept[:9], kept[8], *kept[9:]]), 9)
    tampered(verify_lines([*kept[:9], kept[9].replace(b'"segment":"plant-a"', b'"segment":"plant-b"'), *kept[10:]]), 10)
    tampered(verify_lines(kept[:-5], head(state)), len(kept) - 4)


async def test_t63_part_of_an_export_is_incomplete(state: Path) -> None:
    report = verify_lines(lines(state)[10:])
    assert report.status == 2
    assert "records 1 to 10 are not there" in report.incomplete[0]
    assert verify_lines([]).status == 2
    assert verify_lines([b"no json"]).status == 1


async def test_t63_folders_that_cannot_be_read(tmp_path: Path) -> None:
    assert verify(tmp_path / "none").status == 2
    (tmp_path / "audit").mkdir()
    assert verify(tmp_path).status == 2
    (tmp_path / "audit" / "000001.db").write_bytes(b"")
    assert verify(tmp_path).status == 2


async def test_t63_a_live_log_verifies_and_is_not_touched(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    await log.record("session.start", dict(BASE))
    for _ in range(5):
        await commands(log, 10, b"sample")
        report = verify(tmp_path)
        assert report.status == 0, report.findings
    await log.close()


async def test_t63_a_crashed_log_is_read_without_touching_a_byte(tmp_path: Path) -> None:
    """The write-ahead log that a crash left is read as it lies."""
    log = open_log(tmp_path / "state")
    seqs = await commands(log, 10)
    shutil.copytree(tmp_path / "state", tmp_path / "crashed")
    await log.close()
    before = {path: path.read_bytes() for path in (tmp_path / "crashed").rglob("*") if path.is_file()}
    assert any(path.name.endswith("-wal") for path in before)
    assert verify(tmp_path / "crashed").status == 0
    assert {record["seq"] for record in records(tmp_path / "crashed")} >= set(seqs)
    assert {path: path.read_bytes() for path in (tmp_path / "crashed").rglob("*") if path.is_file()} == before
