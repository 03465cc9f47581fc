# SPDX-License-Identifier: Apache-2.0
"""Build the compiled parts: every ``_NAME.pyx`` below ``appliance/gateway`` to ``_NAME.abi3.so`` beside it.

One build serves CPython 3.11 to 3.13 (the limited API of 3.11). The same sources, Cython and compiler give the same bytes. What is up to
date is left alone.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path("appliance") / "gateway"
SUFFIX = ".abi3.so"
API = "0x030B0000"
CYTHON = ("-3", "-X", "binding=False")
"""Under the limited API a method with ``binding`` that is called unbound does not look at the type of what it is called on."""
CFLAGS = ("-O2", "-g0", "-fPIC", "-fstack-protector-strong", "-D_FORTIFY_SOURCE=2", "-fno-strict-aliasing", "-Wall", "-Wno-unused-function",
          f"-DPy_LIMITED_API={API}", "-DCYTHON_LIMITED_API=1", "-DNDEBUG")
LDFLAGS = ("-shared", "-Wl,-z,relro,-z,now", "-Wl,--build-id=none", "-s")
PURE = "LOCKGATE_PURE"
"""Set to 1: nothing is built, and nothing compiled is used."""


class Unbuildable(RuntimeError):
    """What is missing to build, and what to do about it."""


def sources(root: Path) -> list[Path]:
    return sorted((root / PACKAGE).rglob("_*.pyx"))


def target(source: Path) -> Path:
    return source.with_name(source.stem + SUFFIX)


def build(root: Path, *, force: bool = False) -> list[Path]:
    """Build what is out of date below ``root``; gives all the libraries. Raises ``Unbuildable``."""
    found = sources(root)
    if not found:
        return []
    tools = _tools()
    for source in found:
        stamp = target(source).with_suffix(".stamp")
        digest = _digest(source, root, tools)
        if force or not target(source).exists() or not stamp.exists() or stamp.read_text() != digest:
            _build(source, root, tools[0])
            stamp.write_text(digest)
    return [target(source) for source in found]


def _tools() -> tuple[str, str]:
    """The compiler, and what decides the bytes beside the source."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise Unbuildable(f"no C compiler: install gcc, or set {PURE}=1 for the pure-Python form (up to fifty times slower)")
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        version = "python{}.{}-dev".format(*sys.version_info[:2])
        raise Unbuildable(f"Python's headers are missing: install {version}, or set {PURE}=1 for the pure-Python form")
    try:
        cython = importlib.metadata.version("cython")
    except importlib.metadata.PackageNotFoundError:
        raise Unbuildable(f"Cython is missing: pip install -r requirements/dev.txt, or set {PURE}=1 for the pure-Python form") from None
    return compiler, f"{cython} {compiler} {CYTHON} {CFLAGS} {LDFLAGS}"


def _digest(source: Path, root: Path, tools: tuple[str, str]) -> str:
    seen = hashlib.sha256(tools[1].encode())
    for path in (source, *sorted(source.parent.glob("*.pxi")), *sorted((root / PACKAGE).rglob("*.pxd"))):
        seen.update(path.read_bytes())
    return seen.hexdigest()


def _build(source: Path, root: Path, compiler: str) -> None:
    module = ".".join(source.relative_to(root / "appliance").with_suffix("").parts)
    with tempfile.TemporaryDirectory() as scratch:
        c = Path(scratch) / "module.c"
        _run([sys.executable, "-m", "cython", *CYTHON, "--module-name", module, "-o", str(c), str(source.relative_to(root))], root)
        library = Path(scratch) / "module.so"
        _run([compiler, *CFLAGS, f"-I{sysconfig.get_path('include')}", "module.c", *LDFLAGS, "-o", library.name], Path(scratch))
        library.chmod(0o644)
        temporary = target(source).with_name(f".{target(source).name}.new")
        shutil.copy(library, temporary)
        temporary.replace(target(source))           # a process that has the old one mapped keeps it


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise Unbuildable(f"{' '.join(command[:3])} … failed:\n{done.stdout}")
    if done.stdout.strip():
        print(done.stdout.strip(), file=sys.stderr)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="native", description=__doc__)
    parser.add_argument("--force", action="store_true", help="build also what is up to date")
    args = parser.parse_args(argv)
    if os.environ.get(PURE) == "1":
        print(f"{PURE}=1: nothing is built")
        return 0
    try:
        for library in build(ROOT, force=args.force):
            print(library.relative_to(ROOT))
    except Unbuildable as problem:
        print(f"native: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
