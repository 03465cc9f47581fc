# SPDX-License-Identifier: Apache-2.0
"""One YAML file to plain values: the YAML 1.2 core schema (section 10.3), with the line on which every key and entry stands.

PyYAML only splits the text into events; nothing is constructed by it. Refused: anchors, aliases, tags, duplicate keys, keys that are
not text, directives, several documents, more than ``LARGEST`` bytes, more than ``DEEPEST`` levels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml

from gateway.config.problem import Problem, key_text

LARGEST = 2**20
"""Bytes of one file."""
DEEPEST = 32
"""Mappings and lists inside each other."""
Path = tuple[str | int, ...]
Scalar = str | int | float | bool | None
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# What the parser's words mean for who writes the file.
_MEANS = {
    "found character that cannot start any token": " (a tab? blanks indent; a value that begins with % @ ` needs quotes)",
    "did not find expected alphabetic or numeric character": " (a value that begins with * or & needs quotes)",
    "did not find expected key": " (another indentation than the line before, or entries below a key that has a value, such as [])",
}
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]{1,300}")
_OCTAL = re.compile(r"0o[0-7]{1,300}")
_HEX = re.compile(r"0x[0-9a-fA-F]{1,300}")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"([-+]?)\.(?:inf|Inf|INF)")
_NAN = frozenset({".nan", ".NaN", ".NAN"})


def resolve(text: str) -> Scalar:
    """A plain scalar's value in the core schema. ``on``, ``yes``, ``2026-01-01`` and ``1_000`` are text."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.fullmatch(text):
        return int(text, 10)
    if _OCTAL.fullmatch(text):
        return int(text[2:], 8)
    if _HEX.fullmatch(text):
        return int(text[2:], 16)
    if _FLOAT.fullmatch(text):
        return float(text)
    if found := _INFINITE.fullmatch(text):
        return float(f"{found[1]}inf")
    return float("nan") if text in _NAN else text


@dataclass(slots=True)
class Document:
    """A file's value, and where its parts stand. ``lines`` has every key and entry by its path."""

    file: str
    value: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def line(self, path: Path) -> int:
        """The line of that value, or of the nearest thing around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def problem(self, path: Path, message: str) -> Problem:
        return Problem(self.file, self.line(path), key_text(path), message)

    def complain(self, path: Path, message: str) -> None:
        self.problems.append(self.problem(path, message))


class _Stop(Exception):
    """The rest of the file cannot be read."""


def read_document(file: str, content: bytes) -> Document:
    """Never raises: what is wrong is in ``problems``, and ``value`` is then not to be used. An empty file is ``None``."""
    document = Document(file)
    if len(content) > LARGEST:
        document.problems.append(Problem(file, 0, "", f"expected at most {LARGEST} bytes"))
        return document
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as wrong:
        line = content[:wrong.start].count(b"\n") + 1
        document.problems.append(Problem(file, line, "", "expected UTF-8"))
        return document
    _read(document, text.removeprefix("\ufeff"))
    return document


def _read(document: Document, text: str) -> None:
    try:
        events = yaml.parse(text, Loader=_LOADER)
        _Reader(document, events).read()
    except _Stop:
        pass
    except (yaml.YAMLError, ValueError, RecursionError) as wrong:
        mark = getattr(wrong, "problem_mark", None)
        what = getattr(wrong, "problem", None) or getattr(wrong, "reason", None) or "this is not YAML"
        document.problems.append(Problem(document.file, mark.line + 1 if mark else 1, "", f"expected YAML: {what}{_MEANS.get(what, '')}"))


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


class _Reader:
    """Builds values from parser events."""

    def __init__(self, document: Document, events: Iterator[yaml.Event]) -> None:
        self.document = document
        self.events = events

    def read(self) -> None:
        """The one document of the stream."""
        next(self.events)
        event = next(self.events)
        if isinstance(event, yaml.StreamEndEvent):
            return
        self._no_directives(event)
        self.document.value = self._node(next(self.events), (), 1)
        next(self.events)
        after = next(self.events)
        if not isinstance(after, yaml.StreamEndEvent):
            self._stop(after, (), "expected one document, not several")

    def _no_directives(self, event: yaml.Event) -> None:
        version, tags = getattr(event, "version", None), getattr(event, "tags", None)
        if tags or version not in (None, (1, 2)):
            self._stop(event, (), "expected no directives (%YAML 1.2 alone may stand)")

    def _node(self, event: yaml.Event, path: Path, depth: int) -> Any:
        self.document.lines.setdefault(path, _line(event))
        if isinstance(event, yaml.AliasEvent):
            self._stop(event, path, "expected a value, not an alias (*name): write it out")
        self._plain(event, path)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        if depth > DEEPEST:
            self._stop(event, path, f"expected at most {DEEPEST} levels")
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path, depth)
        return self._mapping(path, depth)

    def _plain(self, event: yaml.Event, path: Path) -> None:
        if getattr(event, "anchor", None) is not None:
            self._complain(event, path, "expected no anchor (&name): write values out")
        if getattr(event, "tag", None) is not None:
            self._complain(event, path, "expected no tag (!name): values have the type they look like")

    def _scalar(self, event: yaml.ScalarEvent) -> Scalar:
        return resolve(event.value) if event.style in (None, "") else str(event.value)

    def _sequence(self, path: Path, depth: int) -> list[Any]:
        values: list[Any] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            values.append(self._node(event, (*path, len(values)), depth + 1))
        return values

    def _mapping(self, path: Path, depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self._key(event, path)
            if key in values:
                first = self.document.lines[(*path, key)]
                self._complain(event, (*path, key), f"expected each key once; it already stands on line {first}")
            else:
                self.document.lines[(*path, key)] = _line(event)
            values[key] = self._node(next(self.events), (*path, key), depth + 1)
        return values

    def _key(self, event: yaml.Event, path: Path) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            self._stop(event, path, "expected text as a key")
        self._plain(event, path)
        key = self._scalar(event)
        if isinstance(key, str):
            return key
        self._complain(event, path, f'expected text as a key: write "{event.value}" in quotes')
        return str(event.value)

    def _complain(self, event: yaml.Event, path: Path, message: str) -> None:
        self.document.problems.append(Problem(self.document.file, _line(event), key_text(path), message))

    def _stop(self, event: yaml.Event, path: Path, message: str) -> NoReturn:
        self._complain(event, path, message)
        raise _Stop
