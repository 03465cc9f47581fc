# SPDX-License-Identifier: Apache-2.0
"""``appliance/image/bundle``: the one file that a site carries in. A plain tar: signed manifest first, then everything that it names."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from image import signing
from image.build import digest
from image.commands import CommandFailed, run, run_visibly
from image.release import IMAGE_ID, ROOT, of_checkout
from image.tree import cache_folder
from image.verify_bundle import FORMAT, MANIFEST, SIGNATURE

PYTHONS = {"cp311": "3.11", "cp313": "3.13"}
"""Debian 12 and Debian 13: of gateways, and of the site's controller."""

COLLECTIONS = ("ansible/posix", "community/general")
CONTROLLER = ("ansible-core", "cffi", "cryptography", "jinja2", "markupsafe", "packaging", "pycparser", "pyyaml", "resolvelib")
TRACKED = ("roles", "playbooks", "inventories/example", "terraform", "appliance/image/firstboot", "docs", "ansible.cfg", "LICENSE",
           "README.md", "CHANGELOG.md", "ARCHITECTURE.md", "SECURITY_FEATURES.md", "THREAT_MODEL.md")
"""What comes from the checkout: the committed files below these. ``firstboot`` has what packs a segment's first policy."""

GUIDE = Path(__file__).parent / "site"
"""Programs for the site: ``install``."""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bundle", description="Image, wheels, roles, playbooks, collections, documents: one signed file.")
    parser.add_argument("--image", type=Path, default=ROOT / "build/image", metavar="DIR", help="what appliance/image/build made")
    parser.add_argument("--out", type=Path, default=ROOT / "build/bundle", metavar="DIR", help="where the bundle goes")
    parser.add_argument("--key", type=Path, metavar="FILE", help="OpenSSH private key to sign with, or the .pub of one in the agent")
    parser.add_argument("--number", type=int, help="the bundle's number: larger than that of every bundle before (default: the image's)")
    args = parser.parse_args(argv)
    try:
        print(bundle(args.image.resolve(), args.out.resolve(), signing.signer(args.key, cache_folder()), args.number))
    except CommandFailed as error:
        print(f"bundle: {error}", file=sys.stderr)
        return 1
    return 0


def bundle(image: Path, out: Path, signer: signing.Signer, number: int | None) -> Path:
    """The bundle's path."""
    release = of_checkout()
    described = json.loads((image / "manifest.json").read_text())
    number = number or int(described["number"])
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_folder(), prefix="bundle-") as folder:
        stage = Path(folder)
        image_files(image, stage / "image")
        wheels(stage / "wheels")
        checkout(stage)
        collections(stage / "collections/ansible_collections")
        programs(stage)
        target = out / f"{IMAGE_ID}-bundle_{number}.tar"
        head = {"bundle": FORMAT, "number": number, "version": described["version"], "commit": release.commit}
        write(stage, target, head, signer, release.epoch)
    shutil.copyfile(Path(__file__).parent / "verify_bundle.py", out / "verify-bundle")
    (out / "verify-bundle").chmod(0o755)
    (out / "allowed_signers").write_text(signer.allowed)
    signing.sign(signer, out / "verify-bundle")
    return target


def image_files(image: Path, target: Path) -> None:
    """Everything the image's manifest names, with its signatures; the raw disk, mostly empty, stays behind: the qcow2 is the same one."""
    target.mkdir(parents=True)
    for path in sorted(image.iterdir()):
        if not path.is_symlink() and not path.name.endswith(("timings.json", "allowed_signers", ".raw", ".raw.sig")):
            _link(path, target / path.name)


def _link(source: Path, target: Path) -> None:
    """A second name for the file where the file system allows, else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def wheels(target: Path) -> None:
    """For gateways the wheelhouse of each Python; for the site's controller ansible-core and what it needs."""
    for tag, python in PYTHONS.items():
        house = cache_folder() / f"wheels-{tag}"
        run_visibly([ROOT / "tools/make-wheelhouse", house, tag])
        shutil.copytree(house, target / tag)
        controller_wheels(cache_folder() / f"controller-{tag}", python, target / tag)
        shutil.copytree(cache_folder() / f"controller-{tag}", target / "controller" / tag)


def controller_wheels(folder: Path, python: str, house: Path) -> None:
    """Downloaded by the pinned hashes; what is there already is not fetched again."""
    folder.mkdir(parents=True, exist_ok=True)
    pins = folder / "requirements.txt"
    text = pinned((ROOT / "requirements/appliance.txt").read_text(), CONTROLLER)
    if pins.exists() and pins.read_text() == text:
        return
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as wanted:
        wanted.write(text)
        wanted.flush()
        platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in (17, 28, 34)] + ["--platform=manylinux2014_x86_64"]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--only-binary=:all:", "--no-deps"]
        run([*command, f"--python-version={python}", *platforms, "--dest", folder, "--find-links", folder, "--requirement", wanted.name])
    for pip in house.rglob("pip-*.whl"):
        shutil.copyfile(pip, folder / pip.name)
    pins.write_text(text)


def pinned(requirements: str, names: Iterable[str]) -> str:
    """The entries of a requirements file, hashes included, that are about ``names``."""
    entries = re.split(r"\n(?=\S)", requirements)
    wanted = set(names)
    found = {match[1]: entry for entry in entries if (match := re.match(r"([a-z0-9-]+)==", entry)) and match[1] in wanted}
    if missing := wanted - found.keys():
        raise CommandFailed(f"requirements/appliance.txt does not pin {', '.join(sorted(missing))}")
    return "\n".join(found[name].rstrip() for name in sorted(found)) + "\n"


def checkout(stage: Path) -> None:
    """The committed files; what lies around beside them stays behind."""
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", "HEAD", *TRACKED], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=BytesIO(archive)) as files:
        files.extractall(stage, filter="data")
    for link in [path for path in stage.rglob("*") if path.is_symlink()]:
        target = link.resolve(strict=True)
        link.unlink()
        shutil.copyfile(target, link)


def collections(target: Path) -> None:
    """The two collections that the roles use, from the installed `ansible` package."""
    (found,) = Path(sys.prefix).glob("lib/python3*/site-packages/ansible_collections")
    for name in COLLECTIONS:
        shutil.copytree(found / name, target / name, ignore=shutil.ignore_patterns("__pycache__", "tests", "changelogs", "docs", ".github"))


def programs(stage: Path) -> None:
    for source in (Path(__file__).parent / "verify_bundle.py", *sorted(GUIDE.iterdir())):
        name = "verify-bundle" if source.name == "verify_bundle.py" else source.name
        shutil.copyfile(source, stage / name)
        (stage / name).chmod(source.stat().st_mode & 0o777)


def write(stage: Path, target: Path, head: dict[str, Any], signer: signing.Signer, epoch: int) -> None:
    """Manifest, its signature, then the files in the manifest's order. Owners, times and order say nothing about the machine."""
    paths = {str(path.relative_to(stage)): path for path in sorted(stage.rglob("*")) if path.is_file()}
    manifest = {**head, "files": {name: entry(path) for name, path in paths.items()}}
    fresh = target.with_suffix(".new")
    with tempfile.TemporaryDirectory() as folder, tarfile.open(fresh, "w", format=tarfile.PAX_FORMAT) as out:
        described = Path(folder) / MANIFEST
        described.write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
        for name, path in _ordered(described, signing.sign(signer, described), paths):
            add(out, name, path, epoch)
    fresh.rename(target)


def _ordered(manifest: Path, signature: Path, paths: dict[str, Path]) -> Iterator[tuple[str, Path]]:
    yield MANIFEST, manifest
    yield SIGNATURE, signature
    yield from paths.items()


def entry(path: Path) -> dict[str, Any]:
    described: dict[str, Any] = {"sha256": digest(path), "size": path.stat().st_size}
    return {**described, "executable": True} if path.stat().st_mode & 0o100 else described


def add(out: tarfile.TarFile, name: str, path: Path, epoch: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mtime = path.stat().st_size, epoch
    member.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
    with path.open("rb") as data:
        out.addfile(member, data)
