# SPDX-License-Identifier: Apache-2.0
"""``appliance/image/build``: the whole way from nothing to a signed image, each stage with its time."""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import file_digest
from pathlib import Path
from typing import Any

from image import apparmor, clean, disk, install, modules, report, root, sbom, signing, state, uki
from image.commands import CommandFailed, run_visibly
from image.release import IMAGE_ID, ROOT, Release, of_checkout
from image.tree import Tree, cache_folder, copy, debian_tree, locked

PYTHON_TAG = "cp313"


@dataclass(slots=True)
class Clock:
    """Seconds by stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        print(f"image: {name}", file=sys.stderr, flush=True)
        start = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - start, 1)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="build", description="Build the image from this checkout.")
    parser.add_argument("--out", type=Path, default=ROOT / "build/image", metavar="DIR", help="where the image goes (default: build/image)")
    parser.add_argument(
        "--key",
        type=Path,
        metavar="FILE",
        help="OpenSSH private key to sign with, or the .pub of one in the agent (default: a throw-away key)",
    )
    parser.add_argument(
        "--wheels", type=Path, metavar="DIR", help="wheelhouse for the image's Python (default: made by tools/make-wheelhouse)"
    )
    parser.add_argument("--fresh", action="store_true", help="fetch Debian's packages anew instead of taking the cached trees")
    args = parser.parse_args(argv)
    clock = Clock()
    try:
        with locked(cache_folder() / "work"):
            manifest = build(
                of_checkout(), args.out.resolve(), signing.signer(args.key, cache_folder()), args.wheels, clock, fresh=args.fresh
            )
    except CommandFailed as error:
        print(f"build: {error}", file=sys.stderr)
        return 1
    (args.out / "timings.json").write_text(json.dumps(clock.seconds, indent=1) + "\n")
    print(json.dumps({"version": manifest["version"], "root_hash": manifest["root_hash"], "seconds": clock.seconds}, indent=1))
    return 0


def build(release: Release, out: Path, signer: signing.Signer, wheels: Path | None, clock: Clock, *, fresh: bool = False) -> dict[str, Any]:
    """Everything, into ``out``. Returns the manifest."""
    if signer.for_development:
        print(
            "image: SIGNED WITH A THROW-AWAY KEY. For development only; give --key for anything that leaves this machine.", file=sys.stderr
        )
    work = cache_folder() / "work"
    shutil.rmtree(out, ignore_errors=True)
    for folder in (work, out):
        folder.mkdir(parents=True, exist_ok=True)
    with clock.stage("tools tree"):
        tools = debian_tree("tools", release.epoch, fresh=fresh)
    with clock.stage("system tree"):
        system = debian_tree("system", release.epoch, fresh=fresh)
    with clock.stage("wheels"):
        house = wheelhouse(wheels)
    tree = work / "root"
    with clock.stage("copy"):
        copy(system, tree)
    prepare(tools, tree, release, signer, house, clock)
    made = pack(tools.path, tree, work, out, release, clock)
    return describe(tools, system, tree, out, release, signer, house, made, clock)


def wheelhouse(given: Path | None) -> Path:
    if given is None:
        given = cache_folder() / f"wheels-{PYTHON_TAG}"
        run_visibly([ROOT / "tools/make-wheelhouse", given, PYTHON_TAG])
    return given.resolve()


def prepare(tools: Tree, tree: Path, release: Release, signer: signing.Signer, house: Path, clock: Clock) -> None:
    """From a Debian tree to what the root shall hold."""
    with clock.stage("kernel modules"):
        modules.install(tools.path, tree)
    with clock.stage("roles"):
        install.guest(tree)
        install.roles(tree, {"gateway_wheels": str(house), "gateway_version": json.loads((house / "manifest.json").read_text())["version"]})
        install.names(tree, release, signer)
    with clock.stage("AppArmor"):
        apparmor.compile_profiles(tree)
    with clock.stage("clean"):
        clean.clean(tree, release.epoch)
        state.separate(tree)


def pack(tools: Path, tree: Path, work: Path, out: Path, release: Release, clock: Clock) -> root.VerifiedRoot:
    """From the finished tree to what boots."""
    with clock.stage("root and verity"):
        made = root.make(tools, tree, out, release)
    with clock.stage("initrd and UKI"):
        uki.initrd(tools, work, release)
        efi = uki.make(tools, work, out, release, made.root_hash)
    with clock.stage("disk"):
        disk.make(tools, work, out, release, made, efi)
        disk.small(tools, out, release)
    return made


def describe(
    tools: Tree,
    system: Tree,
    tree: Path,
    out: Path,
    release: Release,
    signer: signing.Signer,
    house: Path,
    made: root.VerifiedRoot,
    clock: Clock,
) -> dict[str, Any]:
    """Bill of materials, report, manifest, signatures."""
    with clock.stage("papers and signatures"):
        materials = sbom.document(release, tree, tools.path, _hashes(house), made.root_hash)
        _write(out / release.file("sbom.cdx.json"), materials)
        artefacts = sorted(path for path in out.iterdir() if path.is_file())
        (out / release.file("report.txt")).write_text(report.text(release, tree, artefacts, materials, made.root_hash))
        manifest = {
            "image_id": IMAGE_ID,
            "version": release.version,
            "package": release.package,
            "number": release.number,
            "commit": release.commit,
            "root_hash": made.root_hash,
            "root_uuid": made.root_uuid,
            "verity_uuid": made.verity_uuid,
            "kernel": modules.kernel_version(tools.path),
            "trees": {"system": system.key, "tools": tools.key},
            "files": {path.name: {"sha256": digest(path), "size": path.stat().st_size} for path in sorted(out.iterdir()) if path.is_file()},
        }
        _write(out / "manifest.json", manifest)
        for path in sorted(path for path in out.iterdir() if path.is_file()):
            path.chmod(0o644)
            signing.sign(signer, path)
        (out / "allowed_signers").write_text(signer.allowed)
        for kind in ("raw", "qcow2"):
            (out / f"{IMAGE_ID}.{kind}").symlink_to(release.file(kind))
    return manifest


def _hashes(house: Path) -> dict[str, str]:
    return {path.name: digest(path) for path in sorted(house.rglob("*.whl"))}


def digest(path: Path) -> str:
    """SHA-256 in hexadecimal."""
    with path.open("rb") as data:
        return file_digest(data, "sha256").hexdigest()


def _write(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")
