# SPDX-License-Identifier: Apache-2.0
"""Collects the audit log of a gateway into a folder of the controller: verified, resumable, nothing lost or doubled.

The folder holds ``records-NNNNNN.jsonl``, the bytes of ``lockgate audit export`` one after the other; ``audit.pub``, the keys that may
sign; ``head``, the newest signed notes; and ``collection.json``, which says what is held. That file is the commit: it is replaced, in one
rename, after a piece and its name are on disk. A numbered file that it does not name is from a run that was cut short, and is written anew.

What is verified here needs no gateway and no trust in it (docs/audit.md): each record follows the one before it by number and by hash, each
signed checkpoint covers exactly the records held, under a key pinned at the first collection. ``Held`` is that, without input or output.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

FORMAT = "lockgate-collection/1"
_ED25519 = b"\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x20"
_RECORD = 16 * 2**20 + 1
"""More than any record has, its newline included."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Wrong(Exception):
    """The log is not what it has to be, or the collection is not. In words for the operator."""


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def root_of(peaks: list[bytes]) -> bytes:
    """RFC 6962: the root over perfect subtrees, largest first."""
    root = peaks[-1] if peaks else sha(b"")
    for peak in reversed(peaks[:-1]):
        root = sha(b"\x01" + peak + root)
    return root


@dataclass(frozen=True)
class Note:
    """A signed checkpoint: the tree of records 1 to ``size``; ``keys`` are the one-time keys it names (``reset``, ``next``)."""

    origin: str
    size: int
    root: bytes
    keys: dict[str, bytes]
    text: str
    signatures: tuple[tuple[str, bytes], ...]

    def signed_by(self, name: str, public: bytes) -> bool:
        wanted = sha(name.encode() + b"\n\x01" + public)[:4]
        return any(signer == name and signed[:4] == wanted and _good(public, signed[4:], self.text) for signer, signed in self.signatures)


def _good(public: bytes, signature: bytes, text: str) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, text.encode())
    except (InvalidSignature, ValueError):
        return False
    return True


def read_note(note: str) -> Note:
    """Raises ``Wrong``."""
    try:
        text, signatures = note.rsplit("\n\n", 1)
        origin, size, root, *extensions = text.split("\n")
        pairs = [line.split(" ", 1) for line in extensions]
        keys = {name: base64.b64decode(value, validate=True) for name, value in pairs if name in ("reset", "next")}
        signed = tuple((line.split(" ")[1], base64.b64decode(line.split(" ")[2])) for line in signatures.splitlines())
        return Note(origin, int(size), base64.b64decode(root, validate=True), keys, text + "\n", signed)
    except (ValueError, IndexError):
        raise Wrong("a signed note cannot be read") from None


@dataclass
class Held:
    """What is held of one origin: records up to ``last``, the hash of that one, the tree over them, the newest note that was checked."""

    origin: str
    last: int = 0
    leaf: str = "0" * 16
    peaks: list[bytes] = field(default_factory=list)
    note: str = ""
    once: bytes = b""

    def feed(self, line: bytes, record: dict[str, Any], keys: list[bytes], accept_gap: bool) -> int:
        """Take the next record, its bytes without the newline; gives how many are missing before it. Raises ``Wrong``."""
        seq, missing = record["seq"], 0
        where = f"{self.origin}:{seq}"
        if seq != self.last + 1:
            missing = self._skip(record, where, accept_gap)
        elif record["prev"] != self.leaf:
            raise Wrong(f"{where} does not follow the record that is held: {self.origin}:{self.last} was changed")
        if record["kind"] == "checkpoint":
            self._check(read_note(record["note"]), where, keys)
            self.note = record["note"]
        self._grow(line)
        return missing

    def _skip(self, record: dict[str, Any], where: str, accept_gap: bool) -> int:
        """Begin behind a hole: possible at a checkpoint that carries the tree before it, as each file of the log begins with."""
        missing = record["seq"] - self.last - 1
        if missing < 0 or not isinstance(record.get("peaks"), list) or record["kind"] != "checkpoint":
            raise Wrong(f"{where} came where {self.origin}:{self.last + 1} is next")
        if self.last and not accept_gap:
            raise Wrong(f"{self.origin}: {missing} records before {record['seq']} are gone from the gateway, their time was over before "
                        "they were collected: collect more often or keep them longer; audit_collect_accept_gap takes what is left")
        try:
            self.peaks = [bytes.fromhex(peak) for peak in record["peaks"]]
        except (ValueError, TypeError):
            raise Wrong(f"the checkpoint {where} has no tree that can be read") from None
        self.last, self.once = record["seq"] - 1, b""
        return int(missing)

    def _check(self, note: Note, where: str, keys: list[bytes]) -> None:
        if (note.origin, note.size, note.root) != (self.origin, self.last, root_of(self.peaks)):
            raise Wrong(f"the checkpoint {where} covers another history than the records that are held")
        if not any(note.signed_by(self.origin, key) for key in keys):
            raise Wrong(f"the checkpoint {where} is not signed by a key in audit.pub")
        once = note.keys.get("reset", self.once)
        if once and not note.signed_by(f"{self.origin}/once", once):
            raise Wrong(f"the checkpoint {where} is not signed with the one-time key that the checkpoint before it named")
        self.once = note.keys.get("next", b"")

    def _grow(self, line: bytes) -> None:
        leaf, count = sha(b"\x00" + line), self.last
        self.leaf, self.last = leaf[:8].hex(), self.last + 1
        while count & 1:
            leaf, count = sha(b"\x01" + self.peaks.pop() + leaf), count >> 1
        self.peaks.append(leaf)

    def compare(self, head: str) -> bool:
        """Whether everything under the gateway's newest note is held. Raises ``Wrong`` where it knows less than what is held, or other."""
        size, newest = read_note(head).size, read_note(self.note).size if self.note else -1
        if size < newest or (size == newest and head != self.note):
            raise Wrong(f"{self.origin}: cut off or put back: the gateway's log has {size} records under its signature, {newest} are held")
        return size == newest

    def document(self) -> dict[str, Any]:
        peaks = [peak.hex() for peak in self.peaks]
        return {"last": self.last, "leaf": self.leaf, "peaks": peaks, "note": self.note, "once": self.once.hex()}


def held_from(origin: str, document: dict[str, Any]) -> Held:
    peaks = [bytes.fromhex(peak) for peak in document["peaks"]]
    return Held(origin, document["last"], document["leaf"], peaks, document["note"], bytes.fromhex(document["once"]))


class Collection:
    """The folder. Open it with ``opened``, which keeps others out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: list[dict[str, Any]] = []
        self.held: dict[str, Held] = {}
        self.gaps: list[dict[str, Any]] = []
        try:
            self._read(json.loads((folder / "collection.json").read_text()))
        except FileNotFoundError:
            if (folder / "records-000002.jsonl").exists():  # a first run that was cut short left one file at most
                raise Wrong(f"{folder}: there are records and no collection.json: restore it from a copy") from None
        except (ValueError, KeyError, TypeError):
            raise Wrong(f"{folder / 'collection.json'} cannot be read: restore it from a copy") from None

    def _read(self, document: dict[str, Any]) -> None:
        if document["format"] != FORMAT:
            raise Wrong(f"{self.folder}: made by another version ({str(document['format'])[:40]})")
        self.files, self.gaps = document["files"], document["gaps"]
        self.held = {origin: held_from(origin, one) for origin, one in document["origins"].items()}

    @property
    def positions(self) -> dict[str, int]:
        return {origin: one.last for origin, one in self.held.items()}

    @property
    def anchor(self) -> str:
        return "\n".join(one.note for one in self.held.values() if one.note)

    def keys(self) -> list[str]:
        try:
            return (self.folder / "audit.pub").read_text().split("\n")[:-1]
        except FileNotFoundError:
            return []

    def pin(self, keys: list[str]) -> None:
        self._write("audit.pub", "".join(f"{key}\n" for key in keys).encode())

    def check_files(self) -> None:
        """Every file that is named is there as it was written. Raises ``Wrong``."""
        for entry in self.files:
            try:
                with (self.folder / entry["name"]).open("rb") as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise Wrong(f"{self.folder / entry['name']}: {error.strerror}") from None
            if found != entry["sha256"]:
                raise Wrong(f"{self.folder / entry['name']} was changed since it was collected")

    def add(self, piece: bytes, keys: list[bytes], accept_gap: bool) -> int:
        """Verify a piece, write it, then say so: all of it or nothing. Gives the number of records. Raises ``Wrong``."""
        held = {origin: held_from(origin, one.document()) for origin, one in self.held.items()}
        gaps = list(self.gaps)
        lines = piece.split(b"\n")[:-1]
        for line in lines:
            record = _record(line)
            one = held.setdefault(record["origin"], Held(record["origin"]))
            if missing := one.feed(line, record, keys, accept_gap):
                gaps.append({"origin": one.origin, "before": one.last, "missing": missing})
        name = f"records-{len(self.files) + 1:06}.jsonl"
        self._write(name, piece)
        self.files.append({"name": name, "records": len(lines), "sha256": hashlib.sha256(piece).hexdigest()})
        self.held, self.gaps = held, gaps
        self._commit()
        return len(lines)

    def _commit(self) -> None:
        document = {"format": FORMAT, "positions": self.positions, "files": self.files, "gaps": self.gaps,
                    "origins": {origin: one.document() for origin, one in self.held.items()}}
        self._write("collection.json", (json.dumps(document, indent=1) + "\n").encode())
        self._write("head", self.anchor.encode())

    def _write(self, name: str, content: bytes) -> None:
        """A whole file or none, on disk when this returns."""
        path = self.folder / f".{name}.partial"
        with path.open("wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        path.replace(self.folder / name)
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


_FIELDS = {"origin": str, "seq": int, "kind": str, "prev": str}


def _record(line: bytes) -> dict[str, Any]:
    """One line as a record, as far as it is looked at here. Raises ``Wrong``."""
    try:
        record = json.loads(line)
        sound = all(type(record[name]) is kind for name, kind in _FIELDS.items()) and isinstance(record.get("note", ""), str)
    except (ValueError, KeyError, TypeError, RecursionError):
        sound = False
    if not sound or (record["kind"] == "checkpoint" and "note" not in record):
        raise Wrong("the export has a line that is not a record")
    return dict(record)


def raw_key(line: str) -> bytes:
    """The 32 bytes of an OpenSSH public key. Raises ``Wrong``."""
    try:
        blob = base64.b64decode(line.split(" ")[1], validate=True)
    except (ValueError, IndexError):
        blob = b""
    if not blob.startswith(_ED25519) or len(blob) != 51:
        raise Wrong("expected an OpenSSH Ed25519 public key")
    return blob[-32:]


@contextmanager
def opened(folder: Path) -> Iterator[Collection]:
    """Raises ``Wrong`` while another collection writes there."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Wrong(f"{folder}: another collection is at work there") from None
        yield Collection(folder)


class ActionModule(ActionBase):  # type: ignore[misc]
    """``audit_collect``: what the role's one task calls."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        self._variables = task_vars or {}
        given = self._task.args
        name = str(self._variables["inventory_hostname"])
        if not _NAME.fullmatch(name):
            raise AnsibleActionFail("a gateway whose name is not a file name cannot be collected into a folder of that name")
        try:
            with opened(Path(given["destination"]).expanduser() / name) as collection:
                return result | self._collect(collection, given)
        except Wrong as wrong:
            raise AnsibleActionFail(str(wrong)) from None
        except OSError as error:
            raise AnsibleActionFail(f"{error.filename}: {error.strerror}") from None

    def _collect(self, collection: Collection, given: dict[str, Any]) -> dict[str, Any]:
        collection.check_files()
        retired = set(given["retired_origins"])
        anchor = "\n".join(one.note for one in collection.held.values() if one.note and one.origin not in retired)
        state = self._ask(given, read="state", keys=given["keys"], anchor=anchor)
        _intact(state)
        heads = {origin: note for origin, note in state["heads"].items() if origin not in retired}
        _none_absent(collection, heads, retired)
        behind = [origin for origin, note in heads.items() if not collection.held.setdefault(origin, Held(origin)).compare(note)]
        if self._task.check_mode:
            return {"changed": bool(behind), "positions": collection.positions, "msg": f"would collect {', '.join(behind) or 'nothing'}"}
        keys = [raw_key(line) for line in _pinned(collection, state["keys"], given["accept_new_keys"])]
        count = self._fetch(collection, heads, keys, given) if behind else 0
        return {"changed": count > 0, "records": count, "positions": collection.positions, "gaps": collection.gaps,
                "destination": str(collection.folder), "verdict": state["verdict"]["verdict"]}

    def _fetch(self, collection: Collection, heads: dict[str, str], keys: list[bytes], given: dict[str, Any]) -> int:
        """Piece by piece until everything under the heads is held. What is written meanwhile is for the next time."""
        count, more = 0, True
        while more and not all(_passed(collection, origin, note) for origin, note in heads.items()):
            said = self._ask(given, read="records", since=collection.positions, limit=given["piece_bytes"])
            piece, more = unpacked(said["records"], int(given["piece_bytes"])), said["more"]
            if not piece:
                break
            count += collection.add(piece, keys, given["accept_gap"])
        for origin, note in heads.items():
            if not _passed(collection, origin, note):
                raise Wrong(f"{origin}: the export ends before record {read_note(note).size}, which the gateway's own newest note covers")
        return count

    def _ask(self, given: dict[str, Any], **what: Any) -> dict[str, Any]:
        arguments = {"command": given["command"], "config": given["config"], **what}
        said: dict[str, Any] = self._execute_module(module_name="audit_piece", module_args=arguments, task_vars=self._variables)
        if said.get("failed") or said.get("unreachable"):
            raise Wrong(str(said.get("msg", "the gateway could not be asked")))
        return said


def unpacked(records: str, wanted: int) -> bytes:
    """The bytes of a piece. A gateway in other hands says what it likes: more than was asked for is refused. Raises ``Wrong``."""
    inflated = zlib.decompressobj()
    try:
        piece = inflated.decompress(base64.b64decode(records), wanted + _RECORD)
    except (zlib.error, ValueError):
        raise Wrong("the records that came cannot be unpacked") from None
    if not inflated.eof:
        raise Wrong(f"more records came than were asked for ({wanted} bytes)")
    return piece


def _passed(collection: Collection, origin: str, head: str) -> bool:
    """Whether the newest note held is this one or a later one."""
    held = collection.held[origin]
    return bool(held.note) and read_note(held.note).size >= read_note(head).size


def _intact(state: dict[str, Any]) -> None:
    if state["status"] == 0:
        return
    said = state["verdict"]
    found = [f"{one['origin']}:{one['seq']} {one['file']}: {one['what']}" for one in said["findings"]]
    raise Wrong(f"the gateway's log is {said['verdict']}, nothing was collected: " + "; ".join([*found, *said["incomplete"]])[:4000])


def _none_absent(collection: Collection, heads: dict[str, str], retired: set[str]) -> None:
    absent = sorted(set(collection.held) - set(heads) - retired)
    if absent:
        raise Wrong(f"the gateway no longer has a log of {', '.join(absent)}: cut off or replaced; those that ended for good are named in "
                    "audit_collect_retired_origins")


def _pinned(collection: Collection, offered: list[str], accept_new: bool) -> list[str]:
    """The keys that may sign. The first collection pins what the gateway has; later ones have to be agreed to. Raises ``Wrong``."""
    pinned = collection.keys()
    new = [key for key in offered if key not in pinned]
    for key in new:  # one line each, before it is kept
        if key != f"ssh-ed25519 {base64.b64encode(_ED25519 + raw_key(key)).decode()}":
            raise Wrong("expected an OpenSSH Ed25519 public key")
    if new and pinned and not accept_new:
        raise Wrong(f"the gateway signs with a key that is not in {collection.folder / 'audit.pub'}: audit_collect_accept_new_keys adds it")
    if new:
        collection.pin([*pinned, *new])
    return [*pinned, *new]
