#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Gathers the evidence of controls on this host.

Each command runs in a mount namespace of its own where every file system is read-only: looking cannot change the host, whatever the
command is.
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: control_evidence
short_description: Run the evidence commands of controls, read-only
description: [Runs each control's evidence with every file system mounted read-only and compares what it answers with what it must.]
author: [Lockgate maintainers]
options:
  controls: {description: "Entries of the register: id, scope, evidence.", type: list, elements: dict, required: true}
  scopes: {description: Which scopes apply here. Empty finds it out., type: list, elements: str, default: []}
  seconds: {description: How long one command may take., type: int, default: 60}
"""
EXAMPLES = r"""
- name: Look
  control_evidence:
    controls:
      - {id: OSB-03, scope: host, evidence: {command: [passwd, --status, root], stdout_regex: '\Aroot L '}}
"""
RETURN = r"""
scopes: {description: The scopes that apply here., type: list, returned: always}
observed: {description: "By id: status (pass, fail, not applicable) and evidence.", type: dict, returned: always}
"""
SHOWN = 1500
_NEWNS, _REC, _PRIVATE, _RDONLY, _RECURSIVE, _HERE = 0x20000, 0x4000, 1 << 18, 1, 0x8000, -100
_MOUNT_SETATTR = 442  # the same number on every architecture
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ENVIRONMENT = {"LC_ALL": "C.UTF-8", "PATH": _PATH, "SYSTEMD_PAGER": "", "TERM": "dumb"}


class _Attributes(ctypes.Structure):
    """struct mount_attr of mount_setattr(2)."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]


def everything_read_only() -> None:
    """For the process that calls it and its children. Raises ``OSError``; then the command must not run."""
    library = ctypes.CDLL(None, use_errno=True)
    wanted = _Attributes(set=_RDONLY)
    for result in (
        library.unshare(_NEWNS), library.mount(None, b"/", None, _REC | _PRIVATE, None),
        library.syscall(_MOUNT_SETATTR, _HERE, b"/", _RECURSIVE, ctypes.byref(wanted), ctypes.sizeof(wanted)),
    ):
        if result != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def observe(evidence: dict[str, Any], seconds: int, before: Callable[[], None] | None = everything_read_only) -> dict[str, Any]:
    """One command: what it answered, and whether that is what it must."""
    said: dict[str, Any] = {"command": [str(word) for word in evidence["command"]], "rc": None, "stdout": "", "stderr": ""}
    try:
        done = subprocess.run(said["command"], capture_output=True, stdin=subprocess.DEVNULL, timeout=seconds, check=False, cwd="/",
                              env=_ENVIRONMENT, preexec_fn=before)
    except (OSError, subprocess.SubprocessError) as error:
        return said | {"stderr": f"{type(error).__name__}: {error}"[:SHOWN], "good": False}
    out, err = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
    return said | {"rc": done.returncode, "stdout": out[:SHOWN], "stderr": err[:SHOWN], "good": good(evidence, done.returncode, out, err)}


def good(evidence: dict[str, Any], status: int, out: str, err: str) -> bool:
    """Silence on standard output together with complaints is no evidence of absence: the command did not look."""
    if status < 0 or (not out.strip() and err.strip() and "rc" not in evidence):
        return False
    wanted = evidence.get("rc", None if "stdout_regex" in evidence else 0)
    return (wanted is None or status == int(wanted)) and re.search(str(evidence.get("stdout_regex", "")), out) is not None


def scopes_here(root: Path = Path("/")) -> list[str]:
    """``host`` everywhere; ``vm`` where the kernel is the host's own; ``image`` where the system came as one."""
    contained = subprocess.run(["systemd-detect-virt", "--container", "--quiet"], check=False).returncode == 0
    release = root / "etc/lockgate-appliance/release.json"
    image = release.is_file() and '"image_id"' in release.read_text(encoding="utf-8", errors="replace")
    return ["host", *([] if contained else ["vm"]), *(["image"] if image else [])]


def control(entry: dict[str, Any], scopes: list[str], seconds: int) -> dict[str, Any]:
    """The observation of one control."""
    if entry["scope"] not in scopes:
        return {"status": "not applicable", "evidence": [], "why": f"only where the scope is {entry['scope']}"}
    asked = entry["evidence"] if isinstance(entry["evidence"], list) else [entry["evidence"]]
    seen = [observe(evidence, seconds) for evidence in asked]
    return {"status": "pass" if seen and all(one["good"] for one in seen) else "fail", "evidence": seen}


def main() -> None:
    module = AnsibleModule(supports_check_mode=True, argument_spec={
        "controls": {"type": "list", "elements": "dict", "required": True},
        "scopes": {"type": "list", "elements": "str", "default": []},
        "seconds": {"type": "int", "default": 60},
    })
    given = module.params
    try:
        scopes = given["scopes"] or scopes_here()
        observed = {entry["id"]: control(entry, scopes, given["seconds"]) for entry in given["controls"]}
    except (KeyError, TypeError, ValueError, OSError, re.error) as wrong:
        module.fail_json(msg=f"a control cannot be looked at: {type(wrong).__name__}: {wrong}")
    module.exit_json(changed=False, scopes=scopes, observed=observed)


if __name__ == "__main__":
    main()
