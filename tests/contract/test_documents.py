# SPDX-License-Identifier: Apache-2.0
"""Documents name real things."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "appliance" / "gateway"


def names_in(path: Path) -> set[str]:
    """``function``, ``Class`` and ``Class.method`` of a module."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found.add(node.name)
            found |= {f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)}
    return found


def test_life_of_a_query_names_real_functions() -> None:
    text = (ROOT / "docs/life-of-a-query.md").read_text()
    named = re.findall(r"`([\w/]+\.py):([\w.]+)`", text)
    assert len(named) > 15
    for file, name in named:
        path = next((base / file for base in (PACKAGE, PACKAGE / "protocols/postgres") if (base / file).is_file()), None)
        assert path is not None, f"docs/life-of-a-query.md names {file}"
        assert name in names_in(path), f"docs/life-of-a-query.md names {file}:{name}"
    everything = {name for path in PACKAGE.rglob("*.py") for name in names_in(path)}
    for name in re.findall(r"`([A-Z]\w+\.\w+)`", text):
        assert name in everything, f"docs/life-of-a-query.md names {name}"


def test_links_between_documents_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"
