# SPDX-License-Identifier: Apache-2.0
"""What the repository copies from the steering folder is the same there. A user's clone has no such folder: nothing to compare then."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
DEMO = ROOT / "appliance" / "gateway" / "config" / "demo"


def _files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != ".gitkeep")
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.mark.parametrize(("copy", "original"), [
    (ROOT / "tests" / "corpus", SHARED / "corpus"),
    (DEMO, SHARED / "contract" / "example"),
    (DEMO.with_name("demo-ssh"), SHARED / "contract" / "example-ssh"),
])
def test_copy_is_the_original(copy: Path, original: Path) -> None:
    ours = _files(copy)
    assert ours
    if original.is_dir():
        theirs = _files(original)
        assert {name: ours.get(name) for name in theirs} == theirs


def test_demo_tables_are_those_of_the_corpus() -> None:
    """``policy/schemas/orders-db.json`` and the corpus speak of the same tables, view and function."""
    def objects(path: Path) -> list[str]:
        return [line for line in path.read_text().splitlines() if line.startswith(("create ", " ("))]

    assert objects(ROOT / "appliance" / "gateway" / "testing" / "orders.sql") == objects(ROOT / "tests" / "corpus" / "postgres_schema.sql")
