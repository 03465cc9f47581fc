# SPDX-License-Identifier: Apache-2.0
"""SECURITY_FEATURES.md names tests that exist, and says of every feature what it does not cover.

Run as a program it writes the last column of "Attacks by number" anew.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.contract.test_attacks_named import CONCERNED, ELSEWHERE

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "SECURITY_FEATURES.md"
MASKING = ROOT / "docs" / "masking.md"
SHORT = {"U/": "tests/unit/", "P/": "tests/peers/", "PG/": "tests/unit/protocols/postgres/"}
HEADS = ["feature", "since", "shown by", "does not cover"]
ATTACKS = ["number", "attack", "shown by"]
CLASSES = ["class", "cases", "what happens", "more tests"]


def tables(text: str) -> Iterator[tuple[list[str], list[list[str]]]]:
    """Heads and rows of every Markdown table."""
    for block in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        heads, _, *rows = [[cell.strip() for cell in line.strip().strip("|").split(" | ")] for line in block.splitlines()]
        yield [head.strip() for head in heads[0].split("|")] if len(heads) == 1 else heads, rows


def rows_of(heads: list[str], page: Path = PAGE) -> list[list[str]]:
    return [row for found, rows in tables(page.read_text()) if found == heads for row in rows]


def full(path: str) -> str:
    """``U/audit/test_log.py`` is ``tests/unit/audit/test_log.py``."""
    for short, long in SHORT.items():
        if path.startswith(short):
            return long + path.removeprefix(short)
    return path


def short(path: str) -> str:
    for brief, long in sorted(SHORT.items(), key=lambda pair: -len(pair[1])):
        if path.startswith(long):
            return brief + path.removeprefix(long)
    return path


def named(cell: str) -> list[tuple[str, str]]:
    """(file, test) of every ``FILE::TEST``; ``::TEST`` is in the file before it."""
    found: list[tuple[str, str]] = []
    for path, test in re.findall(r"`([\w/.]*)::(\w+)`", cell):
        found.append((full(path) if path else found[-1][0], test))
    return found


@cache
def functions_of(path: Path) -> frozenset[str]:
    return frozenset(re.findall(r"^ *(?:async )?def (\w+)", path.read_text(), re.MULTILINE))


def carriers(number: int) -> list[str]:
    """The test files that carry an attack's number in a test's name."""
    return sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py")
                  if any(re.search(rf"_t{number:02d}(?=_|$)", name) for name in functions_of(path)))


def test_every_row_is_whole() -> None:
    rows = rows_of(HEADS)
    assert len(rows) > 50
    for row in rows:
        assert len(row) == len(HEADS) and all(row), f"not whole: {row}"
        assert named(row[2]), f"names no test: {row[0]}"
        assert len(row[3]) > 10, f"does not say what it does not cover: {row[0]}"


@pytest.mark.parametrize("page", [PAGE, MASKING])
def test_every_named_test_exists(page: Path) -> None:
    everything = named(page.read_text())
    assert len(everything) > 20
    for path, test in everything:
        assert (ROOT / path).is_file(), f"{path} does not exist"
        assert test in functions_of(ROOT / path), f"{path} has no {test}"


@pytest.mark.parametrize("number", sorted((*CONCERNED, *ELSEWHERE)))
def test_every_attack_of_the_list_is_there(number: int) -> None:
    cells = [row[2] for row in rows_of(ATTACKS) if row[0] == f"T{number:02d}"]
    assert len(cells) == 1, f"T{number:02d} has {len(cells)} rows"
    if number in ELSEWHERE:
        assert cells[0] == ELSEWHERE[number]
        return
    files = {full(path) for path in re.findall(r"`([\w/.]+\.py)`", cells[0])}
    carrying = set(carriers(number))     # that there are any is looked at in test_attacks_named
    assert files <= carrying and bool(files) == bool(carrying), f"T{number:02d}: {sorted(files)} named, {sorted(carrying)} carry it"


def test_the_masking_matrix_has_every_class_of_the_corpus() -> None:
    cases = (json.loads(line) for line in (ROOT / "tests" / "corpus" / "postgres.jsonl").read_text().splitlines())
    counted = Counter(case["category"] for case in cases)
    assert {name: int(count) for name, count, *_ in rows_of(CLASSES, MASKING)} == counted


def test_a_cell_can_name_several_tests_of_a_file() -> None:
    assert named("`U/a/test_b.py::test_c` `::test_d` `tests/e.py::test_f`") == [
        ("tests/unit/a/test_b.py", "test_c"), ("tests/unit/a/test_b.py", "test_d"), ("tests/e.py", "test_f")]


def write() -> None:
    def shown(line: re.Match[str]) -> str:
        number = int(line[1])
        cell = ELSEWHERE.get(number) or " ".join(f"`{short(path)}`" for path in carriers(number))
        return f"| T{number:02d} | {line[2]} | {cell} |"

    PAGE.write_text(re.sub(r"^\| T(\d+) \| (.*?) \| .*\|$", shown, PAGE.read_text(), flags=re.MULTILINE))


if __name__ == "__main__":
    write()
