# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a folder, and where: ``FILE:LINE: KEY: expected …``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from gateway.errors import ConfigError


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong. ``file`` is relative to the folder, ``line`` counts from 1 (0: the file as a whole), ``key`` is the way to
    the value (``grants[0].rules[2].by``), empty for the file as a whole."""

    file: str
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:" if self.line else f"{self.file}:"
        return f"{where} {self.key}: {self.message}" if self.key else f"{where} {self.message}"

    def as_document(self) -> dict[str, str | int]:
        return asdict(self)


class InvalidFolder(ConfigError):
    """Every problem found, one a line. Nothing of the folder is served."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(map(str, self.problems)))


def printable(text: str) -> str:
    """Control characters, and bytes of a file name that are no UTF-8, as escapes: what is shown changes no terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode() for char in text)


def file_name(folder: Path, path: Path) -> str:
    """``path`` as problems show it: relative to the folder."""
    return printable(path.relative_to(folder).as_posix())


def key_text(path: Iterable[str | int]) -> str:
    """``("grants", 0, "by")`` is ``grants[0].by``; a key with a dot in it stands in quotes."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            shown = part if part.replace("_", "").replace("-", "").isalnum() else f'"{printable(part)}"'
            text += f".{shown}" if text else shown
    return text
