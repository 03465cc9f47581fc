# SPDX-License-Identifier: Apache-2.0
"""Setuid and setgid bits: taken away everywhere but from a list, in a way that dpkg keeps to at the next upgrade."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: setuid_bits
short_description: Take setuid and setgid bits from every file but those named
description:
  - Walks the file systems and takes both bits from every regular file that is not allowed to have them.
  - Registers each with C(dpkg-statoverride), under every name dpkg may know it by (/bin/su is /usr/bin/su), so that an upgrade does not
    bring the bit back.
options:
  allowed:
    description: Paths that keep their bits.
    type: list
    elements: path
    required: true
  refused:
    description: Paths that are registered even where there is no such file yet.
    type: list
    elements: path
    default: []
  skipped:
    description: Folders that are not walked, beside those that are not on a disk.
    type: list
    elements: path
    default: []
author: Lockgate maintainers
"""

EXAMPLES = """
- name: Only sudo
  setuid_bits:
    allowed: [/usr/bin/sudo]
"""

RETURN = """
cleared: {description: files that lost a bit, type: list, returned: always}
registered: {description: paths that dpkg was told of, type: list, returned: always}
"""

BITS = stat.S_ISUID | stat.S_ISGID
NOT_ON_A_DISK = ("/dev", "/proc", "/run", "/sys")
MERGED = ("/usr/bin/", "/usr/sbin/", "/usr/lib/")


def privileged(skipped: set[str]) -> Iterator[str]:
    for folder, folders, files in os.walk("/"):
        folders[:] = [name for name in folders if str(Path(folder, name)) not in skipped]
        for path in (Path(folder, name) for name in files):
            try:
                mode = path.lstat().st_mode
            except OSError:
                continue  # gone since it was listed
            if stat.S_ISREG(mode) and mode & BITS:
                yield str(path)


def plain_mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode) & ~BITS


def names_of(path: str) -> list[str]:
    """Before trixie, packages know files of the merged folders without /usr."""
    return [path, path.removeprefix("/usr")] if path.startswith(MERGED) else [path]


def overrides(module: AnsibleModule) -> dict[str, str]:
    """Path to mode, as dpkg has them registered."""
    _, out, _ = module.run_command(["dpkg-statoverride", "--list"])
    fields = [line.split(maxsplit=3) for line in out.splitlines()]
    return {path: mode for _, _, mode, path in (line for line in fields if len(line) == 4)}


def register(module: AnsibleModule, path: str) -> None:
    mode = plain_mode(Path(path)) if Path(path).exists() else 0o755
    module.run_command(["dpkg-statoverride", "--force-statoverride-add", "--add", "root", "root", f"{mode:04o}", path], check_rc=True)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "allowed": {"type": "list", "elements": "path", "required": True},
            "refused": {"type": "list", "elements": "path", "default": []},
            "skipped": {"type": "list", "elements": "path", "default": []},
        },
        supports_check_mode=True,
    )
    allowed = set(module.params["allowed"])
    found = sorted(set(privileged({*NOT_ON_A_DISK, *module.params["skipped"]})) - allowed)
    known = overrides(module)
    wanted = [name for path in [*found, *module.params["refused"]] if path not in allowed for name in names_of(path)]
    missing = sorted({name for name in wanted if int(known.get(name, "7777"), 8) & BITS})
    if not module.check_mode:
        for path in missing:
            register(module, path)
        for file in map(Path, found):
            file.chmod(plain_mode(file))
    diff = {"before": "".join(f"{path}\n" for path in found), "after": ""}
    module.exit_json(changed=bool(found or missing), cleared=found, registered=missing, diff=diff)


if __name__ == "__main__":
    main()
