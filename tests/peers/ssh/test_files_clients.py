# SPDX-License-Identifier: Apache-2.0
"""Files through a real gateway to a real sshd, with the clients people have: sftp, scp in both modes, rsync, paramiko, Ansible."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest

from tests.peers.ssh.way import Way

BLOB = os.urandom(3_000_001)


@pytest.fixture
def area(tmp_path: Path) -> Path:
    """A folder on the target with a link that leads out of what is allowed."""
    area = tmp_path / "area"
    (area / "tree" / "deep").mkdir(parents=True)
    (area / "big").write_bytes(BLOB)
    (area / "tree" / "a b").write_text("spaces\n")
    (area / "tree" / "deep" / "b").write_text("b\n")
    (area / "out").symlink_to("/etc")
    (area / "shadow").symlink_to("/etc/shadow")
    return area


def sftp(way: Way, *lines: str) -> subprocess.CompletedProcess[bytes]:
    """A batch; each line is an instruction, errors do not end it."""
    given = "".join(f"-{line}\n" for line in lines).encode()
    command = ["sftp", *way.options(port="-P"), "-o", "LogLevel=ERROR", "-o", "BatchMode=no", "-b", "-", "web-1@127.0.0.1"]
    return way.client(*command, given=given)


def scp(way: Way, *words: str, mode: str = "-s") -> subprocess.CompletedProcess[bytes]:
    return way.client("scp", mode, *way.options(port="-P"), "-o", "LogLevel=ERROR", *words)


def rsync(way: Way, *words: str) -> subprocess.CompletedProcess[bytes]:
    return way.client("rsync", "-e", "ssh " + " ".join([*way.options(), "-o", "LogLevel=ERROR"]), *words)


def ended(way: Way, path: str, **fields: Any) -> dict[str, Any]:
    """The newest end of a transfer of this path."""
    return way.last("command.end", path=path, **fields)


def test_sftp_batch(way: Way, area: Path, tmp_path: Path) -> None:
    local = tmp_path / "local"
    done = sftp(way, f"get {area}/big {local}", f"put {local} {area}/copy", f"ls -la {area}", f"mkdir {area}/new",
                f"chmod 700 {area}/copy", f"rename {area}/copy {area}/new/moved", f"ln -s tree {area}/link", f"ln {area}/big {area}/hard",
                f"cp {area}/big {area}/copied",
                f"rm {area}/hard", f"df {area}", f"get -p {area}/tree/deep/b {tmp_path}/b", f"put -p {tmp_path}/b {area}/b")
    assert (done.returncode, done.stderr) == (0, b"")
    assert local.read_bytes() == (area / "new" / "moved").read_bytes() == (area / "copied").read_bytes() == BLOB
    assert (area / "new" / "moved").stat().st_mode & 0o777 == 0o700
    assert (area / "link").readlink() == Path("tree")
    assert not (area / "hard").exists()
    for path, direction in ((f"{area}/big", "received"), (f"{area}/copy", "sent")):
        record = ended(way, path, direction=direction)
        assert (record["size"], record["sha256"], record["status"]) == (len(BLOB), hashlib.sha256(BLOB).hexdigest(), "ok")


def test_sftp_does_not_lead_out_t50(way: Way, area: Path, tmp_path: Path) -> None:
    before = {path: path.lstat().st_mtime_ns for path in (Path("/etc/passwd"), Path("/etc"))}
    done = sftp(
        way, f"get /etc/passwd {tmp_path}/1", f"get {area}/../../../../etc/passwd {tmp_path}/2", f"get {area}/out/passwd {tmp_path}/3",
        f"get {area}/shadow {tmp_path}/4", f"put {area}/big {area}/out/evil", f"ln -s /etc/passwd {area}/evil",
        f"ln /etc/passwd {area}/evil", f"rename {area}/big /etc/evil", f"rename {area}/big {area}/out/evil", f"mkdir {area}/out/evil",
        f"rm {area}/out/passwd", f"chmod 777 {area}/shadow", "ls /etc", f"ls {area}/out", f"df {area}/out",
        f"cp /etc/passwd {area}/evil")
    told = done.stderr.decode()
    assert told.count("lockgate: denied") >= 14
    assert "/etc" in told
    assert sorted(tmp_path.iterdir()) == [area]
    assert not (area / "evil").is_symlink()
    assert not (area / "evil").exists()
    assert {path: path.lstat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize("mode", ["-s", "-O"])
def test_scp_both_ways_and_trees(way: Way, area: Path, tmp_path: Path, mode: str) -> None:
    local = tmp_path / "local"
    assert scp(way, f"web-1@127.0.0.1:{area}/big", str(local), mode=mode).returncode == 0
    assert local.read_bytes() == BLOB
    done = scp(way, "-p", str(local), f"web-1@127.0.0.1:{area}/sent", mode=mode)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (area / "sent").read_bytes() == BLOB
    record = ended(way, f"{area}/sent", direction="sent")
    assert (record["size"], record["sha256"], record["status"]) == (len(BLOB), hashlib.sha256(BLOB).hexdigest(), "ok")
    done = scp(way, "-r", f"web-1@127.0.0.1:{area}/tree", str(tmp_path / "got"), mode=mode)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "got" / "a b").read_text() == "spaces\n"
    assert scp(way, "-r", str(tmp_path / "got"), f"web-1@127.0.0.1:{area}/back", mode=mode).returncode == 0
    assert (area / "back" / "deep" / "b").read_text() == "b\n"


@pytest.mark.parametrize("mode", ["-s", "-O"])
def test_scp_does_not_lead_out_t50(way: Way, area: Path, tmp_path: Path, mode: str) -> None:
    for source in ("/etc/passwd", f"{area}/shadow", f"{area}/out/passwd", f"{area}/tree/../out/passwd"):
        done = scp(way, f"web-1@127.0.0.1:{source}", str(tmp_path / "got"), mode=mode)
        assert done.returncode != 0
        assert b"denied" in done.stderr
    for place in ("/etc", f"{area}/out", f"{area}/out/evil"):
        done = scp(way, str(area / "big"), f"web-1@127.0.0.1:{place}", mode=mode)
        assert done.returncode != 0
        assert b"denied" in done.stderr
    assert not (tmp_path / "got").exists()
    assert not Path("/etc/big").exists()
    assert not Path("/etc/evil").exists()


def test_scp_takes_a_tree_without_what_is_denied(way: Way, area: Path, tmp_path: Path) -> None:
    (area / "tree" / "deep" / "leads").symlink_to("/etc/hostname")
    done = scp(way, "-r", f"web-1@127.0.0.1:{area}/tree", str(tmp_path / "got"), mode="-O")
    assert done.returncode != 0
    assert b"lockgate: denied" in done.stderr
    assert (tmp_path / "got" / "deep" / "b").read_text() == "b\n"
    assert not (tmp_path / "got" / "deep" / "leads").exists()


def test_scp_of_a_relative_path_begins_at_home(way: Way, area: Path) -> None:
    done = scp(way, "web-1@127.0.0.1:no-such-file-of-the-tests", str(area / "x"), mode="-O")
    assert b"No such file" in done.stderr
    home = str(Path.home())
    assert [f"{home}/no-such-file-of-the-tests"] in [record["objects"] for record in way.records("command.begin")]


def test_rsync_mirrors_and_deletes(way: Way, area: Path, tmp_path: Path) -> None:
    local = tmp_path / "local"
    done = rsync(way, "-a", f"web-1@127.0.0.1:{area}/tree/", str(local))
    assert (done.returncode, done.stderr) == (0, b"")
    assert (local / "deep" / "b").read_text() == "b\n"
    (local / "a b").unlink()
    (local / "new").write_bytes(BLOB)
    done = rsync(way, "-az", "--delete", f"{local}/", f"web-1@127.0.0.1:{area}/tree/")
    assert (done.returncode, done.stderr) == (0, b"")
    assert (area / "tree" / "new").read_bytes() == BLOB
    assert not (area / "tree" / "a b").exists()
    record = way.last("command.end", direction="sent", path=f"{area}/tree/")
    assert record["size"] > 0
    assert len(record["sha256"]) == 64


def test_rsync_filter_rules_read_no_file_of_the_target_t50(way: Way, area: Path, tmp_path: Path) -> None:
    local = tmp_path / "got"
    done = rsync(way, "-a", "--filter=: ../../secret", f"web-1@127.0.0.1:{area}/tree/", str(local))
    assert done.returncode != 0
    assert b"denied: rsync: a filter rule" in done.stderr
    assert not local.exists() or not list(local.iterdir())
    done = rsync(way, "-a", "--exclude=*.log", "--filter=P keep", f"web-1@127.0.0.1:{area}/tree/", str(local))
    assert done.returncode == 0, done.stderr
    done = rsync(way, "-az", "--delete", "--exclude=*.log", f"{local}/", f"web-1@127.0.0.1:{area}/tree/")
    assert done.returncode == 0, done.stderr


def test_rsync_does_not_lead_out_t50(way: Way, area: Path, tmp_path: Path) -> None:
    for place in ("/etc/", f"{area}/out/", f"{area}/../../../../../etc/"):
        assert b"denied" in rsync(way, "-a", f"web-1@127.0.0.1:{place}", str(tmp_path / "got")).stderr
        assert b"denied" in rsync(way, "-a", f"{area}/tree/", f"web-1@127.0.0.1:{place}").stderr
    assert b"denied" in rsync(way, "-aL", f"web-1@127.0.0.1:{area}/", str(tmp_path / "got")).stderr
    assert not (tmp_path / "got").exists() or not list((tmp_path / "got").iterdir())


@pytest.fixture
def files(way: Way) -> Iterator[paramiko.SFTPClient]:
    transport = paramiko.Transport(("127.0.0.1", way.port))
    transport.connect(username="web-1", password=way.appliance.token_file("ci-bot").read_text().strip())
    client = paramiko.SFTPClient.from_transport(transport)
    assert client is not None
    yield client
    client.close()
    transport.close()


def test_paramiko_as_a_file_system(way: Way, area: Path, files: paramiko.SFTPClient) -> None:
    with files.open(f"{area}/new", "w+") as handle:
        handle.write(b"0123456789")
        handle.seek(3)
        assert handle.read(4) == b"3456"
        handle.truncate(5)
    assert (area / "new").read_bytes() == b"01234"
    assert sorted(files.listdir(str(area))) == ["big", "new", "out", "shadow", "tree"]
    files.get(f"{area}/big", str(area / "local"))
    assert (area / "local").read_bytes() == BLOB
    with files.open(f"{area}/big") as handle:
        handle.prefetch()
        assert handle.read() == BLOB
        assert b"".join(handle.readv([(100, 50), (2_000_000, 70_000), (5, 5)])) == BLOB[100:150] + BLOB[2_000_000:2_070_000] + BLOB[5:10]
    files.posix_rename(f"{area}/new", f"{area}/big")
    files.truncate(f"{area}/big", 2)
    files.utime(f"{area}/big", (1, 2))
    assert (area / "big").stat().st_mtime == 2
    assert files.readlink(f"{area}/out") == "/etc"
    files.remove(f"{area}/tree/deep/b")
    files.rmdir(f"{area}/tree/deep")
    assert files.normalize(".") == str(Path.home())
    with pytest.raises(PermissionError, match="lockgate explain"):
        files.open("/etc/passwd")


@pytest.mark.parametrize("method", ["sftp", "scp", "piped"])
def test_ansible_copies_and_fetches(way: Way, area: Path, tmp_path: Path, method: str) -> None:
    play = [{"hosts": "all", "gather_facts": False, "tasks": [
        {"ansible.builtin.copy": {"src": f"{area}/big", "dest": f"{area}/tree/big", "mode": "0640"}},
        {"ansible.builtin.fetch": {"src": f"{area}/tree/deep/b", "dest": f"{tmp_path}/fetched", "flat": True}}]}]
    (tmp_path / "play.yml").write_text(json.dumps(play))
    (tmp_path / "ansible.cfg").write_text("[defaults]\nretry_files_enabled = False\n")
    inventory = {"all": {"hosts": {"target": {
        "ansible_host": "127.0.0.1", "ansible_port": way.port, "ansible_user": "web-1", "ansible_python_interpreter": sys.executable,
        "ansible_ssh_common_args": " ".join(way.options()[:-2]), "ansible_ssh_transfer_method": method,
        "ansible_ssh_args": "-o ControlMaster=no", "ansible_ssh_password_mechanism": "ssh_askpass",
        "ansible_remote_tmp": f"{tmp_path}/remote",        # `~` would be looked for as the home of a login web-1
        "ansible_password": way.appliance.token_file("ci-bot").read_text().strip()}}}}
    (tmp_path / "hosts.json").write_text(json.dumps(inventory))
    playbook = Path(sys.executable).with_name("ansible-playbook")
    done = way.client(str(playbook), "-i", str(tmp_path / "hosts.json"), str(tmp_path / "play.yml"), "-vv", variables={
        "ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg"), "ANSIBLE_LOCAL_TEMP": str(tmp_path / "tmp"), "LC_ALL": "C.UTF-8"})
    assert done.returncode == 0, done.stdout.decode()[-3000:] + done.stderr.decode()
    assert (tmp_path / "fetched").read_text() == "b\n"
    assert (area / "tree" / "big").read_bytes() == BLOB
