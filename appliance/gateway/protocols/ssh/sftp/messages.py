# SPDX-License-Identifier: Apache-2.0
"""Requests and answers of SFTP version 3, typed (draft-ietf-secsh-filexfer-02, sections 4 to 8; extensions: OpenSSH's PROTOCOL, section 4).

One table says of what fields each consists; it reads and writes. A request that is not in it is ``Unknown``: it is refused with
``OP_UNSUPPORTED`` and never forwarded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from gateway.errors import ClientFault, TargetFault
from gateway.protocols.ssh.sftp.codec import MAX_HANDLE, MAX_PACKET, MAX_PATH, U32, U64, Fault, Fields, packet, string


class UnknownAttributes(ClientFault):
    """A request carries attributes that version 3 does not have, or extended ones: what they mean is not known."""


VERSION = 3
INIT, VERSION_ANSWER = 1, 2
OPEN, CLOSE, READ, WRITE, LSTAT, FSTAT, SETSTAT, FSETSTAT, OPENDIR, READDIR = 3, 4, 5, 6, 7, 8, 9, 10, 11, 12
REMOVE, MKDIR, RMDIR, REALPATH, STAT, RENAME, READLINK, SYMLINK = 13, 14, 15, 16, 17, 18, 19, 20
STATUS, HANDLE, DATA, NAME, ATTRS = 101, 102, 103, 104, 105
EXTENDED, EXTENDED_REPLY = 200, 201

OK, EOF, NO_SUCH_FILE, PERMISSION_DENIED, FAILURE, BAD_MESSAGE, NO_CONNECTION, CONNECTION_LOST, OP_UNSUPPORTED = range(9)
CODES = ("ok", "eof", "no such file", "permission denied", "failure", "bad message", "no connection", "connection lost",
         "operation unsupported")

FLAG_READ, FLAG_WRITE, FLAG_APPEND, FLAG_CREATE, FLAG_TRUNCATE, FLAG_EXCLUSIVE = 1, 2, 4, 8, 16, 32
ALL_FLAGS = 63

EXTENSIONS: Mapping[bytes, bytes] = {
    b"posix-rename@openssh.com": b"1", b"statvfs@openssh.com": b"2", b"fstatvfs@openssh.com": b"2", b"hardlink@openssh.com": b"1",
    b"fsync@openssh.com": b"1", b"lsetstat@openssh.com": b"1", b"limits@openssh.com": b"1", b"expand-path@openssh.com": b"1",
    b"copy-data": b"1",
}
"""What is understood, by the version the target has to announce. ``home-directory`` and ``users-groups-by-id`` tell about accounts, not
files, and are hidden; clients do without them."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """File attributes; ``None`` is absent. Times are whole seconds since the epoch."""

    size: int | None = None
    owner: tuple[int, int] | None = None
    permissions: int | None = None
    times: tuple[int, int] | None = None

    @classmethod
    def read(cls, found: Fields, fault: Fault) -> Attributes:
        """Raises the fault (of a caller: ``UnknownAttributes``) on flags that version 3 does not have, extended attributes included."""
        flags = found.u32()
        if flags & ~0xF:
            raise (UnknownAttributes if fault is ClientFault else fault)("SFTP file attributes of an unknown kind")
        return cls(found.u64() if flags & 1 else None, (found.u32(), found.u32()) if flags & 2 else None,
                   found.u32() if flags & 4 else None, (found.u32(), found.u32()) if flags & 8 else None)

    def encode(self) -> bytes:
        flags, parts = 0, []
        if self.size is not None:
            flags, parts = 1, [U64.pack(self.size)]
        for bit, pair in ((2, self.owner), (4, self.permissions), (8, self.times)):
            if pair is not None:
                flags |= bit
                parts += [U32.pack(value) for value in (pair if isinstance(pair, tuple) else (pair,))]
        return U32.pack(flags) + b"".join(parts)


NO_ATTRIBUTES = Attributes()


@dataclass(frozen=True, slots=True)
class Message:
    """A request or an answer without its id."""


@dataclass(frozen=True, slots=True)
class Open(Message):
    path: bytes
    flags: int
    attributes: Attributes = NO_ATTRIBUTES


@dataclass(frozen=True, slots=True)
class Close(Message):
    handle: bytes


@dataclass(frozen=True, slots=True)
class Read(Message):
    handle: bytes
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Write(Message):
    handle: bytes
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class OnPath(Message):
    """A request whose only argument is a path."""

    path: bytes


@dataclass(frozen=True, slots=True)
class OnHandle(Message):
    """A request whose only argument is a handle."""

    handle: bytes


@dataclass(frozen=True, slots=True)
class TwoPaths(Message):
    """What there is, and the new name."""

    old: bytes
    new: bytes


@dataclass(frozen=True, slots=True)
class PathAttributes(Message):
    path: bytes
    attributes: Attributes = NO_ATTRIBUTES


class Stat(OnPath): ...
class Lstat(OnPath): ...
class Opendir(OnPath): ...
class Remove(OnPath): ...
class Rmdir(OnPath): ...
class Realpath(OnPath): ...
class Readlink(OnPath): ...
class Statvfs(OnPath): ...
class ExpandPath(OnPath): ...
class Fstat(OnHandle): ...
class Readdir(OnHandle): ...
class Fstatvfs(OnHandle): ...
class Fsync(OnHandle): ...
class Mkdir(PathAttributes): ...
class Setstat(PathAttributes): ...
class Lsetstat(PathAttributes): ...
class Rename(TwoPaths): ...
class PosixRename(TwoPaths): ...
class Hardlink(TwoPaths): ...


class Symlink(TwoPaths):
    """``old`` is what the link points at, ``new`` the link: OpenSSH's order (PROTOCOL 4.1), which the draft has the other way round."""


@dataclass(frozen=True, slots=True)
class Fsetstat(Message):
    handle: bytes
    attributes: Attributes = NO_ATTRIBUTES


@dataclass(frozen=True, slots=True)
class Limits(Message):
    pass


@dataclass(frozen=True, slots=True)
class CopyData(Message):
    """Bytes from one open file to another, on the target; a length of 0 is up to the end."""

    source: bytes
    source_offset: int
    length: int
    destination: bytes
    destination_offset: int


@dataclass(frozen=True, slots=True)
class Unknown(Message):
    """A request that is refused; ``name`` is fit to be shown."""

    name: str


@dataclass(frozen=True, slots=True)
class Status(Message):
    code: int
    text: bytes = b""
    language: bytes = b""

    @property
    def name(self) -> str:
        return CODES[self.code]


@dataclass(frozen=True, slots=True)
class Handle(Message):
    handle: bytes


@dataclass(frozen=True, slots=True)
class Data(Message):
    data: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """One name of a listing: ``long`` is a line as ``ls -l`` has it."""

    name: bytes
    long: bytes
    attributes: Attributes = NO_ATTRIBUTES


@dataclass(frozen=True, slots=True)
class Names(Message):
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Found(Message):
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class Reply(Message):
    """An answer of an extension, as it came."""

    body: bytes


# h: handle, p: path, d: bytes of a file, u: uint32, q: uint64, a: attributes; in the order of the class's fields
_REQUESTS: Mapping[int, tuple[type[Any], str]] = {
    OPEN: (Open, "pua"), CLOSE: (Close, "h"), READ: (Read, "hqu"), WRITE: (Write, "hqd"), LSTAT: (Lstat, "p"), FSTAT: (Fstat, "h"),
    SETSTAT: (Setstat, "pa"), FSETSTAT: (Fsetstat, "ha"), OPENDIR: (Opendir, "p"), READDIR: (Readdir, "h"), REMOVE: (Remove, "p"),
    MKDIR: (Mkdir, "pa"), RMDIR: (Rmdir, "p"), REALPATH: (Realpath, "p"), STAT: (Stat, "p"), RENAME: (Rename, "pp"),
    READLINK: (Readlink, "p"), SYMLINK: (Symlink, "pp"),
}
_EXTENDED: Mapping[bytes, tuple[type[Any], str]] = {
    b"posix-rename@openssh.com": (PosixRename, "pp"), b"statvfs@openssh.com": (Statvfs, "p"), b"fstatvfs@openssh.com": (Fstatvfs, "h"),
    b"hardlink@openssh.com": (Hardlink, "pp"), b"fsync@openssh.com": (Fsync, "h"), b"lsetstat@openssh.com": (Lsetstat, "pa"),
    b"limits@openssh.com": (Limits, ""), b"expand-path@openssh.com": (ExpandPath, "p"), b"copy-data": (CopyData, "hqqhq"),
}
_WRITTEN: Mapping[type[Any], tuple[int, bytes, str]] = {
    **{cls: (kind, b"", form) for kind, (cls, form) in _REQUESTS.items()},
    **{cls: (EXTENDED, string(name), form) for name, (cls, form) in _EXTENDED.items()},
}
NAMES: Mapping[type[Any], str] = {
    **{cls: cls.__name__.lower() for cls, _ in _REQUESTS.values()},
    **{cls: name.decode().split("@")[0] for name, (cls, _) in _EXTENDED.items()},
}
"""What a request is called in records and messages."""


def parse_request(data: bytes, at: int, end: int) -> tuple[int, Message]:
    """The caller's id and request, of a packet at this place (its length included). Raises ``ClientFault`` on a malformed one: after
    that nothing of the stream can be trusted."""
    kind = data[at + 4]
    found = Fields(data, at + 5, end, ClientFault)
    number = found.u32()
    if kind == EXTENDED:
        name = found.string(256)
        known = _EXTENDED.get(name)
        shown = name.decode("ascii", "replace") if name.isascii() and name.decode().isprintable() else "extended"
    else:
        known, shown = _REQUESTS.get(kind), f"request {kind}"
    if known is None:
        return number, Unknown(shown)
    try:
        values = [_read(found, letter) for letter in known[1]]
    except UnknownAttributes:
        return number, Unknown(f"extended attributes in {NAMES[known[0]]}")
    found.done()
    return number, known[0](*values)


def _read(found: Fields, letter: str) -> Any:
    if letter == "a":
        return Attributes.read(found, ClientFault)
    if letter in "uq":
        return found.u32() if letter == "u" else found.u64()
    return found.string({"p": MAX_PATH, "h": MAX_HANDLE, "d": MAX_PACKET}[letter])


def encode_request(number: int, request: Message) -> bytes:
    """A whole packet."""
    kind, name, form = _WRITTEN[type(request)]
    parts = [U32.pack(number), name]
    for letter, field in zip(form, fields(request), strict=True):
        value = getattr(request, field.name)
        parts.append(value.encode() if letter == "a" else U32.pack(value) if letter == "u" else U64.pack(value) if letter == "q"
                     else string(value))
    return packet(kind, b"".join(parts))


_OWED: Mapping[type[Any], int] = {
    Open: HANDLE, Opendir: HANDLE, Read: DATA, Readdir: NAME, Realpath: NAME, Readlink: NAME, ExpandPath: NAME, Stat: ATTRS, Lstat: ATTRS,
    Fstat: ATTRS, Statvfs: EXTENDED_REPLY, Fstatvfs: EXTENDED_REPLY, Limits: EXTENDED_REPLY,
}
_REPLY_SIZES: Mapping[type[Any], int] = {Statvfs: 88, Fstatvfs: 88, Limits: 32}
MAX_TEXT = 1024


def parse_answer(asked: type[Message], data: bytes, at: int, end: int) -> Message:
    """The target's answer to a request of this class. Raises ``TargetFault`` for one that cannot be its answer."""
    kind = data[at + 4]
    found = Fields(data, at + 9, end, TargetFault)
    owed = _OWED.get(asked)
    if kind == STATUS:
        answer: Message = _status(found, owed is not None)
    elif kind != owed:
        raise TargetFault(f"the target answered {NAMES[asked]} with message {kind}")
    elif kind == HANDLE:
        answer = Handle(found.string(MAX_HANDLE))
    elif kind == DATA:
        answer = Data(found.string())
    elif kind == ATTRS:
        answer = Found(_attributes(found))
    elif kind == NAME:
        answer = _names(found)
    else:
        answer = Reply(found.rest())
        if len(answer.body) != _REPLY_SIZES[asked]:
            raise TargetFault(f"the target's answer to {NAMES[asked]} has a strange length")
    found.done()
    return answer


def _status(found: Fields, content_owed: bool) -> Status:
    code = found.u32()
    text, language = (found.string(MAX_TEXT), found.string(64)) if found.left else (b"", b"")      # version 2 had none
    if code == OK and content_owed:
        raise TargetFault("the target says OK where it owes an answer")
    return Status(code if code < len(CODES) else FAILURE, text, language)


def _attributes(found: Fields) -> Attributes:
    return Attributes.read(found, TargetFault)


def _names(found: Fields) -> Names:
    count = found.u32()
    if count > found.left // 12:               # two lengths and the flags, at least
        raise TargetFault("the target counts more names than it sends")
    return Names(tuple(Entry(found.string(MAX_PATH), found.string(MAX_PATH + 1024), _attributes(found)) for _ in range(count)))


def encode_answer(number: int, answer: Message) -> bytes:
    """A whole packet for the caller."""
    kind, body = _answer(answer)
    return packet(kind, U32.pack(number) + body)


def _answer(answer: Message) -> tuple[int, bytes]:
    if isinstance(answer, Status):
        return STATUS, U32.pack(answer.code) + string(answer.text) + string(answer.language)
    if isinstance(answer, Handle):
        return HANDLE, string(answer.handle)
    if isinstance(answer, Data):
        return DATA, string(answer.data)
    if isinstance(answer, Found):
        return ATTRS, answer.attributes.encode()
    if isinstance(answer, Names):
        entries = (string(one.name) + string(one.long) + one.attributes.encode() for one in answer.entries)
        return NAME, U32.pack(len(answer.entries)) + b"".join(entries)
    if isinstance(answer, Reply):
        return EXTENDED_REPLY, answer.body
    raise TypeError(f"{type(answer).__name__} is no answer")


def denied(text: str) -> Status:
    """PERMISSION_DENIED with the reason."""
    return Status(PERMISSION_DENIED, text.encode("utf-8", "replace")[:MAX_TEXT])


def failed(text: str, code: int = FAILURE) -> Status:
    return Status(code, text.encode("utf-8", "replace")[:MAX_TEXT])


def parse_hello(data: bytes, at: int, end: int, kind: int, fault: Fault) -> tuple[int, dict[bytes, bytes]]:
    """Version and extensions of INIT or VERSION. Raises the fault for anything else."""
    if data[at + 4] != kind:
        raise fault("the SFTP session did not begin as it has to")
    found = Fields(data, at + 5, end, fault)
    version = found.u32()
    extensions: dict[bytes, bytes] = {}
    while found.left:
        name = found.string(256)
        extensions[name] = found.string()
    if version < VERSION:
        raise fault(f"SFTP version {version}: expected {VERSION}")
    return version, extensions


def hello(kind: int, extensions: Mapping[bytes, bytes]) -> bytes:
    """INIT or VERSION as a whole packet."""
    return packet(kind, U32.pack(VERSION) + b"".join(string(name) + string(value) for name, value in extensions.items()))
