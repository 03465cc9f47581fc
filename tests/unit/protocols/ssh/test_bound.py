# SPDX-License-Identifier: Apache-2.0
"""What an approval over SSH is bound to beside its text (T57): the actions, and where the paths lead."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.approvals import binding
from gateway.model import Operation
from gateway.protocols.ssh.desk import SessionDesk
from gateway.protocols.ssh.understand import exec_request, file_request, rename_request
from gateway.testing.desk import session

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
