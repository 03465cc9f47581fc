# SPDX-License-Identifier: Apache-2.0
"""`lockgate doctor` on a real sshd: whose key it shows, whether it answers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gateway.config import fresh
from gateway.config.load import Folder
from gateway.protocols.ssh.doctor import findings
from gateway.protocols.ssh.settings import SshResource
from gateway.testing.openssh import SshServer
from tests.unit.config.folder import Demo, make

EXAMPLE = Path(__file__).parents[3] / "appliance" / "gateway" / "config" / "demo-ssh"


@pytest.fixture
def etc(tmp_path: Path, sshd: SshServer) -> Demo:
    made = make(tmp_path / "etc")
    shutil.copytree(EXAMPLE, made, dirs_exist_ok=True, copy_function=shutil.copyfile)
    demo = Demo(made).replace("policy/web.yaml", "127.0.0.1:2222", sshd.address)
    make(made)
    return demo


async def found(folder: Folder) -> dict[str, str]:
    resource = folder.policy.resources[-1]
    assert isinstance(resource, SshResource)
    return {one.id: one.severity for one in await findings(folder, resource)}


async def test_nothing_is_wrong_where_the_key_is_pinned(etc: Demo, sshd: SshServer) -> None:
    etc.write("trust/known_hosts", sshd.known_hosts)
    assert await found(etc.load()) == {}


async def test_another_key_than_the_pinned_one_t52(etc: Demo, sshd: SshServer) -> None:
    assert await found(etc.load()) == {"ssh.unpinned": "medium"}
    etc.write("trust/known_hosts", f"[127.0.0.1]:{sshd.port} {fresh.public_line(fresh.audit_key(), 'other')}")
    assert await found(etc.load()) == {"ssh.host-key": "high"}


async def test_a_target_that_does_not_answer_and_root(etc: Demo, sshd: SshServer) -> None:
    etc.replace("policy/web.yaml", sshd.address, "127.0.0.1:9").replace("policy/web.yaml", "[deploy]", "[deploy, root]")
    etc.write("trust/known_hosts", sshd.known_hosts.replace(str(sshd.port), "9"))
    assert await found(etc.load()) == {"ssh.unreachable": "medium", "ssh.root": "medium"}
