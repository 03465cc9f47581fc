# SPDX-License-Identifier: Apache-2.0
"""SFTP under policy, without sockets: what is decided, what goes to the target, what the caller hears, what is recorded (T50)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gateway.errors import ClientFault, SessionOver, TargetFault
from gateway.protocols.ssh.files import FileLimits
from gateway.protocols.ssh.sftp import messages as m
from gateway.protocols.ssh.sftp.codec import U32, U64, string
from tests.unit.protocols.ssh.sftp.desk import FakeDesk, everything
from tests.unit.protocols.ssh.sftp.target import HOME, Conversation, FakeTarget

AREA = "/srv/app"
SECRET = b"correct horse battery staple"
Test = Callable[[], Coroutine[Any, Any, None]]


def desk(**more: Any) -> FakeDesk:
    return FakeDesk([everything(f"{AREA}/**", f"{HOME}/**")], **more)


def target(**links: str) -> FakeTarget:
    return FakeTarget({f"{AREA}/a": b"content", "/etc/shadow": b"root:x", f"{HOME}/own": b"mine"}, dict(links))


def kinds(server: FakeTarget) -> list[type[m.Message]]:
    return [type(request) for request in server.seen]


def effects(server: FakeTarget) -> list[m.Message]:
    """What the target was asked to do, but for questions."""
    return [request for request in server.seen if not isinstance(request, m.Realpath | m.Lstat | m.Stat)]


async def test_a_file_is_read_and_recorded() -> None:
    rules, server = desk(), target()
    async with Conversation(rules, server, FileLimits(content=4)) as say:
        handle = (await say(m.Open(f"{AREA}/a".encode(), m.FLAG_READ))).handle
        assert (await say(m.Read(handle, 0, 4))).data == b"cont"
        assert (await say(m.Read(handle, 4, 100))).data == b"ent"
        assert (await say(m.Read(handle, 7, 100))).code == m.EOF
        assert (await say(m.Close(handle))).code == m.OK
    (run,) = rules.runs
    assert run.text == f"sftp open {AREA}/a to read"
    assert run.ended is not None
    assert run.ended["sha256"] == "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"
    assert (run.ended["status"], run.ended["bytes"], run.ended["size"], run.ended["direction"], run.ended["sequential"],
            run.ended["recording"]) == ("ok", 7, 7, "received", True, b"cont")


async def test_relative_paths_begin_at_home_and_what_is_forwarded_is_what_was_decided() -> None:
    rules, server = desk(), target(**{"/srv/app/current": "/srv/app/r1", "/srv/link": AREA})
    async with Conversation(rules, server) as say:
        await say(m.Open(b"./x/../own", m.FLAG_READ))
        assert server.seen[-2] == m.Open(f"{HOME}/own".encode(), m.FLAG_READ)
        await say(m.Mkdir(b"/srv/app/current/new"))
        assert server.seen[-1] == m.Mkdir(b"/srv/app/r1/new")
        assert await say.denied(m.Mkdir(b"/srv/link/new")) == "no rule allows mkdir of /srv/link/new; ask: lockgate explain"
    assert [sorted(str(one.attributes["path"]) for one in operations) for _, operations in rules.asked] == [
        [f"{HOME}/own"], ["/srv/app/current/new", "/srv/app/r1/new"], ["/srv/app/new", "/srv/link/new"]]


@pytest.mark.parametrize("path", ["/etc/shadow", "/srv/app/../../etc/shadow", "../../etc/shadow", "/srv/app/link", "/srv/app/dir/shadow",
                                  "/srv/application", "//etc//shadow", "/srv/app/./../../etc/shadow/"])
@pytest.mark.parametrize("make", [
    lambda path: m.Open(path, m.FLAG_READ), lambda path: m.Open(path, m.FLAG_WRITE | m.FLAG_CREATE | m.FLAG_TRUNCATE), m.Opendir, m.Stat,
    lambda path: m.Setstat(path, m.Attributes(permissions=0o777)), m.Statvfs, lambda path: m.Hardlink(path, b"/srv/app/new"),
    lambda path: m.Symlink(path, b"/srv/app/new")])
async def test_no_way_out_by_path_or_link_t50(path: str, make: Callable[[bytes], m.Message]) -> None:
    rules, server = desk(), target(**{"/srv/app/link": "/etc/shadow", "/srv/app/dir": "/etc"})
    async with Conversation(rules, server) as say:
        told = await say.denied(make(path.encode()))
        assert "no rule allows" in told or "cannot be told from its text" in told
    assert effects(server) == []
    assert len(rules.refusals) == 1


@pytest.mark.parametrize("make", [m.Remove, m.Rmdir, m.Lstat, m.Readlink, m.Mkdir, lambda path: m.Rename(path, b"/srv/app/new"),
                                  lambda path: m.PosixRename(b"/srv/app/a", path), lambda path: m.Symlink(b"a", path),
                                  lambda path: m.Hardlink(b"/srv/app/a", path), m.Lsetstat])
async def test_links_in_the_directories_of_what_is_not_followed_t50(make: Callable[[bytes], m.Message]) -> None:
    rules, server = desk(), target(**{"/srv/app/link": "/etc/shadow", "/srv/app/dir": "/etc"})
    async with Conversation(rules, server) as say:
        assert "no rule allows" in await say.denied(make(b"/srv/app/dir/shadow"))
        assert effects(server) == []
        answer = await say(make(b"/srv/app/link"))            # itself, not what it leads to
        assert getattr(answer, "code", m.OK) == m.OK
    assert not any("/etc" in str(getattr(request, "path", b"")) for request in effects(server))


async def test_symlinks_lead_only_where_reading_and_writing_is_allowed_t50() -> None:
    rules, server = desk(), target(**{"/srv/app/out": "/etc"})
    async with Conversation(rules, server) as say:
        for leads in (b"/etc/shadow", b"../../etc/shadow", b"out/shadow", b"/srv/app/out/../shadow"):
            await say.denied(m.Symlink(leads, b"/srv/app/link"))
        assert effects(server) == []
        assert (await say(m.Symlink(b"releases/1", b"/srv/app/link"))).code == m.OK
        assert server.seen[-1] == m.Symlink(b"releases/1", b"/srv/app/link")
    verbs = {(one.verb, one.attributes["path"]) for one in rules.asked[-1][1]}
    assert verbs == {("symlink", "/srv/app/link"), ("read", "/srv/app/releases/1"), ("write", "/srv/app/releases/1")}


async def test_rename_over_and_out_of_a_directory_t50() -> None:
    rules = FakeDesk([everything(f"{AREA}/**"), ("deny", {"actions": ["read", "rename"], "paths": [f"{AREA}/keys/**"]})])
    server = target()
    server.files[f"{AREA}/keys/one"] = b"k"
    async with Conversation(rules, server) as say:
        for request in (m.Rename, m.PosixRename):
            await say.denied(request(f"{AREA}/a".encode(), b"/etc/passwd"))
            await say.denied(request(b"/etc/passwd", f"{AREA}/a".encode()))
            await say.denied(request(f"{AREA}/a".encode(), f"{AREA}/keys/one".encode()))
            await say.denied(request(AREA.encode(), b"/srv/app/b"))           # would take keys along
        assert effects(server) == []
        assert (await say(m.Rename(f"{AREA}/a".encode(), f"{AREA}/b".encode()))).code == m.OK


async def test_extended_requests_are_known_or_refused_t50() -> None:
    rules, server = desk(), target()
    async with Conversation(rules, server) as say:
        assert set(say.extensions) == set(m.EXTENSIONS)
        for name in (b"users-groups-by-id@openssh.com", b"home-directory", b"secret-door@example", b"posix-rename@openssh.org"):
            answer = await say.answer(say.send_raw(m.EXTENDED, string(name) + string(b"/etc/shadow")))
            assert answer.code == m.OP_UNSUPPORTED
        assert (await say.answer(say.send_raw(42, b""))).code == m.OP_UNSUPPORTED
        assert effects(server) == []
        for request in (m.Statvfs(b"/etc"), m.Lsetstat(b"/etc/x"), m.Hardlink(b"/etc/shadow", b"/srv/app/x")):
            await say.denied(request)
        assert effects(server) == []
        limits = await say(m.Limits())
        assert [U64.unpack_from(limits.body, 8 * place)[0] for place in range(4)] == [262144, 261120, 261120, 128]
    assert len(rules.refusals) == 8


async def test_copy_data_needs_both_files_t50() -> None:
    rules = FakeDesk([("allow", {"actions": ["read"], "paths": ["/srv/app/a"]}),
                      ("allow", {"actions": ["write"], "paths": ["/srv/app/b"]})])
    server = target()
    async with Conversation(rules, server) as say:
        a = (await say(m.Open(b"/srv/app/a", m.FLAG_READ))).handle
        b = (await say(m.Open(b"/srv/app/b", m.FLAG_WRITE | m.FLAG_CREATE))).handle
        await say.denied(m.CopyData(b, 0, 0, a, 0))
        assert (await say(m.CopyData(a, 0, 0, b, 0))).code == m.OK
        assert isinstance(server.seen[-1], m.CopyData)
        assert (await say(m.CopyData(a, 0, 0, b"nope", 0))).code == m.FAILURE
    assert rules.runs[-1].text == "sftp copy-data /srv/app/a /srv/app/b"


async def test_handles_are_the_gateways_own_and_die_with_close_and_deny_t50() -> None:
    rules, server = desk(), target()
    async with Conversation(rules, server) as say:
        first = (await say(m.Open(f"{AREA}/a".encode(), m.FLAG_READ))).handle
        await say(m.Close(first))
        second = (await say(m.Open(f"{AREA}/a".encode(), m.FLAG_READ))).handle
        assert first != second
        before = len(server.seen)
        for handle in (first, b"\0\0\0\x09", b"", b"x" * 256):
            assert (await say(m.Read(handle, 0, 10))).code == m.FAILURE
            assert (await say(m.Fstat(handle))).code == m.FAILURE
            assert (await say(m.Close(handle))).code == m.FAILURE
        assert len(server.seen) == before
        rules.stopped.add(2)
        assert "policy changed" in await say.denied(m.Read(second, 0, 10))
        rules.stopped.clear()
        for request in (m.Read(second, 0, 10), m.Fstat(second), m.Fsetstat(second, m.Attributes(permissions=0))):
            assert "policy changed" in await say.denied(request)
        assert kinds(server)[before:] == [m.Close]
        assert (await say(m.Close(second))).code == m.OK
        assert (await say(m.Read(second, 0, 10))).code == m.FAILURE
    assert [status for _, status in rules.ends()] == ["ok", "refused"]


@pytest.mark.parametrize(("flags", "verbs"), [
    (m.FLAG_READ, {"read"}), (m.FLAG_WRITE, {"write"}), (m.FLAG_READ | m.FLAG_WRITE, {"read", "write"}), (0, {"read"}),
    (m.FLAG_READ | m.FLAG_CREATE, {"read", "write"}), (m.FLAG_READ | m.FLAG_TRUNCATE, {"read", "write"}),
    (m.FLAG_APPEND, {"read", "write"}), (m.FLAG_WRITE | m.FLAG_APPEND | m.FLAG_CREATE | m.FLAG_EXCLUSIVE, {"write"})])
async def test_flags_say_what_is_decided(flags: int, verbs: set[str]) -> None:
    rules, server = desk(), target()
    async with Conversation(rules, server) as say:
        handle = (await say(m.Open(f"{AREA}/a".encode(), flags))).handle
        assert {one.verb for one in rules.asked[0][1]} == verbs
        if "write" not in verbs:
            await say.denied(m.Write(handle, 0, b"x"))
            await say.denied(m.Fsetstat(handle, m.Attributes(size=0)))
        if "read" not in verbs:
            await say.denied(m.Read(handle, 0, 1))
        assert not {m.Write, m.Read} & set(kinds(server)) or verbs == {"read", "write"}


async def test_odd_opens_are_refused() -> None:
    rules, server = desk(), target()
    async with Conversation(rules, server) as say:
        await say.denied(m.Open(f"{AREA}/a".encode(), 0x40 | m.FLAG_READ))
        for path in (b"/srv/app/a\n", b"/srv/app/\xff", b"/srv/app/\x1b[2J", b"/srv/app/a\0b", "/srv/app/\u202egpj".encode()):
            assert "cannot be decided" in await say.denied(m.Open(path, m.FLAG_READ))
        await say(m.Open(f"{AREA}/new".encode(), m.FLAG_WRITE | m.FLAG_CREATE, m.Attributes(permissions=0o4755)))
        assert {one.verb for one in rules.asked[-1][1]} == {"write", "setattr"}
    assert len(rules.refusals) == 6
    assert [type(request) for request in effects(server)] == [m.Open]


async def test_a_link_exchanged_while_it_is_opened_is_noticed() -> None:
    rules, server = desk(), target()

    def swap(request: m.Open) -> None:
        server.links[request.path.decode()] = "/etc/shadow"

    server.lies[m.Open] = swap
    async with Conversation(rules, server) as say:
        assert "changed while it was opened" in await say.denied(m.Open(f"{AREA}/a".encode(), m.FLAG_READ))
        assert kinds(server)[-1] is m.Close
    assert rules.ends() == [(f"sftp open {AREA}/a to read", "refused")]


async def test_parallel_writes_and_reused_ids_t50() -> None:
    rules, server = desk(), target()
    async with Conversation(rules, server) as say:
        handle = (await say(m.Open(f"{AREA}/new".encode(), m.FLAG_WRITE | m.FLAG_CREATE))).handle
        for place in (3, 1, 2, 0):
            say.send(m.Write(handle, place * 2, str(place).encode() * 2), number=5)
        close = say.send(m.Close(handle), number=5)
        await say.caller.until(lambda: len(say.caller.taken) - say._at >= 5 * 24)
        assert close == 5
        data = bytes(say.caller.taken)[say._at:]
        assert data == m.encode_answer(5, m.Status(m.OK, b"Success")) * 5
        say._at = len(say.caller.taken)
    assert server.files[f"{AREA}/new"] == b"00112233"
    (run,) = rules.runs
    assert run.ended is not None
    assert (run.ended["size"], run.ended["sequential"], run.ended["direction"]) == (8, False, "sent")
    own = [request for request in server.seen if isinstance(request, m.Write)]
    assert len(own) == 4


async def test_fsetstat_is_setattr_and_what_follows_on_the_handle_waits() -> None:
    go = asyncio.Event()

    async def approve(_: str) -> None:
        await go.wait()

    rules = FakeDesk([everything(f"{AREA}/**"), ("approve", {"actions": ["setattr"]})])
    rules.approve = approve
    server = target()
    async with Conversation(rules, server) as say:
        handle = (await say(m.Open(f"{AREA}/a".encode(), m.FLAG_WRITE))).handle
        held = say.send(m.Fsetstat(handle, m.Attributes(permissions=0o600)))
        later = say.send(m.Write(handle, 0, b"C"))
        close = say.send(m.Close(handle))
        assert (await say(m.Stat(f"{AREA}/a".encode()))).attributes.size == 7      # goes on beside it
        assert not {m.Write, m.Fsetstat, m.Close} & set(kinds(server))
        go.set()
        assert [(await say.answer(number)).code for number in (held, later, close)] == [m.OK, m.OK, m.OK]
        assert [kind for kind in kinds(server) if kind in (m.Write, m.Fsetstat, m.Close)] == [m.Fsetstat, m.Write, m.Close]


async def test_what_is_held_holds_its_path_and_nothing_else() -> None:
    go = asyncio.Event()

    async def approve(_: str) -> None:
        await go.wait()

    rules = FakeDesk([everything(f"{AREA}/**"), ("approve", {"actions": ["remove"]})])
    rules.approve = approve
    server = target()
    async with Conversation(rules, server) as say:
        held = say.send(m.Remove(f"{AREA}/d/a".encode()))
        after = say.send(m.Mkdir(f"{AREA}/d".encode()))
        assert (await say(m.Mkdir(f"{AREA}/e".encode()))).code == m.OK
        assert [request.path for request in effects(server) if isinstance(request, m.Mkdir)] == [f"{AREA}/e".encode()]
        server.links[f"{AREA}/d"] = "/etc"                        # while it is waited for
        go.set()
        answer = await say.answer(held)
        assert "changed while the approval" in answer.text.decode()
        assert (await say.answer(after)).code == m.OK
    assert ("sftp remove /srv/app/d/a", "refused") in rules.ends()


async def test_a_secret_in_a_file_ends_its_reading_however_it_is_read() -> None:
    body = b"x" * 5000 + SECRET + b"y" * 5000
    for step in (100_000, 5010, 7, 1):
        rules, server = desk(secrets=[SECRET]), target()
        server.files[f"{AREA}/a"] = body
        got = b""
        async with Conversation(rules, server) as say:
            handle = (await say(m.Open(f"{AREA}/a".encode(), m.FLAG_READ))).handle
            at = 4990 if step < 100 else 0
            while True:
                answer = await say(m.Read(handle, at, step))
                if isinstance(answer, m.Status):
                    break
                got += answer.data
                at += len(answer.data)
            assert "masked" in answer.text.decode()
            assert set(got) <= set(b"x")
            await say.denied(m.Read(handle, 0, 1))
            assert (await say(m.Close(handle))).code == m.OK
        (run,) = rules.runs
        assert run.ended is not None
        assert (run.ended["status"], run.ended["error"]) == ("refused", "masked")


async def test_backwards_and_out_of_order_shows_no_more() -> None:
    rules, server = desk(secrets=[SECRET]), target()
    server.files[f"{AREA}/a"] = b"x" * 100 + SECRET + b"z" * 30
    for at in (127, 110, 100, 99 + len(SECRET)):
        async with Conversation(rules, server) as say:
            handle = (await say(m.Open(f"{AREA}/a".encode(), m.FLAG_READ))).handle
            await say.denied(m.Read(handle, at, 1))


async def test_reading_under_masks_keeps_pipelines_and_bytes() -> None:
    body = bytes(range(256)) * 2000 + b"correct horse battery sta" + b"tail"
    rules, server = desk(secrets=[SECRET]), target()
    server.files[f"{AREA}/a"] = body
    async with Conversation(rules, server, FileLimits(content=10)) as say:
        handle = (await say(m.Open(f"{AREA}/a".encode(), m.FLAG_READ))).handle
        cuts = [*range(0, len(body), 32_768)]
        numbers = [say.send(m.Read(handle, at, 32_768)) for at in cuts]
        close = say.send(m.Close(handle))
        assert b"".join([(await say.answer(number)).data for number in numbers]) == body
        assert (await say.answer(close)).code == m.OK
    (run,) = rules.runs
    assert run.ended is not None
    assert (run.ended["status"], run.ended["size"]) == ("ok", len(body))


async def test_the_kept_content_is_masked() -> None:
    rules, server = desk(secrets=[SECRET]), target()
    async with Conversation(rules, server, FileLimits(content=1000)) as say:
        handle = (await say(m.Open(f"{AREA}/new".encode(), m.FLAG_WRITE | m.FLAG_CREATE))).handle
        await say(m.Write(handle, 0, b"password=" + SECRET + b"\n"))
        await say(m.Close(handle))
    assert rules.runs[0].ended is not None
    assert rules.runs[0].ended["recording"] == b"password=****\n"


@pytest.mark.parametrize(("kind", "lie"), [
    (m.Realpath, m.Names(())), (m.Realpath, m.Names((m.Entry(b"relative", b""),))), (m.Realpath, m.Names((m.Entry(b"/a/../b", b""),))),
    (m.Realpath, m.Names((m.Entry(b"/a", b""), m.Entry(b"/b", b"")))), (m.Open, m.Status(m.OK)), (m.Open, m.Data(b"x")),
    (m.Read, m.Data(b"more than was asked for"))])
async def test_a_target_that_lies_ends_the_channel(kind: type[m.Message], lie: m.Message) -> None:
    rules, server = desk(), target()
    say = Conversation(rules, server)
    async with say:
        server.lies[kind] = lambda request: lie
        with pytest.raises(TargetFault):
            answer = await say(m.Open(f"{AREA}/a".encode(), m.FLAG_READ))
            await say(m.Read(answer.handle, 0, 4))
    assert isinstance(say.fault, TargetFault)
    assert all(run.ended is not None for run in rules.runs)


async def test_an_answer_that_nobody_asked_for_ends_the_channel() -> None:
    say = Conversation(desk(), target())
    async with say:
        say.pipe.give(m.encode_answer(77, m.Status(m.OK)))
        await say.caller.until(lambda: say.fault is not None)
    assert isinstance(say.fault, TargetFault)


async def test_malformed_requests_end_the_channel_and_everything_open_is_recorded() -> None:
    rules = desk()
    say = Conversation(rules, target())
    async with say:
        await say(m.Open(f"{AREA}/a".encode(), m.FLAG_READ))
        say.caller.give(U32.pack(2**32 - 1))
        await say.caller.until(lambda: say.fault is not None)
    assert isinstance(say.fault, ClientFault)
    assert [status for _, status in rules.ends()] == ["cancelled"]


async def test_the_end_of_the_session_is_raised() -> None:
    rules = desk()
    say = Conversation(rules, target())
    async with say:
        rules.over = SessionOver("window over")
        with pytest.raises(SessionOver):
            await say(m.Stat(f"{AREA}/a".encode()))


async def test_open_files_are_bounded() -> None:
    rules, server = desk(), target()
    async with Conversation(rules, server, FileLimits(handles=3)) as say:
        answers = [await say(m.Open(f"{AREA}/a".encode(), m.FLAG_READ)) for _ in range(5)]
        assert [type(answer) for answer in answers] == [m.Handle] * 3 + [m.Status] * 2
        numbers = [say.send(m.Opendir(AREA.encode())) for _ in range(20)]
        assert {type(await say.answer(number)) for number in numbers} == {m.Status}
        await say(m.Close(answers[0].handle))
        assert isinstance(await say(m.Open(f"{AREA}/a".encode(), m.FLAG_READ)), m.Handle)


async def test_listings_pass_as_they_are_and_directories_are_no_files() -> None:
    rules, server = desk(), target()
    async with Conversation(rules, server) as say:
        handle = (await say(m.Opendir(AREA.encode()))).handle
        assert (await say(m.Readdir(handle))).entries == (m.Entry(b"a", b"-rw a"),)
        await say.denied(m.Read(handle, 0, 1))
        await say.denied(m.Write(handle, 0, b"1"))
        assert (await say(m.Fsync(handle))).code == m.FAILURE
        await say(m.Close(handle))
        await say.denied(m.Opendir(b"/etc"))
    assert rules.runs[0].text == "sftp list /srv/app"


async def test_refusals_are_told_on_stderr_too_but_not_without_end() -> None:
    rules, server = desk(), target()
    async with Conversation(rules, server) as say:
        for _ in range(40):
            await say.denied(m.Stat(b"/etc"))
        lines = say.caller.errors.decode().splitlines()
    assert len(lines) == 20
    assert lines[0] == "lockgate: denied: no rule allows stat of /etc; ask: lockgate explain"
