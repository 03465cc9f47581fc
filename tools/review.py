# SPDX-License-Identifier: Apache-2.0
"""What a change of the inventory would do: every gateway's folder is rendered, before and after, and the program itself is asked.

Nothing is connected to, no secret and no rights are needed: credentials and keys are stand-ins. For every gateway: ``lockgate check``,
``policy test``, ``policy diff``, the connections that would open or close, the settings that would change. OUT/review.md is written for the
pull request, OUT/{before,after}/SEGMENT/GATEWAY are the folders. Exit status 0; 1 when a folder is refused or a case fails, or with
--fail-on-wider when more would be possible than before; 2 when something cannot be rendered.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import html
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.cli import main as program
from gateway.config import fresh, speaks
from gateway.config.draft import Draft, read_policy
from gateway.credentials.credential import KINDS, LEAST_KEY

ROOT = Path(__file__).resolve().parent.parent
STAND_IN = "stand-in"
VAULT = b"$ANSIBLE_VAULT;"
GIVEN = ("tls/gateway.crt", "tls/gateway.key", "tls/ca.crt", "tls/audit_ed25519_key", "tls/ssh_host_ed25519_key", "tls/ssh_user_ca")
"""What a gateway has without the inventory: the roles keep these on it. Everything else that is missing is missing there too."""


@dataclass(frozen=True)
class Finding:
    """What is said of one gateway. ``wrong`` stops the change, ``wider`` is what would be possible and is not today, ``revoked`` are the
    cases that do not hold only because somebody is revoked."""

    wrong: tuple[str, ...] = ()
    revoked: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    wider: bool = False
    facts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Review:
    """``findings`` by SEGMENT/GATEWAY; ``gone`` are those that are only in the old inventory."""

    findings: dict[str, Finding] = field(default_factory=dict)
    gone: tuple[str, ...] = ()
    against: str = ""

    @property
    def wrong(self) -> bool:
        return any(one.wrong for one in self.findings.values())

    @property
    def wider(self) -> bool:
        return any(one.wider for one in self.findings.values())


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="review", description=__doc__)
    parser.add_argument("--inventory", type=Path, default=ROOT / "inventories/example", metavar="DIR", help="the inventory to look at")
    parser.add_argument("--against", default="", metavar="REF",
                        help="the git revision to compare with, such as origin/main; without it nothing is compared")
    parser.add_argument("--out", type=Path, default=Path("build/review"), metavar="OUT", help="where to write (default build/review)")
    parser.add_argument("--fail-on-wider", action="store_true", help="exit status 1 when more would be possible than before")
    args = parser.parse_args(argv)
    try:
        review = look(args.inventory.resolve(), args.against, args.out.resolve())
    except NotRendered as wrong:
        print(f"review: {wrong}", file=sys.stderr)
        with contextlib.suppress(OSError):
            args.out.mkdir(parents=True, exist_ok=True)
            (args.out / "review.md").write_text(f"# This cannot be rendered\n\n{fenced(str(wrong).splitlines())}\n")
        return 2
    text = markdown(review)
    (args.out / "review.md").write_text(text)
    print(text)
    return 1 if review.wrong or (args.fail_on_wider and review.wider) else 0


class NotRendered(Exception):
    """An inventory that Ansible, or git, could not make folders of."""


def look(inventory: Path, against: str, out: Path) -> Review:
    """Render both sides and ask the program about each gateway. Raises ``NotRendered``."""
    try:
        if out.exists():
            shutil.rmtree(out)
    except OSError as wrong:
        raise NotRendered(f"{wrong.filename}: {wrong.strerror}") from None
    with workplace() as place:
        after = render(inventory, place / "after")
        before: dict[str, Path] = {}
        if against:
            with checked_out(inventory, against) as old:
                before = render(old, place / "before") if old is not None else {}
        findings = {name: ask(folder, before.get(name), bool(against)) for name, folder in after.items()}
        shutil.copytree(place, out, symlinks=True)
    return Review(findings, tuple(sorted(before.keys() - after.keys())), against)


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    """Where nobody else can write, which ``check`` asks of every folder; a runner's checkout, or a umask of 002, is not like that."""
    umask = os.umask(0o022)
    try:
        with tempfile.TemporaryDirectory(prefix="lockgate-review-") as scratch:
            yield Path(scratch).resolve() / "review"
    finally:
        os.umask(umask)


@contextlib.contextmanager
def checked_out(inventory: Path, ref: str) -> Iterator[Path | None]:
    """The inventory as it was at ``ref``, in a working tree of its own; ``None`` where it was not there yet."""
    top = Path(_run(["git", "-C", str(inventory), "rev-parse", "--show-toplevel"]).strip())
    _run(["git", "-C", str(top), "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}"])
    with tempfile.TemporaryDirectory(prefix="lockgate-review-") as scratch:
        tree = Path(scratch) / "before"
        _run(["git", "-C", str(top), "worktree", "add", "--quiet", "--detach", str(tree), ref])
        try:
            old = tree / inventory.relative_to(top)
            yield old if old.exists() else None
        finally:
            _run(["git", "-C", str(top), "worktree", "remove", "--force", str(tree)])


def render(inventory: Path, out: Path) -> dict[str, Path]:
    """The folder of every gateway by SEGMENT/GATEWAY, rendered by the role that rolls out, with stand-ins for what is secret.

    The inventory says how the gateways are reached, and that becomes root: not so here."""
    out.mkdir(parents=True, exist_ok=True)
    play = ROOT / "playbooks" / "render.yml"
    here = {"gateway_render_folder": str(out), "ansible_connection": "local", "ansible_become": False,
            "ansible_python_interpreter": sys.executable}
    with without_vaults(inventory) as readable:
        _run([str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(readable), str(play), "--extra-vars", json.dumps(here)],
             {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"})
    found = {f"{folder.parent.name}/{folder.name}": folder for folder in sorted(out.glob("*/*")) if folder.is_dir()}
    if not found:
        raise NotRendered(f"{inventory}: expected at least one host in the group `gateways`")
    for folder in found.values():
        stand_in(folder)
    return found


@contextlib.contextmanager
def without_vaults(inventory: Path) -> Iterator[Path]:
    """The inventory itself, or a copy beside it without the files that ansible-vault encrypted: who reviews has no password for them."""
    if not any(_encrypted(path) for path in inventory.rglob("*")):
        yield inventory
        return
    with tempfile.TemporaryDirectory(prefix=".review-", dir=inventory.parent) as copy:
        shutil.copytree(inventory, copy, symlinks=True, dirs_exist_ok=True,
                        ignore=lambda folder, names: [name for name in names if _encrypted(Path(folder) / name)])
        yield Path(copy)


def _encrypted(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(VAULT)) == VAULT


def stand_in(folder: Path) -> None:
    """Credentials that the folder names, and keys that nobody has. Nothing else is made up: what targets are known by, or a key of a mask
    that the inventory does not give, is as missing as it would be on the gateway."""
    kinds: dict[str, str] = json.loads((folder / "credentials.json").read_text())
    (folder / "credentials").mkdir(exist_ok=True)
    (folder / "credentials").chmod(0o700)
    logins = _logins(folder)
    for name, kind in kinds.items():
        made = credential(kind) | ({"username": logins[name]} if kind == "password" and name in logins else {})
        private(folder / "credentials" / f"{name}.yaml", json.dumps(made).encode())
    (folder / "credentials.json").unlink()
    own_keys(folder)


def own_keys(folder: Path) -> None:
    """Those of ``GIVEN`` that the folder's settings ask for. ``init`` makes them, in a copy: it would also make the state that the gateway
    has, on this machine, and whatever else the folder lacks."""
    settings = yaml.safe_load((folder / "gateway.yaml").read_text())
    with tempfile.TemporaryDirectory(prefix="lockgate-review-") as scratch:
        copy = Path(scratch).resolve() / "folder"
        shutil.copytree(folder, copy, symlinks=True)
        (copy / "gateway.yaml").write_text(json.dumps({**settings, "state": "../state"}))
        lockgate("init", str(copy))
        for path in GIVEN:
            if (copy / path).is_file() and not (folder / path).exists():
                (folder / path).parent.mkdir(exist_ok=True)
                private(folder / path, (copy / path).read_bytes())


def private(path: Path, content: bytes) -> None:
    path.touch(0o600)
    path.write_bytes(content)


def credential(kind: str) -> dict[str, Any]:
    """What one of that kind must have; nobody has it."""
    needed = {key: about for key, about in KINDS.get(kind, {}).items() if about.required}
    found: dict[str, Any] = {key: [STAND_IN] if about.shape == "names" else STAND_IN for key, about in needed.items()}
    if kind == "certificate":
        key = fresh.new_key()
        found |= {"certificate": fresh.authority(key).public_bytes(Encoding.PEM).decode(), "private_key": fresh.key_pem(key).decode()}
    elif "private_key" in needed:
        found["private_key"] = fresh.audit_key().decode()
    elif kind == "mask-key":
        found["key"] = STAND_IN * (LEAST_KEY // len(STAND_IN))
    return {"kind": kind, **found}


def _logins(folder: Path) -> dict[str, str]:
    """By credential, a login of a resource that offers some: a password for SSH says whose it is."""
    draft = Draft(folder)
    read_policy(draft)
    found: dict[str, str] = {}
    for resource in (item.value for item in draft.lists["resources"]):
        own = speaks.settings(resource.protocol).more_credentials(resource)
        for login in getattr(resource, "logins", ()):
            found.setdefault(own.get(login, resource.credential), login)
    return found


def lockgate(*words: str) -> tuple[int, str]:
    """The program of this checkout, in this process: exit status and what it said."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = program(list(words))
    return status, out.getvalue().strip() or err.getvalue().strip()


def ask(after: Path, before: Path | None, compared: bool) -> Finding:
    """One gateway: is its folder good, and what would change."""
    status, said = lockgate("check", "--config", str(after), "--json")
    said = said.replace(f"{after}/", "")
    checked = json.loads(said) if said.startswith("{") else {"problems": [{"file": "", "line": 0, "key": "", "message": said}]}
    if status:
        return Finding(wrong=tuple(problem(one) for one in checked.get("problems", [])) or (said,))
    warnings = tuple(f"warning: {problem(one)}" for one in checked.get("warnings", []))
    wrong, revoked, facts = cases(after)
    changes = compare(before, after) if before is not None else (("a new gateway",) if compared else ())
    wider = any(line.startswith("WIDER") for line in changes) or (compared and before is None)
    return Finding(wrong, revoked, changes, wider, (*facts, *warnings))


def problem(one: dict[str, Any]) -> str:
    place = ":".join(str(part) for part in (one["file"], one["line"] or "", one["key"]) if part)
    return f"{place}: {one['message']}"


def cases(folder: Path) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """``policy test``: what failed, the cases of who is revoked, and what to say of the rest."""
    status, said = lockgate("policy", "test", "--config", str(folder))
    lines = said.splitlines()
    revoked = tuple(line for line in lines if line.startswith(("REVOKED ", "HELD ")))
    return (tuple(line for line in lines if line not in revoked) if status else (), revoked, tuple(lines[-1:]))


def compare(before: Path, after: Path) -> tuple[str, ...]:
    """Decisions, connections and settings that would change, most important first."""
    status, said = lockgate("policy", "diff", str(before), str(after))
    decisions = said.splitlines() if status else []
    if status not in (0, 1):
        decisions = ["WIDER  for all that is known: decisions cannot be compared:", *decisions]
    return (*decisions, *connections(before, after), *settings(before, after))


def connections(before: Path, after: Path) -> list[str]:
    """Listeners and destinations that come or go; an opening counts as wider."""
    old, new = (holes(folder) for folder in (before, after))
    return [f"WIDER  opens     {one}" for one in sorted(new - old)] + [f"       closes    {one}" for one in sorted(old - new)]


def holes(folder: Path) -> set[str]:
    """What a gateway listens on and where it connects, as text. Status 1: some of it has a name, which nobody looks up here."""
    status, said = lockgate("network", "--config", str(folder), "--json")
    if status not in (0, 1):
        return {f"what is not known: {' '.join(said.split())}"}
    network = json.loads(said)
    inward = {f"in {one['host']}:{one['port']} ({one['name']})" for one in network["listeners"]}
    return inward | {f"out {one['host']}:{one['port']} ({one['purpose']} {one['name']})" for one in network["destinations"]}


def settings(before: Path, after: Path) -> list[str]:
    """gateway.yaml, line by line."""
    old, new = ((folder / "gateway.yaml").read_text().splitlines() for folder in (before, after))
    lines = list(difflib.unified_diff(old, new, "gateway.yaml", "gateway.yaml", n=1, lineterm=""))
    return lines[2:]


def markdown(review: Review) -> str:
    """The report. Gateways of which the same is said share a section."""
    alike: dict[Finding, list[str]] = {}
    for name, finding in review.findings.items():
        alike.setdefault(finding, []).append(name)
    parts = [f"# What this change would do\n\nCompared with `{review.against}`." if review.against else "# What these folders are"]
    parts += [section(names, finding, bool(review.against)) for finding, names in alike.items()]
    gone = "This gateway is no longer in the inventory: run `playbooks/decommission.yml` for it first."
    parts += [f"## {titled(name)}\n\n{gone}" for name in review.gone]
    return "\n\n".join(parts) + "\n"


def section(names: Sequence[str], finding: Finding, compared: bool) -> str:
    lines = [f"## {titled(*names)}"]
    if finding.wrong:
        lines.append("**Refused:**\n\n" + fenced(finding.wrong))
    if finding.revoked:
        lines.append("Cases that come out otherwise as long as somebody is revoked (REVOKED: it does not hold, and stops nothing; HELD: "
                     "no rule denies it):\n\n" + fenced(finding.revoked))
    if finding.facts:
        lines.append(fenced(finding.facts))
    if finding.changes:
        lines.append(("**More would be possible than before.**\n\n" if finding.wider else "") + fenced(finding.changes))
    elif compared and not finding.wrong:
        lines.append("No decision, connection or setting changes.")
    return "\n\n".join(lines)


def titled(*names: str) -> str:
    """Names in a heading, where none is markup: a `<details>` would fold away what comes after it."""
    return html.escape(", ".join(" ".join(name.split()) for name in names)).replace("`", "&#96;")


def fenced(lines: Sequence[str]) -> str:
    """A code block that what is in it cannot end."""
    longest = max((len(run) for line in lines for run in line.split() if set(run) == {"`"}), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join((f"{fence}text", *lines, fence))


def _run(command: Sequence[str], extra: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **(extra or {})})
    if done.returncode:
        raise NotRendered(f"{Path(command[0]).name} {' '.join(command[1:4])} …: {(done.stderr + done.stdout).strip()[-3000:]}")
    return done.stdout


if __name__ == "__main__":
    raise SystemExit(main())
