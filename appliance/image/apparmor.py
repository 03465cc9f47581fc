# SPDX-License-Identifier: Apache-2.0
"""AppArmor's profiles, compiled here: at boot they are only loaded.

Debian's package has a hundred profiles for desktop programs that this image does not have; they go. What is compiled is bound to what the
kernel says that it can (``apparmor/kernel-features``, read from the image's own kernel): a kernel that can something else compiles at boot.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from image.chroot import inside

CACHE = Path("usr/lib/lockgate/apparmor-cache")
_FEATURES = Path(__file__).parent / "apparmor"
_KEPT = frozenset({"unix-chkpwd", "unprivileged_userns"})
"""Profiles of Debian's package that concern a program of this image."""


def compile_profiles(tree: Path) -> None:
    """Remove profiles of absent programs; compile the others, those of the roles included."""
    profiles = tree / "etc/apparmor.d"
    for name in _debians(tree) - _KEPT:
        for file in (profiles / name, profiles / "local" / name):
            if file.is_file():
                file.unlink()
    shutil.rmtree(tree / CACHE, ignore_errors=True)
    (tree / CACHE).mkdir(parents=True)
    names = [f"/etc/apparmor.d/{path.name}" for path in sorted(profiles.iterdir()) if path.is_file()]
    command = ["apparmor_parser", "--skip-kernel-load", "--write-cache", "--cache-loc", f"/{CACHE}"]
    inside(tree, [*command, "--kernel-features", "/mnt/kernel-features", *names], binds={"/mnt": _FEATURES})
    for path in (tree / CACHE).rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    with (tree / "etc/apparmor/parser.conf").open("a") as settings:
        settings.write(f"\n# Compiled while the image was made.\ncache-loc=/{CACHE}\n")


def _debians(tree: Path) -> set[str]:
    listed = (tree / "var/lib/dpkg/info/apparmor.list").read_text().splitlines()
    return {Path(line).name for line in listed if Path(line).parent == Path("/etc/apparmor.d")}
