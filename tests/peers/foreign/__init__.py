# SPDX-License-Identifier: Apache-2.0
"""Clients in other languages, and a player: fetched and built once by version, under the user's cache folder, then run unchanged."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

HERE = Path(__file__).parent
JDBC = "42.7.8"
JDBC_SHA256 = "2a32a9dcbc42d67a50ad3a0de5efd102c8d2be46720045f2cbd6689f160ab7c7"
GOES = ("/usr/local/go/bin/go", "/usr/lib/go/bin/go")


class Missing(RuntimeError):
    """A language's tools are not on this machine."""


def tool(name: str, *elsewhere: str, package: str) -> str:
    found = shutil.which(name) or next((path for path in elsewhere if Path(path).exists()), None)
    if found is None:
        raise Missing(f"{name} is not on this machine: install {package} (make test does, as root on Debian)")
    return found


@contextlib.contextmanager
def cached(language: str) -> Iterator[tuple[Path, bool]]:
    """The folder for what is built from this language's sources as they are now, and whether it is there already."""
    seen = hashlib.sha256()
    for path in sorted((HERE / language).iterdir()):
        seen.update(path.name.encode() + path.read_bytes())
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lockgate" / "clients"
    home.mkdir(parents=True, exist_ok=True)
    folder = home / f"{language}-{seen.hexdigest()[:16]}"
    with (home / f"{language}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(HERE / language, folder)
            yield folder, False
            (folder / "done").touch()
        else:
            yield folder, True


def make(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900, check=False)
    if done.returncode:
        raise Missing(f"{' '.join(command)} failed:\n{done.stdout}")


def node() -> list[str]:
    """The command that runs the Node program; the lock file pins what it needs by hash."""
    npm, program = tool("npm", package="npm"), tool("node", package="nodejs")
    with cached("node") as (folder, there):
        if not there:
            make([npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"], folder)
    return [program, str(folder / "work.js")]


def player() -> list[str]:
    """The command that plays an asciicast with asciinema's player."""
    npm, program = tool("npm", package="npm"), tool("node", package="nodejs")
    with cached("player") as (folder, there):
        if not there:
            make([npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"], folder)
    return [program, str(folder / "play.mjs")]


def go() -> list[str]:
    """The Go program, built; ``go.sum`` pins what it needs."""
    compiler = tool("go", *GOES, package="golang")
    with cached("go") as (folder, there):
        if not there:
            make([compiler, "build", "-o", "client", "."], folder)
    return [str(folder / "client")]


def java() -> list[str]:
    """The command that runs the Java program with the driver, whose hash is checked."""
    maven = tool("mvn", package="maven")
    compiler, program = (tool(name, package="default-jdk-headless") for name in ("javac", "java"))
    with cached("java") as (folder, there):
        driver = folder / f"postgresql-{JDBC}.jar"
        if not there:
            make([maven, "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={folder}", "-DexcludeTransitive=true"], folder)
            if hashlib.sha256(driver.read_bytes()).hexdigest() != JDBC_SHA256:
                raise Missing("the JDBC driver that came is not the one that is pinned")
            make([compiler, "-cp", str(driver), "Work.java"], folder)
    return [program, "-cp", f"{driver}:{folder}", "Work"]


def run(command: list[str], *words: str, environment: Mapping[str, str]) -> str:
    """What the program printed. Fails with what it said on stderr."""
    variables = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C.UTF-8", "TZ": "UTC", **environment}
    done = subprocess.run([*command, *words], env=variables, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{done.stderr}\n{done.stdout}"
    return done.stdout
