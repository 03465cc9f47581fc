# SPDX-License-Identifier: Apache-2.0
"""Terraform and OpenTofu on a copy of the tree, with the provider that `tools/build-tofu` built and no other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
COPIED = ("terraform", "inventories/example")


@dataclass(frozen=True)
class Program:
    """Terraform or OpenTofu: what differs between them is the name of the executable."""

    name: str
    executable: str
    cli_config: Path


@dataclass
class Workspace:
    """A folder of a copied tree, initialised: commands run there, state and lock file stay there.

    Variables go by a JSON file, where a string is a string: on the command line and in the environment it would be an expression.
    """

    program: Program
    folder: Path
    variables: dict[str, Any] = field(default_factory=dict)
    libvirt_uri: str = ""
    under: tuple[str, ...] = ()

    def call(self, *arguments: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        (self.folder / "tests.auto.tfvars.json").write_text(json.dumps(self.variables))
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "TF_CLI_CONFIG_FILE": str(self.program.cli_config),
            "TF_IN_AUTOMATION": "1",
            "TF_INPUT": "0",
            "CHECKPOINT_DISABLE": "1",
            "LIBVIRT_DEFAULT_URI": self.libvirt_uri,
        }
        command = [*self.under, self.program.executable, *arguments]
        return subprocess.run(command, cwd=self.folder, env=environment, check=False, text=True, capture_output=True, timeout=timeout)

    def run(self, *arguments: str, timeout: float = 600) -> str:
        done = self.call(*arguments, timeout=timeout)
        assert done.returncode == 0, f"{self.program.name} {' '.join(arguments)}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def init(self) -> Workspace:
        self.run("init", "-no-color", "-backend=false")
        return self

    def apply(self, *arguments: str, timeout: float = 600) -> str:
        return self.run("apply", "-no-color", "-auto-approve", *arguments, timeout=timeout)

    def destroy(self) -> str:
        return self.run("destroy", "-no-color", "-auto-approve")

    def has_changes(self) -> bool:
        done = self.call("plan", "-no-color", "-detailed-exitcode")
        assert done.returncode in (0, 2), f"{done.stdout}\n{done.stderr}"
        return done.returncode == 2

    def output(self, name: str) -> Any:
        return json.loads(self.run("output", "-json", name))

    @property
    def state(self) -> str:
        return (self.folder / "terraform.tfstate").read_text()


def copy_tree(target: Path) -> Path:
    """The modules, and the inventory that the example reads, without what a run in the checkout may have left."""
    for part in COPIED:
        shutil.copytree(REPOSITORY / part, target / part, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
    return target / "terraform"
