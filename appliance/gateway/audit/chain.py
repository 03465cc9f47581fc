# SPDX-License-Identifier: Apache-2.0
"""One origin's records, checked one after the other: numbers, times, links, trees, signatures, recordings, anchors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from gateway.audit.checkpoint import ONCE, Checkpoint, parse_checkpoint
from gateway.audit.note import Note, NoteError, fingerprint, parse_note, verified
from gateway.audit.record import MAX_RECORD, NO_PREV
from gateway.audit.tree import Tree, leaf_hash
from gateway.recording.store import RecordingError, read_recording

_CHECKPOINT_KEYS = frozenset({"origin", "seq", "time", "kind", "segment", "prev", "note", "peaks"})
_RESTARTS = ("audit.opened", "audit.restored")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as the gateway wrote it. ``seq`` is the record, or the first of those concerned; ``file`` may be empty."""

    origin: str
    seq: int
    file: str
    what: str

    def __str__(self) -> str:
        place = f"{self.origin}:{self.seq}" + (f" ({self.file})" if self.file else "")
        return f"{place}: {self.what}"


class Chain:
    """Feed records in order, then ``finish()``. ``next`` is the seq expected next."""

    def __init__(self, origin: str, keys: Sequence[bytes], anchors: Sequence[Checkpoint], find: Callable[[Finding], None],
                 recordings: Path | None) -> None:
        self.origin = origin
        self._keys, self._find, self._recordings = keys, find, recordings
        self._anchors = sorted((anchor for anchor in anchors if anchor.origin == origin), key=lambda anchor: anchor.size)
        self.given = len(self._anchors)
        self.begins = self.next = 0
        self._tree: Tree | None = None
        self._prev = self._time = self._segment = self._file = self._before = ""
        self._announced: bytes | None = None
        self._restart = self._unexplained = 0
        self._odd = False
        self.checkpoints = self.unproved = self.pruned = self.recordings = self.unseen_recordings = 0
        self.sealed: Checkpoint | None = None
        self.signer = ""
        self.anchor: Checkpoint | None = None
        self.resets: list[tuple[int, str]] = []
        self.notes: list[str] = []

    # ---- what the files say

    def _report(self, seq: int, what: str, file: str | None = None) -> None:
        self._find(Finding(self.origin, seq, self._file if file is None else file, what))

    def row(self, first: int, file: str) -> None:
        """A row says that its records begin with ``first``."""
        self._file = file
        if self.next and first != self.next:
            self._jump(first)

    def lost(self, file: str, what: str) -> None:
        """Records that are there and cannot be read."""
        self._file = file
        self._report(self.next, what)
        self.skip()

    def skip(self) -> None:
        """Some records cannot be looked at; the next one seen may have any number, and was told about."""
        self._tree, self._prev, self._odd, self.next = None, "", True, -1 if self.next else 0

    def _jump(self, seq: int) -> None:
        if self.next > 0:
            what = (f"records {self.next} to {seq - 1} are missing" if seq > self.next else f"record {seq} where {self.next} was expected")
            self._report(min(self.next, seq), what)
        self._tree, self._prev, self._odd = None, "", True
        self.next = seq

    # ---- one record

    def feed(self, line: bytes, file: str) -> None:
        self._before, self._file = self._file, file
        record = self._parsed(line)
        if record is None:
            self._report(self.next, "not a record")
            self._append(line)
            return
        seq = record.get("seq")
        if type(seq) is not int or seq < 1:
            self._report(self.next, "a record without a number")
            seq = self.next
        if not self.begins:
            self._begin(seq, record)
        if seq != self.next:
            self._jump(seq)
        self._look(seq, record, line)
        self._append(line)

    def _parsed(self, line: bytes) -> dict[str, Any] | None:
        try:
            record = orjson.loads(line) if len(line) <= MAX_RECORD else None
        except ValueError:
            return None
        return record if isinstance(record, dict) else None

    def _begin(self, seq: int, record: dict[str, Any]) -> None:
        self.begins = self.next = seq
        if seq == 1:
            self._tree, self._prev = Tree(), NO_PREV
        else:
            self._prev = str(record.get("prev", ""))
            self._skip_anchors(seq)

    def _skip_anchors(self, seq: int) -> None:
        for anchor in [anchor for anchor in self._anchors if anchor.size < seq - 1]:
            self._anchors.remove(anchor)
            self.notes.append(f"the anchor of {anchor.time} covers only records that are not here")

    def _append(self, line: bytes) -> None:
        leaf = leaf_hash(line)
        self._prev = leaf[:8].hex()
        if self.next > 0:
            self.next += 1
        if self._tree is not None:
            self._tree.append(leaf)
        elif not self._odd:
            self.unproved += 1

    def _look(self, seq: int, record: dict[str, Any], line: bytes) -> None:
        self._compare_anchors()
        if record.get("origin") != self.origin:
            self._report(seq, f"a record of another origin, {str(record.get('origin'))[:80]!r}")
        if self._prev and record.get("prev") != self._prev:
            self._report(max(seq - 1, 1), f"changed: it is not the record that record {seq} was written after", self._before)
            self._odd = True
        time = record.get("time")
        if not isinstance(time, str) or len(time) != 27 or time < self._time:
            self._report(seq, "its time is before that of the record before it")
        else:
            self._time = time
        self._kind(seq, record, line)
        if "recording" in record:
            self._recording(seq, record["recording"])

    def _kind(self, seq: int, record: dict[str, Any], line: bytes) -> None:
        kind = record.get("kind")
        if kind == "checkpoint":
            self._checkpoint(seq, record, line)
            return
        self._segment = str(record.get("segment"))
        if kind in _RESTARTS:
            self._restart = seq
        if kind == "audit.pruned" and type(record.get("last")) is int:
            self.pruned = max(self.pruned, record["last"])
        if self._unexplained and kind != "audit.opened":
            self._report(self._unexplained, "a chain of one-time keys begins without a restart on record")
        self._unexplained = 0

    def _recording(self, seq: int, reference: object) -> None:
        if self._recordings is None:
            self.unseen_recordings += 1
            return
        self.recordings += 1
        try:
            read_recording(self._recordings, reference)
        except RecordingError as error:
            self._report(seq, f"recording {error}")
        except OSError as error:
            self._report(seq, f"its recording cannot be read: {error.strerror}")

    # ---- checkpoints

    def _checkpoint(self, seq: int, record: dict[str, Any], line: bytes) -> None:
        try:
            note = parse_note(str(record.get("note", "")))
            checkpoint = parse_checkpoint(note)
        except NoteError as error:
            self._report(seq, f"a checkpoint that cannot be read: {error}")
            return
        if checkpoint.origin != self.origin or checkpoint.size != seq - 1 or not self._plain(record, checkpoint, line):
            self._report(seq, "a checkpoint that does not fit its record")
        signed = self._signatures(seq, note, checkpoint)
        self._peaks(seq, record, checkpoint, signed=signed)
        if self._tree is not None and self._tree.root() != checkpoint.root:
            since = self.sealed.size + 1 if self.sealed else self.begins
            what = f"records {since} to {seq - 1} are not all as they were: they do not give the root signed in checkpoint {seq}"
            self._report(since, what)
            self._tree, self._odd = None, True
        elif self._tree is not None and signed:
            self.sealed = checkpoint
            self._odd = False
        self.checkpoints += 1

    def _plain(self, record: dict[str, Any], checkpoint: Checkpoint, line: bytes) -> bool:
        """Whether the record holds the note and nothing that the note does not vouch for."""
        segment = not self._segment or record.get("segment") == self._segment
        return (segment and record.get("time") == checkpoint.time and _CHECKPOINT_KEYS.issuperset(record)
                and orjson.dumps(record) == line)

    def _signatures(self, seq: int, note: Note, checkpoint: Checkpoint) -> bool:
        by = next((key for key in self._keys if verified(note, self.origin, key)), None)
        if by is None:
            self._report(seq, "a checkpoint that is not signed by the gateway's key")
        else:
            self.signer = fingerprint(by)
        once = checkpoint.reset or self._announced
        if once is not None and not verified(note, self.origin + ONCE, once):
            self._report(seq, "a checkpoint that is not signed by the one-time key that the checkpoint before it named")
        if checkpoint.reset is not None:
            self._reset(seq, checkpoint)
        self._announced, self._restart = checkpoint.next, 0
        return by is not None

    def _reset(self, seq: int, checkpoint: Checkpoint) -> None:
        if checkpoint.size == 0:
            self.resets.append((seq, "the beginning"))
        elif self._restart:
            self.resets.append((seq, f"a restart, record {self._restart}"))
        else:
            self.resets.append((seq, "no restart on record"))
            self._unexplained = seq if self._announced is not None else 0

    def _peaks(self, seq: int, record: dict[str, Any], checkpoint: Checkpoint, *, signed: bool) -> None:
        """Peaks under a signed root are as good as all records before: the tree can be taken up from here."""
        if "peaks" not in record:
            return
        try:
            tree = Tree(checkpoint.size, [bytes.fromhex(peak) for peak in record["peaks"]])
        except (ValueError, TypeError):
            tree = None
        if tree is None or tree.root() != checkpoint.root:
            self._report(seq, "the peaks do not give the root of the checkpoint")
        elif self._tree is None and signed:
            self._tree = tree

    # ---- anchors and the end

    def _compare_anchors(self) -> None:
        """Compare with every anchor over exactly the records before the next one."""
        while self._anchors and self._anchors[0].size <= self.next - 1:
            anchor = self._anchors.pop(0)
            if self._tree is None or self._tree.size != anchor.size:
                self.notes.append(f"the anchor of {anchor.time} could not be compared")
            elif self._tree.root() != anchor.root:
                self._report(anchor.size, f"another history: the anchor of {anchor.time} has other records up to {anchor.size}")
                self.anchor = anchor
            else:
                self.anchor = anchor

    def finish(self) -> dict[str, Any]:
        """Compare what is left, and say how far this goes."""
        self._file = ""
        self._compare_anchors()
        last = self.next - 1 if self.next > 0 else 0
        for anchor in self._anchors:
            self._report(last + 1, f"cut off or put back: there are {last} records, but the anchor of {anchor.time} says {anchor.size}")
            self.anchor = anchor
        sealed = self.sealed
        return {
            "first": self.begins, "last": last, "checkpoints": self.checkpoints, "recordings": self.recordings,
            "vouched": sealed.size if sealed else 0, "vouched_time": sealed.time if sealed else None, "key": self.signer or None,
            "unsealed": max(0, last - sealed.size - 1) if sealed else last,
            "anchored": self.anchor.size if self.anchor else None, "anchored_time": self.anchor.time if self.anchor else None,
        }
