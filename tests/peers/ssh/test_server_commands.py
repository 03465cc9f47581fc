# SPDX-License-Identifier: Apache-2.0
"""What the installed rsync, scp and git really ask a server to run: recognised as files, or allowed by the rules that the docs give."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from gateway.protocols.ssh.operations import compile_matcher
from gateway.protocols.ssh.understand import Understood, exec_request

SHELL = """#!/bin/sh
while [ $# -gt 0 ]; do case $1 in -l|-p|-o) shift 2;; -*) shift;; *) break;; esac; done
shift
[ "$1" = "--" ] && shift
printf '%s' "$*" > "$WRITTEN"
"""
"""In place of ssh: keeps the command as ssh would send it, and says nothing."""
PUSH = ["-a", "-avz --delete", "-avzP", "-rlptD --delete-after", "-aHAX --numeric-ids", "-a --inplace --partial", "-a --chmod=D755,F644",
    "-a --delay-updates",
        "-a --exclude=x --delete", "-a --chown=a:b", "-au --backup --suffix=.old", "-a --remove-source-files", "-d",
        "-a --bwlimit=1m --timeout=30",
        "-a --dry-run --itemize-changes", "-c", "-a --info=progress2"]
REFUSED = ["-aK", "-aR", "-as", "-a --copy-unsafe-links", "-a --backup-dir=/e --backup", "-a --link-dest=/e", "-a --temp-dir=/e",
    "-a --iconv=utf8"]
FILES = {"actions": ["read", "write", "list", "stat", "mkdir", "setattr", "symlink", "remove"], "paths": ["/srv/www/**"]}


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    """A folder with a shell of that kind and something to send."""
    (tmp_path / "shell").write_text(SHELL)
    (tmp_path / "shell").chmod(0o755)
    (tmp_path / "file").write_text("x")
    return tmp_path


def sent(folder: Path, *command: str, **env: str) -> str:
    written = folder / "written"
    subprocess.run(command, cwd=folder, env=os.environ | {"WRITTEN": str(written)} | env, capture_output=True, timeout=60, check=False)
    return written.read_text()


def passes(found: Understood) -> bool:
    return found.files is not None and not found.refusal and all(map(compile_matcher(FILES, "allow"), found.operations))


@pytest.mark.parametrize("options", PUSH)
def test_rsync_is_files(asked: Path, options: str) -> None:
    shell = str(asked / "shell")
    pushed = exec_request(sent(asked, "rsync", *shlex.split(options), "-e", shell, "file", "h:/srv/www/a b/"), pty=False)
    assert passes(pushed)
    assert pushed.files is not None
    assert (pushed.files.sends, pushed.files.paths) == (True, ("/srv/www/a b/",))
    pulled = exec_request(sent(asked, "rsync", *shlex.split(options), "-e", shell, "h:/srv/www/a", "there"), pty=False)
    assert passes(pulled)
    assert pulled.files is not None
    assert (pulled.files.sends, pulled.files.paths) == (False, ("/srv/www/a",))


@pytest.mark.parametrize("options", REFUSED)
def test_rsync_out_of_its_folder_is_refused_t50(asked: Path, options: str) -> None:
    command = sent(asked, "rsync", *shlex.split(options), "-e", str(asked / "shell"), "file", "h:/srv/www/a/")
    assert command.startswith("rsync --server")
    assert exec_request(command, pty=False).refusal


@pytest.mark.parametrize("options", [["-O"], ["-O", "-r"], ["-O", "-p", "-r"], ["-O", "-v"], ["-O", "-q", "-C"]])
def test_scp_is_files(asked: Path, options: list[str]) -> None:
    shell = str(asked / "shell")
    assert passes(exec_request(sent(asked, "scp", *options, "-S", shell, "file", "h:/srv/www/"), pty=False))
    assert passes(exec_request(sent(asked, "scp", *options, "-S", shell, "h:/srv/www/a", "there"), pty=False))
    assert passes(exec_request(sent(asked, "scp", *options, "-S", shell, "h:'/srv/www/a b'", "there"), pty=False))


def test_git_is_a_command(asked: Path) -> None:
    matcher = compile_matcher({"actions": ["exec"], "command": ["git-upload-pack /srv/git/**", "git-receive-pack /srv/git/app.git"]},
        "allow")
    subprocess.run(["git", "init", "-q", "."], cwd=asked, check=True, capture_output=True)
    for command in (["ls-remote"], ["push"]):
        text = sent(asked, "git", *command, "ssh://h/srv/git/app.git", *(["--all"] if command == ["push"] else []),
            GIT_SSH_VARIANT="simple",
                    GIT_SSH=str(asked / "shell"))
        assert text.startswith("git-")
        assert all(map(matcher, exec_request(text, pty=False).operations)), text
