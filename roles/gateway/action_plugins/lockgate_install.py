# SPDX-License-Identifier: Apache-2.0
"""The controller's half of ``lockgate_install``: reads the wheelhouse, and sends it as one file only where it is wanted."""

from __future__ import annotations

import json
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible ships no types
    """Asks the host first."""

    TRANSFERS_FILES = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        given = dict(self._task.args)
        folder = Path(str(given.pop("wheels")))
        manifest = read_manifest(folder, str(given["version"]))
        requirements = (folder / "requirements.txt").read_text()
        words = {**given, "python": manifest["python"], "files": manifest["files"], "requirements": requirements}
        result |= self._execute_module("lockgate_install", words, task_vars=task_vars)
        if result.get("wanted") and not self._task.check_mode:
            result |= self._execute_module("lockgate_install", {**words, "archive": self._send(folder, manifest)}, task_vars=task_vars)
        self._remove_tmp_path(self._connection._shell.tmpdir)
        return result

    def _send(self, folder: Path, manifest: dict[str, Any]) -> str:
        if not self._connection._shell.tmpdir:
            self._make_tmp_path()
        remote: str = self._connection._shell.join_path(self._connection._shell.tmpdir, "wheels.tar")
        with tempfile.NamedTemporaryFile(suffix=".tar") as local:
            with tarfile.open(local.name, "w") as tar:
                for name in sorted(manifest["files"]):
                    tar.add(folder / name, arcname=name)
            self._transfer_file(local.name, remote)
        return remote


def read_manifest(folder: Path, version: str) -> dict[str, Any]:
    """What the wheelhouse says it is. Raises ``AnsibleActionFail``."""
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    except (OSError, ValueError) as wrong:
        raise AnsibleActionFail(f"{folder} is no wheelhouse ({wrong}): tools/make-wheelhouse DIR cp313") from None
    if manifest["version"] != version:
        raise AnsibleActionFail(f"{folder} holds lockgate {manifest['version']}, and the inventory asks for {version} (gateway_version)")
    return manifest
