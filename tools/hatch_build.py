# SPDX-License-Identifier: Apache-2.0
"""The build hook: compiles what is compiled and says so in the wheel's tag. ``LOCKGATE_PURE=1`` gives a pure-Python wheel."""

from __future__ import annotations

import importlib.util
import os
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class NativeBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Named by ``[tool.hatch.build.targets.wheel.hooks.custom]``."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        native = _native()
        if os.environ.get(native.PURE) == "1":
            return
        libraries = native.build(Path(self.root))
        if libraries:
            build_data["pure_python"] = False
            build_data["tag"] = f"cp311-abi3-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
            build_data["artifacts"] += [f"/{library.relative_to(self.root)}" for library in libraries]


def _native() -> ModuleType:
    spec = importlib.util.spec_from_file_location("native", Path(__file__).with_name("native.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
