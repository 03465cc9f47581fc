# SPDX-License-Identifier: Apache-2.0
"""The controller's half of ``lockgate_release``: reads the segment's folder byte by byte and writes gateway.yaml from data.

Nothing in the segment's folder is a template, and no name of a file in it ever meets a shell.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

PARTS = ("policy", "trust")
RELOADED = ("console", "notify")
"""Keys of gateway.yaml that a reload puts in force; all others need a restart (docs/operating.md, Changes)."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)
PLAIN = re.compile(r"[A-Za-z][A-Za-z_]*")


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible ships no types
    """One module call with everything in it."""

    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        given = dict(self._task.args)
        settings, segment, here = given.pop("settings", None), given.pop("segment_folder", None), given.pop("render", None)
        if settings is not None:
            plain: dict[str, Any] = json.loads(json.dumps(settings))
            files = {"gateway.yaml": rendered(plain).encode(), **segment_files(Path(str(segment)))}
            if here is not None:
                folder = below(Path(str(here)), str(plain["segment"]), str(plain["name"]))
                return result | {"folder": str(folder), "changed": not self._task.check_mode and kept(files, folder)}
            given["files"] = {path: base64.b64encode(data).decode() for path, data in files.items()}
            given["restart_settings"] = json.dumps({key: value for key, value in plain.items() if key not in RELOADED}, sort_keys=True)
        return result | dict(self._execute_module("lockgate_release", given, task_vars=task_vars))


def segment_files(folder: Path) -> dict[str, bytes]:
    """Every file under policy/ and trust/, by its path there; a link is refused. Raises ``AnsibleActionFail``."""
    if not (folder / "policy").is_dir():
        raise AnsibleActionFail(f"{folder}: expected the segment's folder with policy/ and trust/ (gateway_segment_folder)")
    found = sorted(path for part in PARTS for path in (folder / part, *(folder / part).rglob("*")))
    for path in found:  # it would bring in what is no part of the inventory: a key of this controller, say
        if path.is_symlink() or not (path.is_file() or path.is_dir() or not path.exists()):
            raise AnsibleActionFail(f"{str(path.relative_to(folder))!r}: expected a plain file or folder, not a link or a device")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found if path.is_file()}


def below(folder: Path, *names: str) -> Path:
    """A folder in the folder, by names that lead nowhere else. Raises ``AnsibleActionFail``."""
    for name in names:
        if not NAME.fullmatch(name):
            raise AnsibleActionFail(f"{name!r}: expected a name of letters, digits, dots, dashes and underscores")
    return folder.joinpath(*names)


def kept(files: Mapping[str, bytes], folder: Path) -> bool:
    """Write the files below a folder of the controller; whether that changed anything."""
    changed = False
    for name, data in files.items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != data:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            changed = True
    return changed


def rendered(settings: Mapping[str, Any]) -> str:
    """gateway.yaml. Strings are quoted unless they are words, so that YAML 1.1 and 1.2 read the same; no anchors."""
    said = yaml.dump(dict(settings), Dumper=_Dumper, width=140, allow_unicode=True, sort_keys=False)
    return f"# Written by the role gateway from the inventory.\n{said}"


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    plain = PLAIN.fullmatch(text) and yaml.safe_load(text) == text
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_Dumper.add_representer(str, _text)
