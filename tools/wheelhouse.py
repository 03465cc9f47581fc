# SPDX-License-Identifier: Apache-2.0
"""A wheelhouse: this checkout's wheel, every pinned dependency and pip itself as wheels for one Python on x86_64 Linux.

``OUT/requirements.txt`` names every file that is there with its hash, so that a host installs exactly that and asks no index;
``OUT/manifest.json`` says which version and Python it is for. A second run with nothing changed downloads and builds nothing, and the
same checkout gives the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = {"cp311": "3.11", "cp312": "3.12", "cp313": "3.13"}
GLIBC = 36
"""Debian 12 has glibc 2.36; a wheel for anything newer would not load there."""
EPOCH = "1577836800"
"""The time stamped into the wheel: the bytes follow the source and nothing else."""
NORMAL = re.compile(r"[-_.]+")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make-wheelhouse", description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder to write")
    parser.add_argument("python", choices=sorted(PYTHONS), help="the target's Python: cp313 on Debian 13, cp311 on Debian 12")
    parser.add_argument("--local", default="", metavar="LABEL", help="build VERSION+LABEL: another build of the same version")
    args = parser.parse_args(argv)
    return make(args.out, args.python, args.local)


def make(out: Path, tag: str, local: str) -> int:
    """Write the wheelhouse, or say that it is there already."""
    version = with_local(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"], local)
    pins = (ROOT / "requirements" / "runtime.txt").read_bytes()
    inputs = {"source": digest_of_tree(source_files(ROOT), ROOT), "pins": hashlib.sha256(pins).hexdigest()}
    before = read_manifest(out)
    if before == manifest(version, tag, inputs, hashes(out)):
        print(f"{out}: lockgate {version} for {tag}, nothing to do")
        return 0
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".wheelhouse-") as fresh:
        build(Path(fresh), version)
        download(Path(fresh), tag, reuse=out)
        replace_wheels(out, Path(fresh))
    files = hashes(out)
    (out / "requirements.txt").write_text(requirements(files))
    (out / "manifest.json").write_text(json.dumps(manifest(version, tag, inputs, files), indent=1, sort_keys=True) + "\n")
    print(f"{out}: lockgate {version} for {tag}, {len(files)} wheels")
    return 0


# --- what is written ----------------------------------------------------------------------------------------------------

def with_local(version: str, label: str) -> str:
    """The version, with a local label (PEP 440) where one is wanted: ``0.1.0+site2``."""
    if not label:
        return version
    if not re.fullmatch(r"[a-z0-9]+(\.[a-z0-9]+)*", label):
        raise SystemExit(f"make-wheelhouse: a label is lower-case letters, digits and dots, not {label!r}")
    return f"{version}+{label}"


def name_and_version(wheel: str) -> tuple[str, str]:
    """What a wheel's file name says: ``PyYAML-6.0.3-cp313-….whl`` is ``pyyaml`` ``6.0.3``."""
    name, version = wheel.split("-")[:2]
    return NORMAL.sub("-", name).lower(), version


def requirements(files: dict[str, str]) -> str:
    """A requirements file that pins each of these wheels to its one hash."""
    lines = ["# SPDX-License-Identifier: Apache-2.0", "# Written by make-wheelhouse: exactly the wheels in this folder."]
    for wheel, sha256 in sorted(files.items()):
        name, version = name_and_version(wheel)
        lines.append(f"{name}=={version} --hash=sha256:{sha256}")
    return "\n".join(lines) + "\n"


def manifest(version: str, tag: str, inputs: dict[str, str], files: dict[str, str]) -> dict[str, Any]:
    return {"format": "lockgate-wheelhouse/1", "version": version, "python": tag, "platform": "manylinux x86_64", "inputs": inputs,
            "files": dict(sorted(files.items()))}


def platforms() -> list[str]:
    """Every manylinux platform that Debian 12's glibc satisfies, newest first."""
    return [f"manylinux_2_{minor}_x86_64" for minor in range(GLIBC, 4, -1)] + ["manylinux2014_x86_64"]


# --- what is there ------------------------------------------------------------------------------------------------------

def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.whl"))}


def read_manifest(out: Path) -> Any:
    """What an earlier run wrote; nothing where that is missing, damaged, or no longer beside its requirements."""
    try:
        found = json.loads((out / "manifest.json").read_text())
        return found if (out / "requirements.txt").read_text() == requirements(found["files"]) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def source_files(root: Path) -> list[Path]:
    """All that goes into the wheel."""
    package = (path for path in (root / "appliance" / "gateway").rglob("*") if path.is_file())
    rest = ("pyproject.toml", "README.md", "LICENSE", "tools/hatch_build.py", "tools/native.py")
    return sorted(path for path in (*package, *(root / name for name in rest))
                  if "__pycache__" not in path.parts and path.suffix not in {".pyc", ".so", ".stamp"})


def digest_of_tree(files: Iterable[Path], root: Path) -> str:
    seen = hashlib.sha256()
    for path in files:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        seen.update(f"{path.relative_to(root)}\0{content}\n".encode())
    return seen.hexdigest()


# --- what is made -------------------------------------------------------------------------------------------------------

def build(folder: Path, version: str) -> None:
    """The wheel of lockgate, from a copy of the checkout that carries this version."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch)
        for path in source_files(ROOT):
            target = copy / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        project = (copy / "pyproject.toml").read_text()
        (copy / "pyproject.toml").write_text(re.sub(r'(?m)^version = ".*"$', f'version = "{version}"', project, count=1))
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder.resolve())]
        run(command, copy, {"SOURCE_DATE_EPOCH": EPOCH})


def download(folder: Path, tag: str, reuse: Path) -> None:
    """The pinned dependencies; wheels of an earlier run are taken from there if their hashes still fit."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:",
               "--require-hashes", "--implementation", "cp", "--python-version", PYTHONS[tag], "--find-links", str(reuse.resolve()),
               "--dest", str(folder.resolve()), "-r", str(ROOT / "requirements" / "runtime.txt")]
    run([*command, *(word for name in platforms() for word in ("--platform", name))], ROOT, {})


def run(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=folder, env={**os.environ, **environment}, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SystemExit(f"make-wheelhouse: {' '.join(command[1:4])} failed:\n{done.stdout}")


def replace_wheels(out: Path, fresh: Path) -> None:
    """Exactly the fresh wheels, no others; modes that any account can read."""
    for path in out.glob("*.whl"):
        path.unlink()
    for path in fresh.glob("*.whl"):
        path.chmod(0o644)
        path.rename(out / path.name)


if __name__ == "__main__":
    sys.exit(main())
