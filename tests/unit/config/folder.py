# SPDX-License-Identifier: Apache-2.0
"""A demo folder to spoil, and what the loader says of it."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

from gateway.cli.init import run
from gateway.config.load import Folder, load_folder
from gateway.config.problem import InvalidFolder

NOW = 1_780_000_000.0
"""Within the example's window."""


def make(path: Path, *, demo: bool = True) -> Path:
    """``lockgate init`` on ``path``."""
    assert run(Namespace(folder=path, demo=demo, ssh=False, json=True, host=[])) == 0
    return path


@dataclass(frozen=True)
class Demo:
    """A folder of one's own, already checked to be right."""

    path: Path

    def file(self, name: str) -> Path:
        return self.path / name

    def replace(self, name: str, old: str, new: str) -> Demo:
        text = self.file(name).read_text()
        assert old in text, f"{name} has no {old!r}"
        self.file(name).write_text(text.replace(old, new, 1))
        return self

    def write(self, name: str, text: str) -> Demo:
        self.file(name).parent.mkdir(parents=True, exist_ok=True)
        self.file(name).write_text(text)
        return self

    def load(self, *, check_modes: bool = False, need_tests: bool = True) -> Folder:
        return load_folder(self.path, check_modes=check_modes, need_tests=need_tests, now=NOW)

    def problems(self, *, check_modes: bool = False, need_tests: bool = True) -> list[str]:
        """What is wrong, one text each; empty when nothing is."""
        try:
            self.load(check_modes=check_modes, need_tests=need_tests)
        except InvalidFolder as wrong:
            return [str(problem) for problem in wrong.problems]
        return []

    def only_problem(self, *, check_modes: bool = False) -> str:
        problems = self.problems(check_modes=check_modes)
        assert len(problems) == 1, problems
        return problems[0]
