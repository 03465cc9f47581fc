# SPDX-License-Identifier: Apache-2.0
"""SFTP and scp: packets of both sides, and the plans of requests under whatever a target answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from gateway.errors import ClientFault, Fault, Refused, TargetFault
from gateway.model import Decision
from gateway.protocols.ssh.scp import ScpReader, parse_line
from gateway.protocols.ssh.sftp import machine
from gateway.protocols.ssh.sftp import messages as m
from gateway.protocols.ssh.sftp.codec import U32, PacketReader, string

_HANDLE = b"\0\0\0\1"
_REQUESTS: tuple[m.Message, ...] = (
    m.Open(b"a/../b", m.FLAG_READ | m.FLAG_WRITE | m.FLAG_CREATE, m.Attributes(permissions=0o4755)), m.Read(_HANDLE, 0, 32768),
    m.Write(_HANDLE, 5, b"data"), m.Opendir(b"/srv"), m.Stat(b"../../etc"), m.Lstat(b"x"), m.Remove(b"/a//b/"), m.Mkdir(b"d"),
    m.Setstat(b"f", m.Attributes(1, (0, 0), 0o644, (1, 2))), m.Lsetstat(b"f"), m.Rename(b"a", b"b"), m.PosixRename(b"a", b"/b"),
    m.Hardlink(b"a", b"b"), m.Symlink(b"../a/b", b"c/d"), m.Statvfs(b"/"), m.Readlink(b"l"), m.Realpath(b"."), m.Limits(), m.Close(_HANDLE),
    m.CopyData(_HANDLE, 0, 0, _HANDLE, 1))
_ANSWERS: tuple[tuple[type[m.Message], m.Message], ...] = (
    (m.Open, m.Handle(_HANDLE)), (m.Read, m.Data(b"abc")), (m.Stat, m.Found(m.Attributes(1, (0, 0), 0o644, (1, 2)))),
    (m.Readdir, m.Names((m.Entry(b"a", b"-rw a", m.Attributes(2)), m.Entry(b"b", b"")))), (m.Limits, m.Reply(bytes(32))),
    (m.Close, m.Status(m.PERMISSION_DENIED, b"no", b"en")))
_ASKED = (m.Open, m.Read, m.Stat, m.Readdir, m.Realpath, m.Limits, m.Statvfs, m.Close)


# --- packets: the first byte says where to cut, or what was asked; what is understood is written as it came ---


def requests(data: bytes) -> None:
    if not data:
        return
    step, stream = data[0] % 17 + 1, data[1:]
    assert _requests(stream, len(stream) or 1) == _requests(stream, step)


def _requests(stream: bytes, step: int) -> tuple[list[tuple[int, m.Message]], bool]:
    reader, found = PacketReader(ClientFault), []
    try:
        for at in range(0, len(stream), step):
            reader.feed(stream[at:at + step])
            while (place := reader.next()) is not None:
                number, request = m.parse_request(*place)
                if not isinstance(request, m.Unknown):
                    again = m.encode_request(number, request)
                    assert m.parse_request(again, 0, len(again)) == (number, request)
                found.append((number, request))
    except ClientFault:
        return found, True
    return found, False


def request_seeds() -> Iterable[bytes]:
    for number, request in enumerate(_REQUESTS):
        yield bytes((number,)) + m.encode_request(number, request)
    yield b"\3" + b"".join(m.encode_request(7, request) for request in _REQUESTS)


def answers(data: bytes) -> None:
    if len(data) < 10:
        return
    asked, body = _ASKED[data[0] % len(_ASKED)], data[1:]
    packet = U32.pack(len(body)) + body
    try:
        answer = m.parse_answer(asked, packet, 0, len(packet))
    except TargetFault:
        return
    again = m.encode_answer(5, answer)
    assert m.parse_answer(asked, again, 0, len(again)) == answer


def answer_seeds() -> Iterable[bytes]:
    for asked, answer in _ANSWERS:
        yield bytes((_ASKED.index(asked),)) + m.encode_answer(5, answer)[4:]


# --- plans: nothing that has an effect before the decision, and then on the paths that were decided ---


class _Running:
    decision = Decision("approve")


def plans(data: bytes) -> None:
    """The first two bytes choose the request and what is decided, the others are paths and answers."""
    if len(data) < 3:
        return
    request: Any = _REQUESTS[data[0] % len(_REQUESTS)]
    if not machine.on_path(request):
        return
    text = iter(data[2:])
    if isinstance(request, m.TwoPaths):
        request = type(request)(_path(text), _path(text))
    elif data[1] & 1:
        request = type(request)(_path(text), *([request.flags] if isinstance(request, m.Open) else []))
    plan, decided = machine.plan(request, "/home/x"), None
    try:
        step = plan.send(None)
        for _ in range(100):
            if isinstance(step, machine.Decide):
                assert decided is None
                assert step.operations
                decided = {str(one.attributes["path"]) for one in step.operations}
                step = plan.send(_Running())
                continue
            if not isinstance(step.request, m.Realpath | m.Lstat):
                assert decided is not None
                _assert_decided(step.request, decided)
            step = plan.send(_answer(step.request, text))
        raise AssertionError("a plan without end")
    except StopIteration:
        assert decided is not None
    except (Refused, TargetFault):
        pass


def _assert_decided(request: Any, decided: set[str]) -> None:
    paths = [request.old, request.new] if isinstance(request, m.TwoPaths) else [getattr(request, "path", b"")]
    for path in paths[isinstance(request, m.Symlink):]:
        assert path == b"" or path.decode() in decided, (request, decided)


def _path(text: Iterator[int]) -> bytes:
    return bytes(byte for byte, _ in zip(text, range(next(text, 0) % 24), strict=False))


def _answer(request: m.Message, text: Iterator[int]) -> m.Message:
    choice = next(text, 0)
    if choice % 4 == 0:
        return m.Status(m.NO_SUCH_FILE if choice & 4 else m.FAILURE)
    if isinstance(request, m.Realpath):
        return m.Names((m.Entry(b"/" + _path(text) if choice & 8 else request.path, b""),) * (choice % 4 if choice & 64 else 1))
    if isinstance(request, m.Lstat | m.Stat):
        return m.Found(m.Attributes(permissions=choice << 8 if choice & 2 else None))
    return m.Handle(_HANDLE) if isinstance(request, m.Open | m.Opendir) else m.Status(m.OK)


def plan_seeds() -> Iterable[bytes]:
    for number in range(len(_REQUESTS)):
        yield bytes((number, 1)) + b"\7/srv/ap" + b"\4../x" + bytes((1, 1, 1, 1, 2, 1))
        yield bytes((number, 0)) + bytes((4, 0, 9, 5)) + b"link/" + bytes((4, 1, 2, 1))


# --- scp: lines, whatever they hold ---


def scp(data: bytes) -> None:
    if not data:
        return
    reader = ScpReader(ClientFault)
    try:
        for at in range(1, len(data), data[0] % 17 + 1):
            reader.feed(data[at:at + data[0] % 17 + 1])
            while (raw := reader.line()) is not None:
                _scp_line(raw)
    except Fault:
        return


def _scp_line(raw: bytes) -> None:
    try:
        line = parse_line(raw, ClientFault)
    except Refused:
        return
    assert line.raw == raw
    assert "/" not in line.name
    assert line.name != ".."
    assert line.name.isprintable()


def scp_seeds() -> Iterable[bytes]:
    yield b"\3T1700000000 0 1700000000 0\nC0644 7 name\nD0755 0 dir\nE\n\1scp: gone\n"
    yield b"\5C0644 3 ../x\nC0777 9 a b\n"
    yield b"\0" + string(b"C0644")
