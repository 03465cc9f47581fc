# SPDX-License-Identifier: Apache-2.0
"""Kernel settings as they run: what can be set and differs is set, what cannot is named."""

from __future__ import annotations

import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: kernel_settings
short_description: Bring the kernel's running settings to the wanted values
description:
  - Writes below /proc/sys what differs. A C(*) in a name reaches every interface there is.
  - What this kernel does not have, or what this host may not write (a container), is returned by name and never passed off as set.
  - Keeping the values over a restart is the matter of /etc/sysctl.d.
options:
  values:
    description: Setting to value, names as sysctl writes them.
    type: dict
    required: true
author: Lockgate maintainers
"""

EXAMPLES = """
- name: No routing
  kernel_settings:
    values: {net.ipv4.ip_forward: 0}
"""

RETURN = """
refused: {description: settings that this host may not write and that differ, type: list, returned: always}
unknown: {description: settings that this kernel does not have, type: list, returned: always}
"""

PROC = Path("/proc/sys")


def paths_of(name: str) -> list[Path]:
    return sorted(PROC.glob(name.replace(".", "/")))


def same(running: str, wanted: str) -> bool:
    return running.split() == wanted.split()


def name_of(path: Path) -> str:
    return str(path.relative_to(PROC)).replace("/", ".")


def survey(values: dict[str, object]) -> tuple[dict[Path, tuple[str, str]], list[str], list[str]]:
    """What to write (path to running and wanted), what may not be written, what is not there. A later name wins over an earlier one."""
    wanted = {path: str(value) for name, value in values.items() for path in paths_of(name)}
    unknown = [name for name in values if not paths_of(name)]
    to_write: dict[Path, tuple[str, str]] = {}
    refused: list[str] = []
    for path, value in wanted.items():
        try:
            running = path.read_text().strip()
        except OSError:
            refused.append(name_of(path))
            continue
        if same(running, value):
            continue
        if os.access(path, os.W_OK):
            to_write[path] = (running, value)
        else:
            refused.append(name_of(path))
    return to_write, refused, unknown


def write(path: Path, value: str) -> bool:
    try:
        path.write_text(f"{value}\n")
    except OSError:
        return False
    return True


def main() -> None:
    module = AnsibleModule(argument_spec={"values": {"type": "dict", "required": True}}, supports_check_mode=True)
    to_write, refused, unknown = survey(module.params["values"])
    written = dict(to_write)
    if not module.check_mode:
        # all.* before the interfaces: writing it may overwrite theirs
        for path, (_, value) in sorted(to_write.items(), key=lambda item: ("all" not in item[0].parts, str(item[0]))):
            if not write(path, value):
                refused.append(name_of(path))
                del written[path]
    diff = {
        "before": "".join(f"{name_of(path)} = {old}\n" for path, (old, _) in sorted(written.items())),
        "after": "".join(f"{name_of(path)} = {new}\n" for path, (_, new) in sorted(written.items())),
    }
    module.exit_json(changed=bool(written), refused=sorted(refused), unknown=sorted(unknown), diff=diff)


if __name__ == "__main__":
    main()
