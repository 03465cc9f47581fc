# SPDX-License-Identifier: Apache-2.0
"""What an approval over SSH is bound to beside its text (T57): the actions, and where the paths lead."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Literal, cast

import pytest

from gateway.approvals import binding
from gateway.errors import Refused
from gateway.model import Decision, Operation
from gateway.protocols.ssh.channel import SessionChannel
from gateway.protocols.ssh.desk import SessionDesk
from gateway.protocols.ssh.rsync import located
from gateway.protocols.ssh.sftp.questions import Questions
from gateway.protocols.ssh.understand import exec_request, file_request, rename_request
from gateway.testing.desk import session
from tests.unit.protocols.ssh.sftp.target import FakeTarget, TargetPipe

SESSION = session()
FOLDER = file_request("rename", "/srv/a")


def digest(operations: tuple[Operation, ...], text: str) -> str:
    inside: Any = SimpleNamespace(session=SESSION, hidden=lambda text: text)
    command = SessionDesk(inside, print)._command(operations, text, "", True)
    return binding.digest(binding.document("g", SESSION, command, "p"))


@pytest.mark.parametrize(("one", "other", "text"), [
    (file_request("write", "/srv/link", resolved="/srv/a"), file_request("write", "/srv/link", resolved="/etc/b"), "sftp open /srv/link"),
    (rename_request("/srv/a /srv/b", "/srv/c"), rename_request("/srv/a", "/srv/b /srv/c"), "sftp rename /srv/a /srv/b /srv/c"),
    (file_request("setattr", "/srv/a mode=777"), file_request("setattr", "/srv/a"), "sftp setstat /srv/a mode=777"),
    (file_request("read", "/srv/a"), (*file_request("read", "/srv/a"), *file_request("write", "/srv/a")), "sftp open /srv/a"),
    (tuple(replace(one, attributes={**one.attributes, "tree": True}) for one in FOLDER), FOLDER, "sftp rename /srv/a"),
])
def test_the_same_text_for_something_else_is_another_approval_t57(one: Any, other: Any, text: str) -> None:
    assert digest(one, text) != digest(other, text)
    assert digest(one, text) == digest(one, text)


def test_the_same_command_again_is_the_same() -> None:
    assert digest(exec_request("reboot -f", pty=False).operations, "reboot -f") == digest(
        exec_request("reboot -f", pty=False).operations, "reboot -f")


async def test_rsync_does_not_begin_where_a_path_led_elsewhere_meanwhile_t57() -> None:
    understood = exec_request("rsync --server -re.iLsfxCIvu . /srv/app/link/", pty=False)
    assert understood.files is not None
    server, pipe = FakeTarget({"/srv/app/x/a": b""}, {"/srv/app/link": "/srv/app/x"}), TargetPipe()
    answering = asyncio.create_task(server.serve(pipe))
    questions = Questions(pipe)
    await questions.begin()
    operations = await located(understood.files, understood.operations, questions)
    channel: Any = SessionChannel(cast("Any", SimpleNamespace()))
    cases: tuple[tuple[Literal["allow", "approve"], bool], ...] = (("approve", False), ("allow", True), ("approve", True))
    for effect, moved in cases:
        server.links["/srv/app/link"] = "/etc" if moved else "/srv/app/x"
        running = SimpleNamespace(decision=Decision(effect))
        with pytest.raises(Refused, match="leads to changed") if moved and effect == "approve" else nullcontext():
            async with channel._unmoved(running, operations, understood.files, questions):
                pass
    answering.cancel()


def test_no_secret_is_in_the_names_that_the_log_keeps_t65() -> None:
    inside: Any = SimpleNamespace(session=SESSION, hidden=lambda text: text.replace("s3cret-of-mine", "****"))
    operations = file_request("read", "/srv/s3cret-of-mine", resolved="/x/s3cret-of-mine")
    command = SessionDesk(inside, print)._command(operations, "sftp open /srv/s3cret-of-mine", "", True)
    assert [one.objects for one in command.operations] == [("/srv/****",), ("/x/****",)]
    assert [one.attributes["path"] for one in command.operations] == ["/srv/s3cret-of-mine", "/x/s3cret-of-mine"]
    assert "s3cret" not in command.shown_text
