# SPDX-License-Identifier: Apache-2.0
"""What one request comes to, as a plan without I/O: questions to the target, one decision, the request as forwarded, the answer.

A plan is a generator. It yields ``Ask`` (and gets the target's answer) and ``Decide`` (and gets what ``desk.run`` gave); it returns an
``Outcome`` or raises ``Refused``. Each plan has at most one ``Decide``, and nothing that could change or show anything is asked before it:
REALPATH and LSTAT alone, to know which file is meant.

**Which file.** The caller's path is put into lexical normal form (relative ones from the login's home), then the target says by REALPATH
where it lies with links followed; both are decided, and what is forwarded is the resolved path, so that what runs is what was decided. A
request that does not follow a link at the end of its path (LSTAT, REMOVE, RENAME, the new name of a link, …) has its directory resolved;
so has one for a file that is not there yet. After OPEN the target is asked again: where the answer has changed the file is closed and
refused. This narrows the race with somebody who exchanges links on the target meanwhile; SFTP has no request that closes it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from stat import S_ISDIR
from typing import Any

from gateway.errors import Refused, TargetFault
from gateway.model import Operation
from gateway.protocols.ssh.sftp import messages as m
from gateway.protocols.ssh.sftp.handles import Opened
from gateway.protocols.ssh.sftp.names import absolute, join, shown, split, text_of
from gateway.protocols.ssh.understand import file_request


@dataclass(frozen=True, slots=True)
class Ask:
    """Send this to the target; the plan goes on with the answer."""

    request: m.Message


@dataclass(frozen=True, slots=True)
class Decide:
    """Every operation has to be allowed; the plan goes on with what runs, or with ``Refused`` thrown into it."""

    operations: tuple[Operation, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the caller is answered, and what is open now."""

    answer: m.Message
    opened: Opened | None = None


Plan = Generator[Ask | Decide, Any, Outcome]


@dataclass(frozen=True, slots=True)
class Place:
    """A path, and where it lies; ``missing`` is the target's answer where it cannot tell."""

    path: str
    resolved: str = ""
    missing: m.Status | None = None


@dataclass(frozen=True, slots=True)
class Want:
    """One path of a request: which actions on it, and whether a link at its end is followed. ``base``: where a relative one begins."""

    raw: bytes
    verbs: tuple[str, ...]
    follow: bool = True
    base: str = ""


_Places = Generator[Ask | Decide, Any, tuple[Place, ...]]


def plan(request: m.Message, home: str) -> Plan:
    """The plan of a request that has a path. ``home`` is the directory relative paths begin in."""
    return _PLANS[type(request)](request, home)


def on_path(request: m.Message) -> bool:
    """Whether ``plan()`` knows this request."""
    return type(request) in _PLANS


def paths_of(request: m.Message, home: str) -> tuple[str, ...]:
    """The paths a request is about, in normal form: what touches the same is kept in order. Raises ``Refused``."""
    raws = (request.old, request.new) if isinstance(request, m.TwoPaths) else (getattr(request, "path", b""),)
    return tuple(absolute(text_of(raw), home) for raw in raws)


# --- where a path leads ---


def one_path(answer: m.Message) -> str:
    """The path that REALPATH answered. Raises ``TargetFault`` unless it is one, absolute and in normal form."""
    if not isinstance(answer, m.Names) or len(answer.entries) != 1:
        raise TargetFault("the target's answer to realpath is not one path")
    try:
        path = answer.entries[0].name.decode()
    except UnicodeDecodeError:
        raise Refused("the path leads to a name that is not UTF-8") from None
    if not path.startswith("/") or absolute(path, "/") != path or "\0" in path:
        raise TargetFault("the target's answer to realpath is no absolute path")
    return text_of(path.encode())


def _locate(want: Want, home: str) -> Generator[Ask | Decide, Any, Place]:
    path = absolute(text_of(want.raw), want.base or home)
    if want.follow:
        answer = yield Ask(m.Realpath(path.encode()))
        if not isinstance(answer, m.Status):
            return Place(path, one_path(answer))
        if answer.code != m.NO_SUCH_FILE:
            return Place(path, missing=answer)
        if isinstance((yield Ask(m.Lstat(path.encode()))), m.Found):
            raise Refused(f"{shown(path)} is a link, and the target does not tell where it leads")
    parent, name = split(path)
    answer = yield Ask(m.Realpath(parent.encode()))
    if isinstance(answer, m.Status):
        return Place(path, missing=answer)
    return Place(path, join(one_path(answer), name))


def _settle(wants: Sequence[Want], home: str, text: str, *, tree: bool = False) -> _Places:
    """Where all of them lie, decided together, with all that is below them where it is a ``tree``. ``text`` gets the paths filled in."""
    places = yield from _locate_all(wants, home)
    operations = tuple(operation for want, place in zip(wants, places, strict=True) for verb in want.verbs
                       for operation in file_request(verb, place.path, resolved=place.resolved))
    if tree:
        operations = tuple(replace(one, attributes={**one.attributes, "tree": True}) for one in operations)
    running = yield Decide(operations, text.format(*(place.path for place in places)))
    if running.decision.effect == "approve":           # it may have taken long
        again = yield from _locate_all(wants, home)
        if again != places:
            raise Refused("what this path leads to changed while the approval was waited for")
    return places


def _locate_all(wants: Sequence[Want], home: str) -> _Places:
    places = []
    for want in wants:
        places.append((yield from _locate(want, home)))
    return tuple(places)


# --- plans ---


def _simple(verb: str, follow: bool) -> Callable[[Any, str], Plan]:
    """A request with one path and one action."""

    def planned(request: Any, home: str) -> Plan:
        (place,) = yield from _settle([Want(request.path, (verb,), follow)], home, f"sftp {m.NAMES[type(request)]} {{}}")
        return (yield from _forward(request, place))

    return planned


def _forward(request: Any, place: Place) -> Plan:
    if place.missing is not None:
        return Outcome(place.missing)
    return Outcome((yield Ask(replace(request, path=place.resolved.encode()))))


def _attributes(follow: bool) -> Callable[[Any, str], Plan]:
    """SETSTAT and its kin: a new size is a write, all else setattr."""

    def planned(request: Any, home: str) -> Plan:
        wants = [Want(request.path, verbs_of(request.attributes), follow)]
        (place,) = yield from _settle(wants, home, f"sftp {m.NAMES[type(request)]} {{}}{told(request.attributes)}")
        return (yield from _forward(request, place))

    return planned


def verbs_of(attributes: m.Attributes) -> tuple[str, ...]:
    """The actions that setting these attributes is."""
    resizes, others = attributes.size is not None, replace(attributes, size=None) != m.NO_ATTRIBUTES
    return (("write",) if resizes else ()) + (("setattr",) if others or not resizes else ())


def told(attributes: m.Attributes) -> str:
    """Attributes as the record and the approver see them."""
    parts = [f"size={attributes.size}" if attributes.size is not None else "",
             "owner={}:{}".format(*attributes.owner) if attributes.owner else "",
             f"mode={attributes.permissions:o}" if attributes.permissions is not None else "",
             "times={}:{}".format(*attributes.times) if attributes.times else ""]
    return "".join(f" {part}" for part in parts if part)


def _special(attributes: m.Attributes) -> tuple[str, ...]:
    """To create with set-user-id, set-group-id or sticky bit is more than to create."""
    return ("setattr",) if (attributes.permissions or 0) & 0o7000 else ()


def _mkdir(request: m.Mkdir, home: str) -> Plan:
    wants = [Want(request.path, ("mkdir", *_special(request.attributes)), follow=False)]
    (place,) = yield from _settle(wants, home, f"sftp mkdir {{}}{told(request.attributes)}")
    return (yield from _forward(request, place))


def _rename(request: m.TwoPaths, home: str) -> Plan:
    """A directory takes along what is in it: then every path below both names is decided too."""
    old = Want(request.old, ("rename",), follow=False)
    place = yield from _locate(old, home)
    tree = False
    if place.missing is None:
        found = yield Ask(m.Lstat(place.resolved.encode()))
        mode = found.attributes.permissions if isinstance(found, m.Found) else 0
        tree = mode is None or S_ISDIR(mode)
    return (yield from _two(request, home, old, Want(request.new, ("rename",), follow=False), tree=tree))


def _hardlink(request: m.TwoPaths, home: str) -> Plan:
    return _two(request, home, Want(request.old, ("read", "write")), Want(request.new, ("symlink",), follow=False))


def _two(request: m.TwoPaths, home: str, old: Want, new: Want, *, tree: bool = False) -> Plan:
    places = yield from _settle([old, new], home, f"sftp {m.NAMES[type(request)]} {{}} {{}}", tree=tree)
    for place in places:
        if place.missing is not None:
            return Outcome(place.missing)
    return Outcome((yield Ask(replace(request, old=places[0].resolved.encode(), new=places[1].resolved.encode()))))


def _symlink(request: m.Symlink, home: str) -> Plan:
    """The link is where its directory lies; what it points at begins there. What the link holds is forwarded as it came, so it may not go
    up again by ``..`` once it went down: where that leads is not in its text."""
    parts = text_of(request.old).split("/")
    down = next((place for place, part in enumerate(parts) if part != ".."), len(parts))
    if ".." in parts[down:]:
        raise Refused(f"where {shown('/'.join(parts))} leads cannot be told from its text")
    link = Want(request.new, ("symlink",), follow=False)
    place = yield from _locate(link, home)
    target = Want(request.old, ("read", "write"), base=split(place.resolved or place.path)[0])
    places = yield from _settle([link, target], home, "sftp symlink {} to {}")
    if places[0].missing is not None:
        return Outcome(places[0].missing)
    return Outcome((yield Ask(replace(request, new=places[0].resolved.encode()))))


def _open(request: m.Open, home: str) -> Plan:
    flags = request.flags
    if flags & ~m.ALL_FLAGS:
        raise Refused("OPEN with flags that SFTP version 3 does not have")
    writes = bool(flags & ~m.FLAG_READ)                    # create, truncate and append too
    reads = bool(flags & m.FLAG_READ) or not flags & m.FLAG_WRITE     # without either, open(2) gets O_RDONLY
    verbs = (*(("read",) if reads else ()), *(("write",) if writes else ()), *(_special(request.attributes) if writes else ()))
    how = f" {told(request.attributes).strip()}" if flags & m.FLAG_CREATE and told(request.attributes) else ""
    text = f"sftp open {{}} to {' and '.join(verb for verb in verbs[:2] if verb != 'setattr')}{_how(flags)}{how}"
    (place,) = yield from _settle([Want(request.path, verbs)], home, text)
    opened = Opened(b"", place.path, place.resolved, reads, writes)
    return (yield from _opening(request, place, opened))


def _how(flags: int) -> str:
    words = [word for bit, word in ((m.FLAG_APPEND, "append"), (m.FLAG_CREATE, "create"), (m.FLAG_TRUNCATE, "truncate"),
                                    (m.FLAG_EXCLUSIVE, "exclusive")) if flags & bit]
    return f" ({', '.join(words)})" if words else ""


def _opendir(request: m.Opendir, home: str) -> Plan:
    (place,) = yield from _settle([Want(request.path, ("list",))], home, "sftp list {}")
    return (yield from _opening(request, place, Opened(b"", place.path, place.resolved, directory=True)))


def _opening(request: Any, place: Place, opened: Opened) -> Plan:
    outcome = yield from _forward(request, place)
    if not isinstance(outcome.answer, m.Handle):
        return outcome
    again = yield Ask(m.Realpath(place.resolved.encode()))
    if isinstance(again, m.Status) or one_path(again) != place.resolved:
        yield Ask(m.Close(outcome.answer.handle))
        raise Refused(f"what {shown(place.path)} leads to changed while it was opened")
    opened.theirs = outcome.answer.handle
    return Outcome(outcome.answer, opened)


_PLANS: Mapping[type[Any], Callable[[Any, str], Plan]] = {
    m.Open: _open, m.Opendir: _opendir, m.Stat: _simple("stat", True), m.Lstat: _simple("stat", False),
    m.Readlink: _simple("stat", False), m.Statvfs: _simple("stat", True), m.Remove: _simple("remove", False),
    m.Rmdir: _simple("remove", False), m.Mkdir: _mkdir, m.Setstat: _attributes(True), m.Lsetstat: _attributes(False),
    m.Rename: _rename, m.PosixRename: _rename, m.Hardlink: _hardlink, m.Symlink: _symlink,
}


# --- requests on handles ---


def set_attributes(request: m.Fsetstat, opened: Opened) -> Plan:
    """FSETSTAT: a new size needs a file opened to be written, all else is setattr of its path."""
    verbs = verbs_of(request.attributes)
    if "write" in verbs and not opened.writes:
        raise Refused(f"{shown(opened.path)} was not opened to be written")
    if "setattr" in verbs:
        yield Decide(file_request("setattr", opened.path, resolved=opened.resolved),
                     f"sftp fsetstat {opened.path}{told(request.attributes)}")
    return Outcome((yield Ask(replace(request, handle=opened.theirs))))


def copy_data(request: m.CopyData, source: Opened, destination: Opened) -> Plan:
    """copy-data: bytes that pass neither way through the gateway are a command of their own."""
    for opened, may, how in ((source, source.reads, "read"), (destination, destination.writes, "written")):
        if not may or opened.directory:
            raise Refused(f"{shown(opened.path)} was not opened to be {how}")
    operations = (*file_request("read", source.path, resolved=source.resolved),
                  *file_request("write", destination.path, resolved=destination.resolved))
    yield Decide(operations, f"sftp copy-data {source.path} {destination.path}")
    return Outcome((yield Ask(replace(request, source=source.theirs, destination=destination.theirs))))


# --- the beginning ---


def offered(extensions: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """What the caller is told of the target's extensions: those that are understood, in the version that is."""
    return {name: version for name, version in extensions.items() if m.EXTENSIONS.get(name) == version}


def changes(request: m.Message) -> bool:
    """Whether a request may change what lies at its paths."""
    if isinstance(request, m.Open):
        return bool(request.flags & ~m.FLAG_READ)
    return not isinstance(request, m.Opendir | m.Stat | m.Lstat | m.Readlink | m.Statvfs)
