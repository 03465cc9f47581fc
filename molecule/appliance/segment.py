# SPDX-License-Identifier: Apache-2.0
"""The lab segment as its people and robots use it: tokens, psql on the callers' hosts, playbooks over SSH, the operators' folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from verify import LAB, Lab, Playbook, Run, scenario_name

GATEWAY = "10.88.11.11"
MANAGEMENT = "10.88.10.11"
DATABASE = "10.88.12.12"
PORT = 15432
CONSOLE = 19443
PLAYBOOKS = Path(__file__).resolve().parents[2] / "playbooks"
JOB = (
    f"host=gw hostaddr={GATEWAY} port={PORT} user=ci dbname=orders-db connect_timeout=10"
    " sslmode=verify-full sslrootcert=/root/job/gateway-ca.crt"
)
PSQL = 'PGPASSWORD=$(cat /root/job/token) exec psql --no-psqlrc --quiet --no-align --tuples-only --set=VERBOSITY=verbose "$0" "$@"'


def in_host(host: str, *argv: str) -> list[str]:
    return [str(LAB), "exec", "--scenario", scenario_name(), host, *argv]


@dataclass(frozen=True)
class Answer:
    """What a statement gave: its rows, and 00000 or the error's code."""

    rows: list[str]
    code: str


class Session:
    """One psql that stays connected."""

    def __init__(self, host: str, connection: str = JOB) -> None:
        self._process: subprocess.Popen[str] = subprocess.Popen(
            in_host(host, "sh", "-c", PSQL, connection), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._count = 0

    def ask(self, sql: str) -> Answer:
        """Send a statement and wait for its end; `EOFError` where the connection is gone."""
        self._count += 1
        mark = f"-- answer {self._count}"
        writer, reader = self._pipes()
        try:
            writer.write(f"{sql};\n\\echo {mark} :SQLSTATE\n")
            writer.flush()
        except BrokenPipeError:
            raise EOFError(reader.read()) from None
        rows: list[str] = []
        for line in reader:
            if line.startswith(mark):
                return Answer(rows, line.removeprefix(mark).strip())
            rows.append(line.rstrip("\n"))
        raise EOFError("\n".join(rows))

    def close(self) -> None:
        writer, _ = self._pipes()
        writer.close()
        self._process.wait(timeout=30)

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        assert self._process.stdin
        assert self._process.stdout
        return self._process.stdin, self._process.stdout

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Segment:
    """The lab segment. `folder` is what the gateway is rolled out from: tests edit it as an operator would."""

    def __init__(self, lab: Lab, playbook: Playbook) -> None:
        self.lab = lab
        self._playbook = playbook
        self.world = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "world"
        self.folder = self.world / "segment"

    # --- callers ---

    def token(self, name: str, **claims: str) -> str:
        """A token of an identity or a person, signed by the lab's issuer."""
        more = [f"--claim={claim}={value}" for claim, value in claims.items()]
        argv = ["lockgate", "token", "mint", "--config", str(self.world / "issuer"), "--as", name, *more]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()

    def give_token(self, host: str, name: str) -> None:
        """Put a fresh token and the gateway's authority where a job on that host finds them."""
        self.write(host, "/root/job/token", self.token(name))
        self.write(host, "/root/job/gateway-ca.crt", self.lab.host("gw").file("/etc/lockgate/tls/ca.crt").content_string)

    def write(self, host: str, path: str, text: str) -> None:
        argv = in_host(host, "sh", "-c", 'umask 077; cat > "$0"', path)
        subprocess.run(argv, input=text, text=True, check=True)

    def psql(self, host: str, sql: str, connection: str = JOB) -> subprocess.CompletedProcess[str]:
        """One statement on a connection of its own."""
        argv = in_host(host, "sh", "-c", PSQL, connection, "--command", sql)
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)

    def works(self) -> bool:
        """Whether the job's psql gets an answer."""
        return self.psql("client", "select count(*) from customers").stdout.strip() == "3"

    # --- operators ---

    def play(self, name: str, variables: Mapping[str, Any] | None = None, *options: str) -> Run:
        """A playbook by its file name, as the operator `ops` over SSH from the management network."""
        proxy = f"ip netns exec {self.lab.switch('management')} socat - TCP:%h:%p"
        ssh = {
            "ansible_connection": "ssh", "ansible_user": "ops", "ansible_become": True, "ansible_host": MANAGEMENT,
            "ansible_ssh_private_key_file": str(self.world / "ops"),
            "ansible_ssh_common_args": f"-o ProxyCommand='{proxy}' -o StrictHostKeyChecking=accept-new "
            f"-o UserKnownHostsFile={self.world}/known_hosts -o IdentitiesOnly=yes",
        }  # fmt: skip
        return self._playbook(PLAYBOOKS / name, {**ssh, **(variables or {})}, ["--limit", "gateways", *options])

    @contextmanager
    def edited(self) -> Iterator[Path]:
        """The folder, to edit; afterwards it is as before."""
        kept = self.world / "segment.kept"
        shutil.copytree(self.folder, kept)
        try:
            yield self.folder
        finally:
            shutil.rmtree(self.folder)
            kept.rename(self.folder)

    def add_rule(self, rule: str) -> None:
        """One more rule in ci-bot's grant: a line of the file, as an operator writes it."""
        path = self.folder / "policy" / "grants" / "ci-bot.yaml"
        path.write_text(path.read_text().replace("    rules:\n", f"    rules:\n      - {rule}\n"))

    # --- the gateway, from inside ---

    def gateway_pid(self) -> str:
        return str(self.lab.host("gw").check_output("systemctl show -P MainPID lockgate.service"))

    def config_release(self) -> str:
        """Which configuration release is current."""
        return str(self.lab.host("gw").check_output("readlink -f /etc/lockgate"))

    def audit(self, kind: str) -> list[dict[str, Any]]:
        """Records of a kind, as the gateway's own export prints them."""
        lines = self.lab.host("gw").check_output("lockgate audit export").splitlines()
        return [record for record in map(json.loads, lines) if record["kind"] == kind]
