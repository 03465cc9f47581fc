# SPDX-License-Identifier: Apache-2.0
"""Other clients, unchanged: git, paramiko, Ansible's modules. Ansible's files, scp, sftp and rsync: ``test_files_clients.py``."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
from pathlib import Path

import paramiko

from tests.peers.ssh.test_openssh import Echo, ask
from tests.peers.ssh.way import Way


def test_git_clone_and_push(way: Way, tmp_path: Path) -> None:
    """git's commands are exec: ``git-upload-pack 'PATH'``."""
    bare, work = tmp_path / "bare.git", tmp_path / "work"
    home = {"HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1", "GIT_SSH_COMMAND": f"ssh {' '.join(way.options())} -o LogLevel=ERROR",
            "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.org", "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@example.org"}
    git = shutil.which("git") or "git"

    def run(*words: str, cwd: Path | None = None) -> str:
        done = way.client(git, *words, variables=home, cwd=cwd)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()

    run("init", "-q", "--bare", str(bare))
    run("clone", "-q", f"ssh://web-1@127.0.0.1{bare}", str(work))
    (work / "file").write_text("content\n" * 100_000)
    run("add", "file", cwd=work)
    run("commit", "-q", "-m", "one", cwd=work)
    run("push", "-q", "origin", "HEAD:refs/heads/main", cwd=work)
    assert run("--git-dir", str(bare), "rev-parse", "main") == run("rev-parse", "HEAD", cwd=work)
    assert way.last("command.begin", text=f"git-receive-pack '{bare}'")["decision"]["effect"] == "allow"


def test_paramiko(way: Way) -> None:
    """Password, commands with their three streams, a shell's channel, SFTP, and a forward."""
    client = paramiko.SSHClient()
    client.load_host_keys(str(way.known_hosts))
    client.connect("127.0.0.1", way.port, "web-1", way.appliance.token("ci-bot"), allow_agent=False, look_for_keys=False)
    try:
        given, out, _ = client.exec_command("cat")
        given.write(b"x" * 1_000_000)
        given.channel.shutdown_write()
        assert len(out.read()) == 1_000_000
        assert out.channel.recv_exit_status() == 0
        _, out, errors = client.exec_command("echo out; echo err >&2; exit 3")
        assert (out.read(), errors.read(), out.channel.recv_exit_status()) == (b"out\n", b"err\n", 3)
        _, out, errors = client.exec_command("reboot")
        assert (out.channel.recv_exit_status(), errors.read()[:17]) == (126, b"lockgate: denied:")
        with client.open_sftp() as files:
            files.putfo(io.BytesIO(b"by paramiko"), "/tmp/lockgate-test-paramiko")
            assert files.stat("/tmp/lockgate-test-paramiko").st_size == 11
            files.remove("/tmp/lockgate-test-paramiko")
        transport = client.get_transport()
        assert transport is not None
        through = transport.open_channel("direct-tcpip", ("127.0.0.1", way.server.port), ("127.0.0.1", 1))
        assert through.recv(4) == b"SSH-"
    finally:
        client.close()


def test_paramiko_by_keyboard_interactive(way: Way) -> None:
    """One prompt, not echoed."""
    prompts: list[tuple[str, bool]] = []

    def answer(title: str, instructions: str, asked: list[tuple[str, bool]]) -> list[str]:
        prompts.extend(asked)
        return [way.appliance.token("ci-bot")] * len(asked)

    with paramiko.Transport(("127.0.0.1", way.port)) as transport:
        transport.connect()
        transport.auth_interactive("web-1", answer)
        assert transport.is_authenticated()
    assert prompts == [("Token as password: ", False)]


def test_ansible_under_the_rule_that_the_documents_give(way: Way, tmp_path: Path) -> None:
    """With pipelining nothing but ``/bin/sh -c *`` is needed, over one connection for all tasks; anything else stays denied."""
    rules = way.grant("narrow")["rules"]
    rules.append({"name": "ansible", "allow": {"ssh": {"actions": ["exec"], "command": ["/bin/sh -c *"]}}})
    way.reload()
    (tmp_path / "play.yml").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [
        {"ansible.builtin.ping": {}}, {"ansible.builtin.command": {"cmd": "id -un"}, "register": "who"},
        {"ansible.builtin.assert": {"that": [f"who.stdout == '{way.server.login}'"]}}]}]))
    host = {"ansible_host": "127.0.0.1", "ansible_port": way.port, "ansible_user": "web-1", "ansible_python_interpreter": sys.executable,
            "ansible_ssh_common_args": " ".join(way.options()[:-2]), "ansible_ssh_password_mechanism": "ssh_askpass",
            "ansible_ssh_args": f"-o ControlMaster=auto -o ControlPersist=5 -o ControlPath={tmp_path}/c",
            "ansible_password": way.appliance.token("reporting")}
    (tmp_path / "hosts.json").write_text(json.dumps({"all": {"hosts": {"target": host}}}))
    (tmp_path / "ansible.cfg").write_text("[defaults]\nretry_files_enabled = False\n")
    before = len(way.records("session.start"))
    try:
        playbook = Path(sys.executable).with_name("ansible-playbook")
        done = way.client(str(playbook), "-i", str(tmp_path / "hosts.json"), str(tmp_path / "play.yml"), "-v", name="reporting", variables={
            "ANSIBLE_PIPELINING": "1", "ANSIBLE_LOCAL_TEMP": str(tmp_path / "tmp"), "LC_ALL": "C.UTF-8",
            "ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg")})
        assert done.returncode == 0, done.stdout.decode()[-3000:] + done.stderr.decode()
        assert len(way.records("session.start")) == before + 1
        assert way.ssh("id", name="reporting").returncode == 126
        ran = [one for one in way.records("command.begin") if one["identity"] == "reporting" and one["text"].startswith("/bin/sh -c ")]
        assert {rule for one in ran for rule in one["decision"]["rules"]} == {"narrow/ansible"}
    finally:
        rules.pop()
        way.reload()


def test_a_remote_forward_of_any_port(way: Way) -> None:
    """``-R 0``: the target chooses, and the client is told which it is."""
    echo = Echo()
    tunnel = way.start("-N", "-R", f"127.0.0.1:0:127.0.0.1:{echo.port}", before=[])
    try:
        assert tunnel.stderr is not None
        said = b""
        while (found := re.search(rb"Allocated port (\d+) for remote forward", said)) is None:
            line = tunnel.stderr.readline()
            assert line, said
            said += line
        assert ask(("127.0.0.1", int(found[1]))) == b"HELLO"
    finally:
        tunnel.terminate()
        tunnel.communicate(timeout=60)
        echo.close()
    assert way.last("command.begin", verb="forward-remote")["objects"] == ["127.0.0.1:0"]
