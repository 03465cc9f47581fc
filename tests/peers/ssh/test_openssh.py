# SPDX-License-Identifier: Apache-2.0
"""OpenSSH's own client, unchanged: commands, shells, terminals, streams, multiplexing, forwards."""

from __future__ import annotations

import os
import pty
import select
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from gateway.testing.openssh import write_key
from gateway.testing.postgres import free_port
from tests.peers.ssh.way import QUIET, Way


def test_a_command_its_output_and_its_exit_status(way: Way) -> None:
    done = way.ssh("echo out; echo err >&2; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"out\n", b"err\n")
    end = way.last("command.end", exit_status=3)
    begin = next(one for one in way.records("command.begin") if one["seq"] == end["begin"] and one["session"] == end["session"])
    assert (begin["verb"], begin["text"], begin["protocol"]) == ("exec", "echo out; echo err >&2; exit 3", "ssh")
    assert begin["decision"]["rules"] == ["ssh/texts"]
    assert (end["status"], end["error"], end["bytes"]) == ("error", "exit 3", 8)


def test_a_program_that_a_signal_ended(way: Way) -> None:
    done = way.ssh("kill -TERM $$")
    assert done.returncode == 255
    assert way.last("command.end", error="signal TERM")["status"] == "error"


def test_a_denied_command(way: Way) -> None:
    done = way.ssh("reboot")
    assert done.returncode == 126
    assert done.stderr.startswith(b"lockgate: denied: ") and b"ssh/never" in done.stderr
    assert way.last("command.end", status="refused")["session"]


def test_a_command_no_rule_speaks_of(way: Way) -> None:
    done = way.ssh("cat /etc/hostname", name="reporting")
    assert done.returncode == 126
    assert b"lockgate: denied: " in done.stderr
    assert way.ssh("uptime", name="reporting").returncode == 0


def test_standard_input_is_passed_on_and_its_end_too(way: Way) -> None:
    given = os.urandom(3_000_000)
    done = way.ssh("cat", given=given)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == given


def test_much_output(way: Way) -> None:
    done = way.ssh("head -c 20000000 /dev/zero | tr '\\0' x")
    assert (done.returncode, len(done.stdout)) == (0, 20_000_000)


def test_a_caller_that_reads_slowly_is_waited_for(way: Way) -> None:
    """The gateway keeps a bounded piece of it."""
    running = way.start("head -c 20000000 /dev/zero | tr '\\0' x")
    assert running.stdout is not None
    size = 0
    for _ in range(5):
        size += len(os.read(running.stdout.fileno(), 65536))
        time.sleep(0.2)
    rest, errors = running.communicate(timeout=60)
    assert (running.returncode, size + len(rest), errors) == (0, 20_000_000, b"")


def test_only_harmless_variables_reach_the_command(way: Way) -> None:
    before = [*QUIET, "-o", "SendEnv=LC_ALL LD_PRELOAD"]
    done = way.ssh("env", name="reporting", before=before, variables={"LC_ALL": "C.UTF-8"})
    assert done.returncode == 126
    done = way.ssh("uptime", name="reporting", before=before, variables={"LC_ALL": "C.UTF-8"})
    assert done.returncode == 0


def test_env_of_a_variable_without_a_rule_is_dropped_and_recorded_t47(way: Way) -> None:
    before = [*QUIET, "-o", "SetEnv=LD_PRELOAD=/tmp/evil.so"]
    done = way.ssh("uptime", name="reporting", before=before)
    assert done.returncode == 0
    assert way.last("environment.dropped", identity="reporting")["names"] == ["LD_PRELOAD"]


def test_a_shell_without_a_terminal(way: Way) -> None:
    done = way.ssh(given=b"echo from the shell\nexit 4\n", before=[*QUIET, "-T"])
    assert (done.returncode, done.stdout) == (4, b"from the shell\n")


def test_a_shell_with_a_terminal_its_size_and_its_changes(way: Way) -> None:
    shell = Terminal(way)
    shell.type("stty size; echo first-$((1+1))\n")
    assert b"24 80" in shell.until(b"first-2")
    shell.resize(40, 132)
    shell.type("stty size; echo second-$((1+1))\n")
    assert b"40 132" in shell.until(b"second-2")
    shell.type("exit 5\n")
    assert shell.wait() == 5


def test_control_c_reaches_what_runs_in_the_terminal(way: Way) -> None:
    shell = Terminal(way, "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.1; done")
    shell.until(b"ready")
    shell.type("\x03")
    shell.until(b"caught")
    assert shell.wait() == 9


def test_several_commands_over_one_connection(way: Way, tmp_path: Path) -> None:
    control = ["-o", "ControlMaster=auto", "-o", f"ControlPath={tmp_path}/c", "-o", "ControlPersist=30", *QUIET]
    assert way.ssh("uptime", before=control).returncode == 0
    first = way.last("session.start")["session"]
    several = [way.start("cat", before=control) for _ in range(5)]
    answers = [one.communicate(f"number {number}".encode(), timeout=60)[0] for number, one in enumerate(several)]
    assert answers == [f"number {number}".encode() for number in range(5)]
    assert way.ssh("reboot", before=control).returncode == 126
    assert way.last("session.start")["session"] == first
    way.client("ssh", *way.options(), *control, "-O", "exit", "web-1@127.0.0.1")
    assert way.last("session.end", session=first)["denials"] == 1


# --- forwards


class Echo:
    """A server that answers with what it is sent, in capitals."""

    def __init__(self, family: int = socket.AF_INET, address: str | tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self.socket = socket.socket(family)
        self.socket.bind(address)
        self.socket.listen()
        self.port = self.socket.getsockname()[1] if family == socket.AF_INET else 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self.socket.accept()
            except OSError:
                return
            with peer:
                while data := peer.recv(65536):
                    peer.sendall(data.upper())

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def echo() -> Echo:
    return Echo()


def ask(address: str | tuple[str, int], family: int = socket.AF_INET, given: bytes = b"hello") -> bytes:
    """Connect, say, hear; patient while the tunnel is made."""
    deadline = time.monotonic() + 60
    while True:
        try:
            with socket.socket(family) as peer:
                peer.settimeout(60)
                peer.connect(address)
                peer.sendall(given)
                peer.shutdown(socket.SHUT_WR)
                answer = b""
                while data := peer.recv(65536):
                    answer += data
                return answer
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def test_a_local_forward(way: Way, echo: Echo) -> None:
    port = free_port()
    tunnel = way.start("-N", "-L", f"{port}:127.0.0.1:{echo.port}")
    try:
        assert ask(("127.0.0.1", port)) == b"HELLO"
        assert len(ask(("127.0.0.1", port), given=b"x" * 2_000_000)) == 2_000_000
    finally:
        tunnel.terminate()
        tunnel.communicate(timeout=60)
    assert way.last("command.begin", verb="forward-local")["objects"] == [f"127.0.0.1:{echo.port}"]
    assert way.last("command.end", bytes=2_000_000)["received"] == 2_000_000


def test_a_dynamic_forward(way: Way, echo: Echo) -> None:
    """``-D``: SOCKS at the client; the gateway sees each destination."""
    port = free_port()
    tunnel = way.start("-N", "-D", str(port))
    try:
        ask(("127.0.0.1", port), given=b"")
        with socket.create_connection(("127.0.0.1", port), 20) as peer:
            peer.sendall(b"\x05\x01\x00")
            assert peer.recv(2) == b"\x05\x00"
            peer.sendall(b"\x05\x01\x00\x01\x7f\x00\x00\x01" + echo.port.to_bytes(2, "big"))
            assert peer.recv(10)[1] == 0
            peer.sendall(b"hello")
            assert peer.recv(5) == b"HELLO"
    finally:
        tunnel.terminate()
        tunnel.communicate(timeout=60)


def test_a_remote_forward(way: Way, echo: Echo) -> None:
    port = free_port()
    tunnel = way.start("-N", "-R", f"127.0.0.1:{port}:127.0.0.1:{echo.port}")
    try:
        assert ask(("127.0.0.1", port)) == b"HELLO"
    finally:
        tunnel.terminate()
        tunnel.communicate(timeout=60)
    assert way.last("command.begin", verb="forward-remote")["objects"] == [f"127.0.0.1:{port}"]


def test_unix_sockets_both_ways(way: Way, tmp_path: Path) -> None:
    served = f"/tmp/lockgate-test-{os.getpid()}.sock"
    echo = Echo(socket.AF_UNIX, served)
    local, remote = str(tmp_path / "l"), f"/tmp/lockgate-test-{os.getpid()}-r.sock"
    tunnel = way.start("-N", "-L", f"{local}:{served}", "-R", f"{remote}:{served}")
    try:
        assert ask(local, socket.AF_UNIX) == b"HELLO"
        assert ask(remote, socket.AF_UNIX) == b"HELLO"
    finally:
        tunnel.terminate()
        tunnel.communicate(timeout=60)
        echo.close()
        for path in (served, remote):
            Path(path).unlink(missing_ok=True)


def test_the_gateway_as_jump_host(way: Way) -> None:
    """``ssh -J``: a forward to the next host's port, decided by where it leads."""
    jump = f"ssh {' '.join(way.options())} -o LogLevel=ERROR -W %h:%p web-1@127.0.0.1"
    inner = ["-F", "/dev/null", "-o", f"UserKnownHostsFile={way.server.folder}/known_hosts", "-o", "StrictHostKeyChecking=yes",
             "-i", str(way.server.key), "-p", str(way.server.port), "-o", f"ProxyCommand={jump}", *QUIET]
    done = way.client("ssh", *inner, f"{way.server.login}@127.0.0.1", "echo through")
    assert (done.returncode, done.stdout) == (0, b"through\n")


def test_the_gateway_behind_a_jump_host(way: Way) -> None:
    jump = (f"ssh -F /dev/null -o UserKnownHostsFile={way.server.folder}/known_hosts -i {way.server.key} -p {way.server.port} "
            f"-o LogLevel=ERROR -W %h:%p {way.server.login}@127.0.0.1")
    done = way.ssh("uptime", before=[*QUIET, "-o", f"ProxyCommand={jump}"])
    assert done.returncode == 0


def test_the_callers_agent(way: Way, tmp_path: Path) -> None:
    """``ssh -A``, where a rule lets it through: on a connection to the target that no other session is on."""
    write_key(tmp_path / "mine")
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(tmp_path / "agent")], stdout=subprocess.DEVNULL)
    try:
        way.until(lambda: (tmp_path / "agent").exists(), "no agent")
        variables = {"SSH_AUTH_SOCK": str(tmp_path / "agent")}
        assert way.client("ssh-add", str(tmp_path / "mine"), variables=variables).returncode == 0
        before = ["-o", "PubkeyAuthentication=no", *QUIET]
        options = [f"IdentityAgent={tmp_path}/agent" if one == "IdentityAgent=none" else one for one in way.options()]
        done = way.client("ssh", *options, *before, "-A", "web-1@127.0.0.1", "ssh-add -l", variables=variables)
        assert f"{tmp_path}/mine (ED25519)".encode() in done.stdout, done.stderr
        refused = way.client("ssh", *options, *before, "-A", "web-1@127.0.0.1", "uptime", name="reporting", variables=variables)
        assert refused.returncode == 0
    finally:
        agent.terminate()
        agent.wait()
    verbs = [one["verb"] for one in way.records("command.begin")][-4:]
    assert verbs.count("agent") == 2


def test_a_refused_forward_is_administratively_prohibited_t47(way: Way) -> None:
    done = way.ssh(before=["-W", "192.0.2.1:443"])
    assert done.returncode == 255
    assert b"administratively prohibited: lockgate: denied" in done.stderr


def test_a_forward_to_the_targets_own_ssh_is_refused_where_a_rule_says_so_t47(way: Way) -> None:
    done = way.ssh(before=["-W", "127.0.0.1:22"])
    assert done.returncode == 255
    assert b"administratively prohibited" in done.stderr and b"ssh/port" in done.stderr


def test_a_remote_forward_elsewhere_is_refused_t47(way: Way) -> None:
    done = way.ssh("uptime", before=["-o", "ExitOnForwardFailure=yes", "-R", f"0.0.0.0:{free_port()}:127.0.0.1:9"])
    assert done.returncode == 255
    assert b"remote port forwarding failed" in done.stderr


@pytest.mark.parametrize("what", ["shell", "subsystem", "agent", "x11", "tun", "remote"])
def test_each_is_a_rule_of_its_own_t47(way: Way, what: str) -> None:
    """reporting may run uptime, and that is all it may do."""
    if what == "shell":
        done = way.ssh(name="reporting", before=[*QUIET, "-T"], given=b"echo hi\n")
        assert (done.returncode, done.stdout) == (126, b"")
    elif what == "subsystem":
        done = way.ssh("-s", "netconf", name="reporting")
        assert (done.returncode, done.stdout) == (126, b"")
    elif what == "agent":
        done = way.ssh("uptime", name="reporting", before=[*QUIET, "-A"])
        assert done.returncode == 0
    elif what == "x11":
        done = way.ssh("uptime", name="reporting", before=["-X"], variables={"DISPLAY": "127.0.0.1:99"})
        assert done.returncode == 0
    elif what == "tun":
        done = way.ssh("-w", "0:0", "uptime", name="reporting")
        assert done.returncode in (0, 255)
    else:
        done = way.ssh("uptime", name="reporting", before=["-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:9"])
        assert done.returncode == 255


def test_a_command_that_takes_too_long(way: Way) -> None:
    done = way.ssh("sleep 50", to="web-2")
    assert done.returncode == 255
    assert done.stderr == b"lockgate: cancelled: it ran for 3 s (statement: time)\n"
    assert way.last("command.end", error="cancelled")["status"] == "cancelled"


class Terminal:
    """``ssh`` on a terminal of its own."""

    def __init__(self, way: Way, *words: str, to: str = "web-1") -> None:
        environment = way.variables()
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe("ssh", ["ssh", "-tt", *way.options(), *QUIET, f"{to}@127.0.0.1", *words], environment)
        self.resize(24, 80)
        self._seen = b""

    def resize(self, rows: int, columns: int) -> None:
        import fcntl
        import struct
        import termios

        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        os.kill(self.pid, signal.SIGWINCH)
        time.sleep(0.3)

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def until(self, what: bytes) -> bytes:
        """What comes up to this text; the rest stays to be read."""
        deadline = time.monotonic() + 60
        while what not in self._seen:
            ready, _, _ = select.select([self.fd], [], [], 1)
            if ready:
                try:
                    self._seen += os.read(self.fd, 65536)
                except OSError:
                    break
            assert time.monotonic() < deadline, self._seen
        end = self._seen.find(what) + len(what) if what in self._seen else len(self._seen)
        seen, self._seen = self._seen[:end], self._seen[end:]
        return seen

    def wait(self) -> int:
        """How it ended; what does not end by itself is ended."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            ready, _, _ = select.select([self.fd], [], [], 1)
            try:
                if ready and not os.read(self.fd, 65536):
                    break
            except OSError:
                break
        else:
            os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)


