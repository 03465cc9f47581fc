# SPDX-License-Identifier: Apache-2.0
"""One sshd and one gateway in front of it for all tests that leave the folder as they found it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from gateway.testing.openssh import SshServer
from tests.peers.ssh.way import Way, running

CLIENTS = ("ssh", "scp", "sftp", "ssh-add", "ssh-agent", "ssh-keygen", "rsync", "git")


@pytest.fixture(scope="session", autouse=True)
def clients() -> None:
    """Nothing is skipped where a peer is missing."""
    if missing := [name for name in CLIENTS if shutil.which(name) is None]:
        pytest.fail(f"found no {', '.join(missing)}: install openssh-client, rsync and git (`make test` does, as root)")


@pytest.fixture(scope="session")
def sshd() -> Iterator[SshServer]:
    """The system's OpenSSH server with keys and settings of its own."""
    with SshServer() as server:
        yield server


@pytest.fixture(scope="session")
def way(tmp_path_factory: pytest.TempPathFactory, sshd: SshServer) -> Iterator[Way]:
    """A running gateway in front of ``sshd``. Shared: leave its folder as you found it."""
    with running(tmp_path_factory.mktemp("ssh"), sshd) as made:
        yield made
