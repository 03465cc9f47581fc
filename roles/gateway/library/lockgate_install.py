# SPDX-License-Identifier: Apache-2.0
"""A release of the gateway in a folder of its own, from carried-in wheels: no index, no network, every file checked against its hash."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: lockgate_install
short_description: Install a release of the gateway beside the one that runs
description:
  - Makes C(PREFIX/releases/VERSION), a virtual environment of the host's Python with exactly the wheels of a wheelhouse, compiled, owned by
    root. pip comes from its own wheel, runs once and does not stay.
  - What runs is not touched. Only where there is no C(current) release yet, the new one becomes it.
  - A version is installed once. Other wheels under the same version are refused.
options:
  wheels: {description: Folder on the controller that make-wheelhouse wrote., type: path, required: true}
  version: {description: The version that the wheelhouse has to be of., type: str, required: true}
  prefix: {description: Where releases are., type: path, default: /opt/lockgate}
  keep: {description: Releases that stay beside the current and the previous one., type: int, default: 5}
author: Lockgate maintainers
"""

EXAMPLES = """
- name: Install
  lockgate_install: {wheels: build/wheelhouse-cp313, version: 0.1.0}
"""

RETURN = """
release: {description: The release's folder., type: str, returned: always}
"""

PYTHON = "/usr/bin/python3"
MARK = "installed.json"
QUIET = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "PIP_CONFIG_FILE": "/dev/null", "PYTHONDONTWRITEBYTECODE": "1"}


class Wrong(Exception):
    """Why there is no such release now."""


def sealed(files: Mapping[str, str]) -> str:
    """One digest for a set of wheels."""
    return hashlib.sha256(json.dumps(dict(sorted(files.items()))).encode()).hexdigest()


def installed(release: Path) -> str | None:
    """The digest of the wheels that a finished release was made of."""
    try:
        found = json.loads((release / MARK).read_text())["wheels"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(found)


def unpack(archive: Path, folder: Path, files: Mapping[str, str]) -> None:
    """Write exactly the named wheels, each with the content its hash says."""
    with tarfile.open(archive) as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isfile() else None
            if content is None or member.name not in files:
                raise Wrong(f"the wheelhouse holds {member.name}, which its manifest does not name")
            data = content.read()
            if hashlib.sha256(data).hexdigest() != files[member.name]:
                raise Wrong(f"{member.name} is not what the manifest says it is")
            (folder / member.name).write_bytes(data)
    if missing := sorted(name for name in files if not (folder / name).exists()):
        raise Wrong(f"the wheelhouse lacks {', '.join(missing)}")


def pins(requirements: str) -> str:
    """The requirements without pip: it installs, and does not stay on a gateway."""
    return "".join(line for line in requirements.splitlines(keepends=True) if not line.startswith("pip=="))


def run(*command: str) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, env=QUIET, cwd="/")
    if done.returncode:
        raise Wrong(f"{' '.join(command[:4])} …: {done.stdout.strip()[-2000:]}")
    return done.stdout.strip()


def fill(release: Path, wheels: Path, requirements: str) -> None:
    """The virtual environment and everything in it."""
    python = str(release / "bin" / "python")
    wanted = wheels / "requirements.txt"
    wanted.write_text(pins(requirements))
    run(PYTHON, "-m", "venv", "--without-pip", str(release))
    pip = next(wheels.glob("pip-*.whl"))
    run(python, f"{pip}/pip", "install", "--quiet", "--no-index", "--find-links", str(wheels), "--require-hashes", "--no-deps",
        "--no-compile", "--no-cache-dir", "--disable-pip-version-check", "--root-user-action", "ignore", "-r", str(wanted))
    for script in (release / "bin").iterdir():
        if not script.name.startswith(("python", "lockgate")):
            script.unlink()
    # Bytecode that follows the source's content and not its time: the same wheels give the same bytes.
    run(python, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", str(release / "lib"))


def install(module: AnsibleModule, release: Path, digest: str) -> None:
    """Make the release anew, with its mark written last. Raises ``Wrong``."""
    given = module.params
    tag = run(PYTHON, "-c", "import sys; print('cp%d%d' % sys.version_info[:2])")
    if tag != given["python"]:
        raise Wrong(f"the wheelhouse is for {given['python']}, this host's Python is {tag}: make-wheelhouse DIR {tag}")
    shutil.rmtree(release, ignore_errors=True)
    os.umask(0o022)
    release.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=module.tmpdir) as scratch:
        wheels = Path(scratch)
        unpack(Path(given["archive"]), wheels, given["files"])
        fill(release, wheels, given["requirements"])
    said = run(str(release / "bin" / "lockgate"), "--version")
    if said != f"lockgate {given['version']}":
        raise Wrong(f"the wheelhouse was to hold lockgate {given['version']}, and holds {said}")
    (release / MARK).write_text(json.dumps({"wheels": digest, "python": tag}) + "\n")
    os.sync()


def first(prefix: Path, release: Path) -> bool:
    """Make it the current release where there is none."""
    if os.path.lexists(prefix / "current"):
        return False
    (prefix / "current").symlink_to(Path("releases") / release.name)
    return True


def old(prefix: Path, release: Path, keep: int) -> list[Path]:
    """Releases that nobody would go back to: not the newest few, the current or the previous."""
    named = {(prefix / link).resolve() for link in ("current", "previous")} | {release.resolve()}
    others = [path for path in (prefix / "releases").iterdir() if path.is_dir() and path.resolve() not in named]
    return sorted(others, key=lambda path: path.stat().st_mtime, reverse=True)[keep:]


def main() -> None:
    module = AnsibleModule(supports_check_mode=True, argument_spec={
        "version": {"type": "str", "required": True}, "python": {"type": "str", "required": True},
        "files": {"type": "dict", "required": True}, "requirements": {"type": "str", "required": True},
        "prefix": {"type": "path", "default": "/opt/lockgate"},
        "keep": {"type": "int", "default": 5}, "archive": {"type": "path"}})
    prefix, digest = Path(module.params["prefix"]), sealed(module.params["files"])
    release = prefix / "releases" / module.params["version"]
    answer = {"release": str(release), "wanted": False}
    found = installed(release)
    if found is not None and found != digest:
        module.fail_json(msg=f"another build of {module.params['version']} is installed on this host; give this one a version of its own "
                             "(make-wheelhouse --local LABEL)", **answer)
    diff = {"before": "", "after": f"{release}\n"}
    if found == digest:
        module.exit_json(changed=False, **answer)
    if module.check_mode or not module.params["archive"]:
        module.exit_json(changed=True, diff=diff, **{**answer, "wanted": True})
    try:
        install(module, release, digest)
    except Wrong as wrong:
        shutil.rmtree(release, ignore_errors=True)
        module.fail_json(msg=str(wrong), **answer)
    first(prefix, release)
    for path in old(prefix, release, module.params["keep"]):
        shutil.rmtree(path)
    module.exit_json(changed=True, diff=diff, **answer)


if __name__ == "__main__":
    main()
