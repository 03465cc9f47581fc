# SPDX-License-Identifier: Apache-2.0
"""What the gateway on this host runs: a program and a configuration folder, put in force together or not at all.

A folder is written beside the others under the hash of its content and checked there by the program that is to serve it, as the service
user; where it comes from the inventory, its own cases under policy/tests have to hold too. Only then the links ``current`` are switched,
the service is reloaded or restarted, and asked whether it is ready and really runs that folder. If not, the links go back, the old state is
put in force again, and the task fails with what the gateway said.
"""

from __future__ import annotations

import base64
import contextlib
import grp
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: lockgate_release
short_description: Put a program and a configuration folder in force, or change nothing
options:
  settings: {description: gateway.yaml as data; without it the folder stays as it is but for links and copies., type: dict}
  segment_folder: {description: Folder on the controller with policy/ and trust/., type: path}
  links: {description: 'Paths in the folder that are symbolic links, and where to (credentials).', type: dict, default: {}}
  copies: {description: 'Paths in the folder that are copies of files of this host (certificates), and which.', type: dict, default: {}}
  version: {description: 'The release of the program; C(previous) for the one before; without it the current one.', type: str, default: ''}
  restart:
    description: C(never) refuses what only a restart puts in force, C(needed) restarts for that.
    type: str
    choices: [never, needed]
    default: needed
  keep: {description: Configuration folders that stay beside the current and the previous one., type: int, default: 5}
  wait: {description: Seconds that the gateway has to become ready., type: int, default: 60}
author: Lockgate maintainers
"""

EXAMPLES = """
- name: Policy
  lockgate_release:
    settings: "{{ gateway_settings }}"
    segment_folder: "{{ inventory_dir }}/segments/plant-a"
    restart: never
"""

RETURN = """
folder: {description: The configuration folder that is in force., type: str, returned: always}
release: {description: The release of the program that is in force., type: str, returned: always}
policy: {description: The digest of the policy that the running gateway says it serves., type: str, returned: always}
applied: {description: 'What was done: nothing, switched, reload or restart.', type: str, returned: always}
"""

USER = "lockgate"
UNIT = "lockgate.service"
NETWORK = "lockgate-network.service"
CREDENTIALS = "lockgate-credentials.service"
BLOBS = Path("/var/lib/lockgate-credentials")
VERDICT = Path("/run/lockgate/serving.json")
QUIET = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
UNIT_FILE = Path("/etc/systemd/system") / UNIT
BY_LIST = {"revoked_cases": "REVOKED (does not hold as long as that is so)", "held_cases": "HELD (no rule denies it, only that does)"}
"""How cases that come out otherwise by the revoked list alone are told; an older program names none of a kind."""
WARNINGS = 40
"""More are counted, not told."""
STARTED = "started.json"
"""Beside the folders: a digest of what only a restart puts in force, as of the last start."""


class Wrong(Exception):
    """Why nothing was changed, or why it was taken back."""


@dataclass(frozen=True)
class Content:
    """What a folder is to hold: files by path, and links by path."""

    files: Mapping[str, bytes]
    links: Mapping[str, str]

    @property
    def id(self) -> str:
        """The first 16 hex digits of a hash over names and contents."""
        seen = hashlib.sha256()
        for kind, entries in ((b"file", self.files), (b"link", {path: to.encode() for path, to in self.links.items()})):
            for path in sorted(entries):
                seen.update(kind + b"\0" + path.encode() + b"\0" + hashlib.sha256(entries[path]).digest())
        return seen.hexdigest()[:16]

    def shown(self) -> dict[str, str]:
        """For a diff: what is in a folder is policy and settings, secrets are behind the links."""
        return {**{path: data.decode(errors="replace") for path, data in self.files.items()},
                **{path: f"-> {to}\n" for path, to in self.links.items()}}


def read(folder: Path) -> Content:
    """What a folder holds; nothing where there is none."""
    found = [path for path in folder.rglob("*") if path.is_symlink() or path.is_file()]
    return Content(files={str(path.relative_to(folder)): path.read_bytes() for path in found if not path.is_symlink()},
                   links={str(path.relative_to(folder)): str(path.readlink()) for path in found if path.is_symlink()})


def difference(before: Content, after: Content) -> list[dict[str, str]]:
    """Every path that changes, as Ansible shows it."""
    old, new = before.shown(), after.shown()
    return [{"before_header": path, "after_header": path, "before": old.get(path, ""), "after": new.get(path, "")}
            for path in sorted({*old, *new}) if old.get(path) != new.get(path)]


def write(folder: Path, content: Content, group: int) -> None:
    """All of it, for root to write and the service to read."""
    folder.chmod(0o750)
    os.chown(folder, 0, group)
    for path in sorted({*content.files, *content.links}):
        _folders(folder, Path(path).parent, group)
        if path in content.links:
            (folder / path).symlink_to(content.links[path])
            continue
        (folder / path).write_bytes(content.files[path])
        (folder / path).chmod(0o640)
        os.chown(folder / path, 0, group)


def _folders(top: Path, below: Path, group: int) -> None:
    for parent in (*reversed(below.parents), below):
        if not (top / parent).exists():
            (top / parent).mkdir(mode=0o750)
            os.chown(top / parent, 0, group)


def switch(link: Path, target: Path | None) -> None:
    """Let ``link`` point to ``target`` from one moment to the next; away with it where that is nothing."""
    if target is None:
        link.unlink(missing_ok=True)
        return
    fresh = link.with_name(f".{link.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(os.path.relpath(target, link.parent))
    fresh.replace(link)


def pointed(link: Path) -> Path | None:
    return link.parent / link.readlink() if link.is_symlink() else None


@dataclass(frozen=True)
class Verdict:
    """What the running gateway said last (``serving.json``); all empty where none runs."""

    started: str = ""
    folder: str = ""
    policy: str = ""
    version: str = ""
    refused: str = ""
    began: float = 0.0


def plain(path: Path) -> bytes:
    """What a service wrote, read by root: a pipe would hold this up, a link lead anywhere. Raises ``OSError``."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        return file.read(2**20)


class Host:
    """The service on this host; silent where systemd does not run, as while an image is built."""

    def __init__(self, root: Path, prefix: Path) -> None:
        self.config, self.program = root / "current", prefix / "current"
        self.active = Path("/run/systemd/system").is_dir() and self._asks("is-active", UNIT)

    def _asks(self, *words: str) -> bool:
        return subprocess.run(("systemctl", "--quiet", *words), capture_output=True, check=False, env=QUIET).returncode == 0

    def verdict(self) -> Verdict:
        if not self.active:
            return Verdict()
        try:
            said = json.loads(plain(VERDICT))
            words = {name: str(said.get(name) or "") for name in ("started", "folder", "policy", "version", "refused")}
            return Verdict(**words, began=float(said["began"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return Verdict()

    def decrypted(self) -> float:
        """When credentials were last handed to the gateway, by the clock of its verdicts (CLOCK_MONOTONIC)."""
        command = ("systemctl", "show", "--property", "ActiveEnterTimestampMonotonic", "--value", CREDENTIALS)
        said = subprocess.run(command, capture_output=True, text=True, check=False, env=QUIET).stdout.strip()
        return int(said) / 1e6 if said.isdecimal() else 0.0

    def apply(self, how: str, wait: int) -> None:
        """Put in force what the links say, and see that it is. Raises ``Wrong``."""
        if not self.active:
            return
        if self._asks("is-active", NETWORK) or self._asks("is-enabled", NETWORK):  # it may have failed, or been stopped, and is wanted
            self._must("systemctl", "reload-or-restart", NETWORK)
        if how == "restart":
            self._asks("daemon-reload")
            self._asks("reset-failed", UNIT)
        self._must("systemctl", how, UNIT)
        self._must(str(self.program / "bin" / "lockgate"), "ready", "--config", str(self.config), "--wait", f"{wait}s")
        if (runs := self.verdict().folder) != str(self.config.resolve()):
            raise Wrong(f"the gateway still runs {runs or 'something that it does not name'}")

    def _must(self, *command: str) -> None:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, env=QUIET, cwd="/")
        if done.returncode:
            said = self.verdict().refused or self._journal() or done.stdout.strip()
            raise Wrong(f"{' '.join(command[:3])}: {said}")

    def _journal(self) -> str:
        command = ("journalctl", "--unit", UNIT, "--lines", "12", "--output", "cat", "--no-pager", "--quiet")
        return subprocess.run(command, capture_output=True, text=True, check=False, env=QUIET).stdout.strip()


def asked(program: Path, folder: Path, *verb: str) -> subprocess.CompletedProcess[str]:
    """What the program says of the folder, as the service user."""
    return subprocess.run(
        (str(program / "bin" / "lockgate"), *verb, "--config", str(folder), "--json"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, check=False, env=QUIET, cwd="/", user=USER, group=USER, extra_groups=[])


def checked(program: Path, folder: Path) -> list[str]:
    """``lockgate check``. Raises ``Wrong`` with every problem. Returns what an operator should look at all the same."""
    done = asked(program, folder, "check")
    try:
        said = json.loads(done.stdout)
        problems, warnings = [[placed(one) for one in said.get(kind, [])] for kind in ("problems", "warnings")]
    except (ValueError, KeyError, TypeError, AttributeError):
        problems = warnings = []
    if done.returncode == 0:
        return warnings
    raise Wrong("lockgate check refuses the folder, nothing was changed: " + "; ".join(problems or [done.stdout.strip()[-2000:]]))


def placed(problem: Mapping[str, Any]) -> str:
    """Where it is, and what."""
    return f"{problem['file']}:{problem['line']}: {problem['key']}: {problem['message']}"


def tested(program: Path, folder: Path) -> list[str]:
    """``lockgate policy test``, where the folder has cases. Raises ``Wrong`` with every case that does not hold. Returns those that come
    out otherwise by the revoked list alone, either way: the program lets them be, an access that has to end now waits for no case."""
    if not any(folder.glob("policy/tests/**/*.yaml")):
        return []
    done = asked(program, folder, "policy", "test")
    try:
        said = json.loads(done.stdout)
        failures = [f"{shown(one)}: {differs(one)}" for one in said["failures"]]
        by_list = [f"{state}: {shown(one)}: {one['reason']}" for kind, state in BY_LIST.items() for one in said.get(kind, [])]
    except (ValueError, KeyError, TypeError, AttributeError):
        failures = by_list = []
    if done.returncode == 0:
        return by_list
    raise Wrong("lockgate policy test refuses the folder, nothing was changed: " + "; ".join(failures or [done.stdout.strip()[-2000:]]))


def shown(case: Mapping[str, Any]) -> str:
    """Whose case it is, and what it asks."""
    return f"{case['identity']} on {case['resource']}: {json.dumps(case['asked'])}"


def differs(failure: Mapping[str, Any]) -> str:
    """In what a case came out otherwise than it says."""
    return ", ".join(f"{key}: expected {both['expected']}, got {both['got']}" for key, both in failure["differs"].items())


class Work:
    """One run of the module."""

    def __init__(self, module: AnsibleModule) -> None:
        given = module.params
        self.module, self.given = module, given
        self.root, self.prefix = Path(given["root"]), Path(given["prefix"])
        self.host = Host(self.root, self.prefix)
        self.config, self.program = pointed(self.root / "current"), pointed(self.prefix / "current")
        self.content = self._content()
        self.folder = self.root / "releases" / self.content.id if self.content else self.config
        self.release = self._release()

    def _content(self) -> Content | None:
        there = read(self.config) if self.config is not None else None
        if self.given["files"] is not None:
            there = Content({path: base64.b64decode(data) for path, data in self.given["files"].items()}, self.given["links"])
        if there is None:
            return None
        copies = {}
        for path, source in self.given["copies"].items():
            with contextlib.suppress(FileNotFoundError):
                copies[path] = Path(source).read_bytes()
        return Content({**there.files, **copies}, self.given["links"] or there.links)

    def _release(self) -> Path | None:
        version = self.given["version"]
        if version == "previous":
            found = pointed(self.prefix / "previous")
            if found is None or not found.is_dir():
                raise Wrong("there is no previous release on this host")
            return found
        return self.prefix / "releases" / version if version else self.program

    def needs(self) -> dict[str, str]:
        """What a reload cannot change, as digests: settings; and certificates, keys (as they are encrypted) and the unit."""
        assert self.content is not None
        files = {path: data for path, data in self.content.files.items() if path.startswith("tls/")}
        files |= {str(path): path.read_bytes() for path in (UNIT_FILE, *BLOBS.glob("tls.*.cred")) if path.exists()}
        kept = {path: hashlib.sha256(data).hexdigest() for path, data in sorted(files.items())}
        settings = self.started().get("settings", "") if self.given["files"] is None else self.given["restart_settings"]
        return {"settings": settings, "files": hashlib.sha256(json.dumps(kept).encode()).hexdigest()}

    def started(self) -> dict[str, str]:
        """The same, as of the last start."""
        try:
            return dict(json.loads((self.root / STARTED).read_text()))
        except (OSError, ValueError):
            return {}

    def how(self) -> str:
        """nothing, switched, reload or restart."""
        same = self.folder == self.config and self.release == self.program and self.intact()
        if not self.host.active:
            return "nothing" if same else "switched"
        said = self.host.verdict()
        if self.content is not None and self.needs() != self.started():
            return "restart"
        if self.release is not None and said.version != self.release.name:
            return "restart"
        return "nothing" if same and said.folder == str(self.folder) and said.began > self.host.decrypted() else "reload"

    def intact(self) -> bool:
        """Whether the folder still holds what its name says."""
        return self.content is None or (self.folder is not None and self.folder.is_dir() and read(self.folder).id == self.content.id)

    def build(self) -> None:
        """The folder under its final name, checked before it gets it."""
        if self.content is None or self.folder is None:
            return
        if self.module.check_mode and not self.root.is_dir():
            return
        group = grp.getgrnam(USER).gr_gid
        self._make_root(group)
        with tempfile.TemporaryDirectory(dir=self.root, prefix=".staging-") as scratch:
            os.chown(scratch, 0, group)
            Path(scratch).chmod(0o750)
            staging = Path(scratch) / "folder"
            staging.mkdir()
            write(staging, self.content, group)
            self._check(staging)
            if self.module.check_mode:
                return
            if self.folder.exists():
                self.folder.rename(Path(scratch) / "replaced")
            staging.rename(self.folder)
        os.sync()

    def _make_root(self, group: int) -> None:
        for folder in (self.root, self.root / "releases"):
            if not folder.exists():
                folder.mkdir(mode=0o750, parents=True)
                os.chown(folder, 0, group)

    def _check(self, staging: Path) -> None:
        program = self.release if self.release and self.release.is_dir() else self.program
        dangling = any(not Path(to).exists() for to in self.given["links"].values())
        if self.module.check_mode and (program is None or dangling):
            return
        self.accepted(program or self.prefix / "current", staging)

    def accepted(self, program: Path, folder: Path) -> None:
        """Raises ``Wrong`` where the program refuses the folder, or a policy out of the inventory fails its own cases."""
        warnings = checked(program, folder)
        if self.given["files"] is None:
            return
        warnings += tested(program, folder)
        for warning in warnings[:WARNINGS]:
            self.module.warn(warning)
        if len(warnings) > WARNINGS:
            self.module.warn(f"{len(warnings) - WARNINGS} more: `lockgate check` and `lockgate policy test` on the gateway say all of them")

    def apply(self, how: str) -> None:
        """Switch, put in force; back again if that fails. Raises ``Wrong``."""
        links = {link: pointed(link) for top in (self.root, self.prefix) for link in (top / "current", top / "previous")}
        self._switch(self.root, self.folder, self.config)
        self._switch(self.prefix, self.release, self.program)
        try:
            self.host.apply(how, self.given["wait"])
        except Wrong as wrong:
            raise Wrong(f"{wrong}; {self._back(how, links)}") from None
        if how != "reload" and self.content is not None:
            self._note()

    def _note(self) -> None:
        fresh = self.root / f".{STARTED}.new"
        fresh.write_text(json.dumps(self.needs()))
        fresh.chmod(0o600)
        fresh.replace(self.root / STARTED)

    @staticmethod
    def _switch(top: Path, target: Path | None, before: Path | None) -> None:
        if target is None or target == before:
            return
        if before is not None:
            switch(top / "previous", before)
        switch(top / "current", target)

    def _back(self, how: str, links: Mapping[Path, Path | None]) -> str:
        for link, target in links.items():
            switch(link, target)
        try:
            self.host.apply(how, self.given["wait"])
        except Wrong as wrong:
            return f"what ran before was put back and is not in force either: {wrong}"
        return "what ran before is in force again"

    def prune(self) -> None:
        """Folders that nobody would go back to."""
        kept = {(self.root / link).resolve() for link in ("current", "previous")} | {Path(self.host.verdict().started)}
        others = [path for path in (self.root / "releases").iterdir() if path.is_dir() and path.resolve() not in kept]
        for path in sorted(others, key=lambda one: one.stat().st_mtime, reverse=True)[self.given["keep"]:]:
            shutil.rmtree(path)


def act(work: Work) -> tuple[str, list[dict[str, str]]]:
    """What was done, and what it changed. Raises ``Wrong``."""
    how = work.how()
    diff = difference(read(work.config) if work.config else Content({}, {}), work.content) if work.content else []
    if work.release != work.program:
        diff.append({"before": f"{work.program or ''}\n", "after": f"{work.release}\n"})
    if how == "nothing":
        return how, []
    if how == "restart" and work.given["restart"] == "never":
        raise Wrong("these settings, or this program, need a restart, and only policy was to change: use deploy.yml or upgrade.yml")
    if not work.intact():
        work.build()
    elif work.release is not None and work.release.is_dir() and work.folder is not None and work.release != work.program:
        work.accepted(work.release, work.folder)
    if not work.module.check_mode:
        work.apply(how)
        work.prune()
    return how, diff


ARGUMENTS = {
    "files": {"type": "dict"}, "links": {"type": "dict", "default": {}}, "copies": {"type": "dict", "default": {}},
    "restart_settings": {"type": "str", "default": ""}, "version": {"type": "str", "default": ""},
    "restart": {"type": "str", "choices": ["never", "needed"], "default": "needed"},
    "keep": {"type": "int", "default": 5}, "wait": {"type": "int", "default": 60},
    "root": {"type": "path", "default": "/var/lib/lockgate-config"}, "prefix": {"type": "path", "default": "/opt/lockgate"},
}


def main() -> None:
    module = AnsibleModule(supports_check_mode=True, argument_spec=ARGUMENTS)
    try:
        work = Work(module)
        how, diff = act(work)
    except Wrong as wrong:
        module.fail_json(msg=str(wrong))
    module.exit_json(changed=how != "nothing", applied=how, folder=str(work.folder or ""), release=str(work.release or ""),
                     policy=work.host.verdict().policy, diff=diff)


if __name__ == "__main__":
    main()
