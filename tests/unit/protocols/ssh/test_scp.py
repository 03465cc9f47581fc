# SPDX-License-Identifier: Apache-2.0
"""scp's own protocol under policy: each file decided once it is named; what is not the protocol ends it (T50)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ClientFault, Fault, Refused, TargetFault
from gateway.protocols.ssh.files import FileLimits
from gateway.protocols.ssh.rsync import located, serve_rsync
from gateway.protocols.ssh.scp import ScpReader, parse_line
from gateway.protocols.ssh.scp_proxy import serve_scp
from gateway.protocols.ssh.sftp.questions import Questions
from gateway.protocols.ssh.understand import exec_request
from tests.unit.protocols.ssh.sftp.desk import FakeDesk, MemoryPipe, everything
from tests.unit.protocols.ssh.sftp.target import HOME, FakeTarget, TargetPipe

AREA = "/srv/app"
SECRET = b"correct horse battery staple"


class Copying:
    """One scp between a caller and a target that the test plays, over a target whose paths are known."""

    def __init__(self, command: str, desk: FakeDesk, server: FakeTarget | None = None) -> None:
        self.understood = exec_request(command, pty=False)
        assert self.understood.files is not None
        self.access = self.understood.files
        self.desk = desk
        self.server = server or FakeTarget({f"{AREA}/a": b"content"}, {f"{AREA}/out": "/etc", f"{AREA}/link": "/etc/shadow"})
        self.caller, self.target, self.channel = MemoryPipe(), MemoryPipe(), TargetPipe()
        self.operations: Any = ()

    async def __aenter__(self) -> Copying:
        self._answering = asyncio.create_task(self.server.serve(self.channel))
        questions = Questions(self.channel)
        await questions.begin()
        self.operations = await located(self.access, self.understood.operations, questions)
        self.serving = asyncio.create_task(serve_scp(self.access, self.caller, self.target, self.desk, FileLimits(content=5), questions))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in (self.serving, self._answering):
            task.cancel()
        await asyncio.gather(self.serving, self._answering, return_exceptions=True)

    async def moves(self, giver: MemoryPipe, data: bytes, taker: MemoryPipe, expected: bytes) -> None:
        """``giver`` sends; then ``taker`` has got this, and nothing else."""
        taker.taken.clear()
        giver.give(data)
        await taker.until(lambda: len(taker.taken) >= len(expected) or self.serving.done())
        assert bytes(taker.taken) == expected

    async def refuses(self, giver: MemoryPipe, data: bytes, other: MemoryPipe) -> str:
        """``giver`` hears an error in place of an answer, and the other side nothing that could be a file."""
        giver.taken.clear()
        other.taken.clear()
        giver.give(data)
        await giver.until(lambda: giver.taken.endswith(b"\n"))
        assert giver.taken.startswith(b"\1lockgate: denied: ")
        if giver is self.target:
            await other.until(lambda: other.taken.endswith(b"\n"))            # the caller hears of it too
        assert b"C0" not in other.taken
        return giver.taken.decode()


def desk(**more: Any) -> FakeDesk:
    return FakeDesk([everything(f"{AREA}/**", f"{HOME}/**")], **more)


async def test_a_file_is_sent_decided_and_recorded() -> None:
    rules = desk()
    async with Copying(f"scp -p -t {AREA}/new", rules) as say:
        await say.moves(say.target, b"\0", say.caller, b"\0")
        await say.moves(say.caller, b"T1700000000 0 1700000000 0\n", say.caller, b"\0")
        await say.moves(say.caller, b"C0644 7 local\n", say.target, b"T1700000000 0 1700000000 0\n")
        await say.moves(say.target, b"\0", say.target, b"C0644 7 local\n")
        await say.moves(say.target, b"\0", say.caller, b"\0")
        await say.moves(say.caller, b"con", say.target, b"con")
        await say.moves(say.caller, b"tent\0", say.target, b"tent\0")
        await say.moves(say.target, b"\0", say.caller, b"\0")
        say.caller.give(b"")
        assert await say.serving == 0
    assert {(one.verb, one.attributes["path"]) for one in rules.asked[0][1]} == {("write", f"{AREA}/new"), ("setattr", f"{AREA}/new")}
    (run,) = rules.runs
    assert run.ended is not None
    assert (run.ended["status"], run.ended["path"], run.ended["size"], run.ended["direction"], run.ended["recording"]) == (
        "ok", f"{AREA}/new", 7, "sent", b"conte")


async def test_into_a_directory_each_name_is_decided_t50() -> None:
    rules = FakeDesk([everything(f"{AREA}/**"), ("deny", {"actions": ["write"], "paths": [f"{AREA}/b"]})])
    async with Copying(f"scp -r -t {AREA}", rules) as say:
        await say.moves(say.target, b"\0", say.caller, b"\0")
        for name in ("../x", "/etc/passwd", "..", "a/b", "b", "link", "a\x07b", "\u202egpj"):
            await say.refuses(say.caller, f"C0644 3 {name}\n".encode(), say.target)
        await say.refuses(say.caller, b"D0755 0 out\n", say.target)
        await say.refuses(say.caller, b"C0644 3 \xff\n", say.target)
        await say.moves(say.caller, b"D0755 0 new\n", say.target, b"D0755 0 new\n")
        await say.moves(say.target, b"\0", say.caller, b"\0")
        await say.moves(say.caller, b"C0644 0 c\n", say.target, b"C0644 0 c\n")
        await say.moves(say.target, b"\0", say.caller, b"\0")
        await say.moves(say.caller, b"\0", say.target, b"\0")
        await say.moves(say.target, b"\0", say.caller, b"\0")
        await say.moves(say.caller, b"E\n", say.target, b"E\n")
        await say.moves(say.target, b"\0", say.caller, b"\0")
        say.caller.give(b"")
        assert await say.serving == 1
    assert [(run.text, run.ended and run.ended["status"]) for run in rules.runs] == [
        (f"scp mkdir {AREA}/new", "ok"), (f"scp write {AREA}/new/c", "ok")]
    assert len(rules.refusals) == 10


@pytest.mark.parametrize("line", [b"X0644 3 a\n", b"C644 3 a\n", b"C0644 -1 a\n", b"C0644 3\n", b"E\n", b"C0644 99999999999999999999 a\n",
                                  b"Tx\n", b"\0\n", b"C0644 3 " + b"a" * 5000])
async def test_what_is_not_scp_ends_it_t50(line: bytes) -> None:
    rules = desk()
    async with Copying(f"scp -t {AREA}/new", rules) as say:
        await say.moves(say.target, b"\0", say.caller, b"\0")
        say.caller.give(line)
        with pytest.raises(ClientFault):
            await say.serving
        assert say.target.taken == b""


async def test_a_newline_in_a_name_is_no_second_command_t50() -> None:
    rules = desk()
    async with Copying(f"scp -t {AREA}", rules) as say:
        await say.moves(say.target, b"\0", say.caller, b"\0")
        await say.moves(say.caller, b"C0644 4 a\nC0777 9 b\n", say.target, b"C0644 4 a\n")
        await say.moves(say.target, b"\0", say.target, b"C077")        # the file's bytes, and no status after them
        with pytest.raises(ClientFault):
            await say.serving


async def test_a_file_is_received_and_others_are_the_targets_fault() -> None:
    rules = desk()
    async with Copying(f"scp -f {AREA}/a", rules) as say:
        await say.moves(say.caller, b"\0", say.target, b"\0")
        await say.moves(say.target, b"C0644 7 a\n", say.caller, b"C0644 7 a\n")
        await say.moves(say.caller, b"\0", say.target, b"\0")
        await say.moves(say.target, b"content\0", say.caller, b"content\0")
        await say.moves(say.caller, b"\0", say.target, b"\0")
        say.target.give(b"C0644 3 .bashrc\n")
        with pytest.raises(TargetFault, match="not asked for"):
            await say.serving
    assert rules.ends() == [(f"scp read {AREA}/a", "ok")]


async def test_a_tree_is_received_without_what_is_denied() -> None:
    rules = FakeDesk([everything(f"{AREA}/**"), ("deny", {"actions": ["read"], "paths": [f"{AREA}/key"]})])
    server = FakeTarget({f"{AREA}/a": b"1", f"{AREA}/key": b"2"}, {f"{AREA}/link": "/etc/shadow"})
    async with Copying(f"scp -r -f {AREA}", rules, server) as say:
        await say.moves(say.caller, b"\0", say.target, b"\0")
        await say.moves(say.target, b"D0755 0 app\n", say.caller, b"D0755 0 app\n")
        await say.moves(say.caller, b"\0", say.target, b"\0")
        assert "rule allows read of /srv/app/key" in await say.refuses(say.target, b"C0600 1 key\n", say.caller)
        assert "/etc/shadow" in await say.refuses(say.target, b"C0600 1 link\n", say.caller)
        await say.moves(say.target, b"\1scp: gone\n", say.caller, b"\1scp: gone\n")
        await say.moves(say.target, b"E\n", say.caller, b"E\n")
        await say.moves(say.caller, b"\0", say.target, b"\0")
        say.target.give(b"")
        assert await say.serving == 1


async def test_a_secret_in_a_received_file_ends_it() -> None:
    rules = desk(secrets=[SECRET])
    async with Copying(f"scp -f {AREA}/a", rules) as say:
        await say.moves(say.caller, b"\0", say.target, b"\0")
        size = 100 + len(SECRET)
        await say.moves(say.target, f"C0644 {size} a\n".encode(), say.caller, f"C0644 {size} a\n".encode())
        say.caller.give(b"\0")
        say.caller.taken.clear()
        for at in range(0, size, 5):
            say.target.give((b"x" * 100 + SECRET)[at:at + 5])
        with pytest.raises(Refused, match="masked"):
            await say.serving
        assert set(say.caller.taken) <= set(b"x")
    assert rules.runs[0].ended is not None
    assert (rules.runs[0].ended["status"], rules.runs[0].ended["error"]) == ("refused", "masked")


async def test_the_beginning_is_decided_on_the_paths_that_the_target_knows() -> None:
    async with Copying("scp -f own out/shadow", desk(), FakeTarget({f"{HOME}/own": b"1"}, {f"{HOME}/out": "/etc"})) as say:
        found = [(one.verb, one.attributes["path"]) for one in say.operations]
    assert found == [("stat", f"{HOME}/own"), ("stat", f"{HOME}/out/shadow"), ("stat", "/etc/shadow")]
    async with Copying("scp -t .", desk()) as say:
        assert [(one.verb, one.attributes["path"], one.attributes["free"]) for one in say.operations] == [("stat", HOME, True)]


async def test_rsync_is_decided_with_what_is_below_and_relayed() -> None:
    understood = exec_request(f"rsync --server -logDtpre.iLsfxCIvu --delete . {AREA}/link/", pty=False)
    assert understood.files is not None
    server, channel = FakeTarget({f"{AREA}/x/a": b""}, {f"{AREA}/link": "/etc"}), TargetPipe()
    answering = asyncio.create_task(server.serve(channel))
    questions = Questions(channel)
    await questions.begin()
    operations = await located(understood.files, understood.operations, questions)
    answering.cancel()
    assert {"write", "mkdir", "setattr", "symlink", "remove"} <= {one.verb for one in operations}
    assert {one.attributes["path"] for one in operations} == {f"{AREA}/link", "/etc"}
    assert all(one.attributes["tree"] for one in operations)
    rules, caller, target = desk(), MemoryPipe(), MemoryPipe()
    running = await rules.run(await _own(understood, f"{AREA}/x"), "rsync")
    relaying = asyncio.create_task(serve_rsync(understood.files, caller, target, rules, running))
    caller.give(b"\x1f\0\0\0" + b"\0\0\0\0" + b"up")
    await target.until(lambda: bytes(target.taken) == b"\x1f\0\0\0")       # the rest once the target's flags say how it is to be read
    target.give(b"\x1f\0\0\0" + b"\x10")
    await target.until(lambda: bytes(target.taken).endswith(b"up"))
    await caller.until(lambda: bytes(caller.taken) == b"\x1f\0\0\0\x10")
    target.give(b"")
    await relaying
    assert running.ended["size"] == 10
    assert (running.ended["status"], running.ended["direction"], running.ended["bytes"]) == ("ok", "sent", 5)


async def test_a_filter_rule_that_reads_a_file_ends_rsync_t50() -> None:
    understood = exec_request(f"rsync --server --sender -re.iLsfxCIvu . {AREA}/x", pty=False)
    assert understood.files is not None
    rules, caller, target = desk(), MemoryPipe(), MemoryPipe()
    running = await rules.run(understood.operations, "rsync")
    relaying = asyncio.create_task(serve_rsync(understood.files, caller, target, rules, running))
    target.give(b"\x1f\0\0\0\x10")
    caller.give(b"\x1f\0\0\0" + len(b". /etc/shadow").to_bytes(4, "little") + b". /etc/shadow" + b"\0\0\0\0")
    with pytest.raises(Refused, match="filter rule"):
        await relaying
    assert bytes(target.taken) == b"\x1f\0\0\0"
    assert running.ended["status"] == "refused"


async def _own(understood: Any, path: str) -> Any:
    return tuple(type(one)(one.protocol, one.verb, (path,), {**one.attributes, "path": path}) for one in understood.operations)


async def test_rsync_that_reads_a_secret_ends() -> None:
    understood = exec_request(f"rsync --server --sender -logDtpre.iLsfxCIvu . {AREA}/x", pty=False)
    assert understood.files is not None
    rules, caller, target = desk(secrets=[SECRET]), MemoryPipe(), MemoryPipe()
    running = await rules.run(understood.operations, "rsync")
    relaying = asyncio.create_task(serve_rsync(understood.files, caller, target, rules, running))
    target.give(b"abc" + SECRET[:9])
    await caller.until(lambda: caller.taken.startswith(b"abc"))
    target.give(SECRET[9:])
    with pytest.raises(Refused):
        await relaying
    assert SECRET[5:9] not in caller.taken
    assert running.ended["status"] == "refused"


@given(st.binary(max_size=80))
def test_any_line_is_one_or_a_fault(body: bytes) -> None:
    raw = body.replace(b"\n", b"") + b"\n"
    try:
        line = parse_line(raw, ClientFault)
    except Fault:
        return
    assert line.raw == raw
    assert "/" not in line.name
    assert line.name != ".."


@given(st.lists(st.binary(min_size=1, max_size=9), max_size=20))
def test_lines_survive_any_split(pieces: list[bytes]) -> None:
    reader, found = ScpReader(ClientFault), b""
    for piece in pieces:
        reader.feed(piece)
        while (line := reader.line()) is not None:
            assert line.index(b"\n") == len(line) - 1
            found += line
    assert found + reader.take(reader.pending) == b"".join(pieces)
