# SPDX-License-Identifier: Apache-2.0
"""What every source file must satisfy, whatever it does."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "appliance" / "gateway"
PURE_NAMES = (
    "codec", "copytext", "machine", "masking", "messages", "operations", "recorder", "rows", "scram", "scrub", "shown", "statement")
# sql/parse.py is the door to PostgreSQL's own parser, C code behind a lock: the one module there that is not pure.
PURE = sorted({
    *(path for name in PURE_NAMES for pattern in (f"{name}.py", f"{name}/*.py") for path in PACKAGE.glob(f"protocols/*/{pattern}")),
    *PACKAGE.glob("protocols/*/sql/*.py"), *PACKAGE.glob("protocols/*/filters/*.py"),
    *(PACKAGE / "protocols" / "ssh" / f"{name}.py"
      for name in ("scp", "words", "paths", "patterns", "hostnames", "rekeying", "transfers", "understand")),
    *(PACKAGE / "protocols" / "ssh" / "sftp" / f"{name}.py"
      for name in ("codec", "messages", "machine", "handles", "names", "transfer", "watch")),
    *PACKAGE.glob("masking/*.py")} - {PACKAGE / "protocols" / "postgres" / "sql" / "parse.py"})
IMPURE_MODULES = {"asyncio", "socket", "time", "logging", "subprocess", "threading", "ssl", "selectors", "select", "uvloop"}


def _sources() -> list[Path]:
    """Every file that git knows or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


@pytest.mark.parametrize("path", PURE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_protocol_logic_does_no_io(path: Path) -> None:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Await | ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith):
            found.append(f"line {node.lineno}: asynchronous code")
        found += [f"imports {name}" for name in _imported(node) if name.split(".")[0] in IMPURE_MODULES]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("open", "print", "input"):
            found.append(f"line {node.lineno}: {node.func.id}()")
    assert found == []


def test_there_are_pure_modules_to_look_at() -> None:
    found = {path.relative_to(PACKAGE / "protocols" / "postgres").parts[0].removesuffix(".py") for path in PURE if "postgres" in path.parts}
    assert set(PURE_NAMES) <= found


def test_every_source_file_starts_with_its_licence() -> None:
    without = [str(path.relative_to(ROOT)) for path in _sources() if path.suffix in (".py", ".sql") and "corpus" not in path.parts
               and "SPDX-License-Identifier: Apache-2.0" not in path.read_text().split("\n\n")[0]]
    assert without == []


def test_no_task_without_an_owner() -> None:
    """STYLE 6: a task belongs to a TaskGroup, or to whoever keeps and cancels it; ``ensure_future`` and a dropped task belong to nobody."""
    dropped = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute):
                owner = ast.unparse(node.value.func.value)
                if node.value.func.attr in ("create_task", "ensure_future") and not re.search("group|tasks", owner):
                    dropped.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert dropped == []


def test_no_drawer_named_utils() -> None:
    drawers = {"utils", "util", "common", "helpers", "helper", "manager", "misc"}
    assert [str(path) for path in PACKAGE.rglob("*") if path.stem in drawers] == []


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    readme = (ROOT / "README.md").read_text()
    assert "make demo" in readme
    assert "make test" in readme


def test_make_explains_every_target() -> None:
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    for target in set(phony[1].split()):
        assert re.search(rf"^  {target} ", shown, re.MULTILINE), target


def test_requirements_are_pinned_with_hashes_and_name_no_index() -> None:
    for path in (ROOT / "requirements").glob("*.txt"):
        text = path.read_text()
        entries = re.split(r"\n(?=\S)", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).strip())
        assert all("==" in entry.split("\n")[0] and "--hash=sha256:" in entry for entry in entries), path.name
        assert "http" not in text.replace("aiohttp", ""), path.name
