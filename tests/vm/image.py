# SPDX-License-Identifier: Apache-2.0
"""The image that is booted, and further versions of it: the same root with another name, or with something broken."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from image import install, root, signing, uki
from image.build import digest
from image.commands import run
from image.release import Release
from image.tree import cache_folder, debian_tree


@dataclass(frozen=True, slots=True)
class Image:
    """What ``make image`` left in ``folder``."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def version(self) -> str:
        return str(self.manifest["version"])

    @property
    def disk(self) -> Path:
        return self.file("raw")

    def file(self, kind: str) -> Path:
        return self.folder / f"lockgate_{self.version}.{kind}"

    def update_files(self) -> list[Path]:
        """What ``update install`` wants in one folder."""
        signed = self.folder / "manifest.json"
        return [signed, signed.with_name("manifest.json.sig"), *(self.file(kind) for kind in ("root", "verity", "efi"))]


def read(folder: Path) -> Image:
    return Image(folder, json.loads((folder / "manifest.json").read_text()))


def newer(image: Image, out: Path, hours: int, change: Callable[[Path], None] | None = None) -> Image:
    """``image`` as it would be ``hours`` later: signed by the same throw-away key, ``change`` done to its root."""
    cached = debian_tree("tools", 0)
    if cached.key != image.manifest["trees"]["tools"]:
        raise ValueError(f"{image.folder} was made with other tools than {cached.path}: run `make image` again")
    tools = cached.path
    epoch = int(datetime.strptime(str(image.manifest["number"]), "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp())
    release = Release(str(image.manifest["package"]), epoch + 3600 * hours, str(image.manifest["commit"]))
    signer = signing.signer(None, cache_folder())
    if signer.allowed != (image.folder / "allowed_signers").read_text():
        raise ValueError(f"{image.folder} is not signed with the throw-away key, so that it takes no image of this test")
    work = out / "work"
    work.mkdir(parents=True)
    with _writable(image.file("root"), out / "tree") as tree:
        install.names(tree, release, signer)
        if change is not None:
            change(tree)
        made = root.make(tools, tree, out, release)
    uki.initrd(tools, work, release)
    uki.make(tools, work, out, release, made.root_hash)
    shutil.rmtree(work)
    manifest = {
        **image.manifest, "version": release.version, "number": release.number, "root_hash": made.root_hash,
        "root_uuid": made.root_uuid, "verity_uuid": made.verity_uuid,
        "files": {path.name: {"sha256": digest(path), "size": path.stat().st_size} for path in sorted(out.iterdir()) if path.is_file()},
    }  # fmt: skip
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    signing.sign(signer, out / "manifest.json")
    return read(out)


@contextmanager
def _writable(lower: Path, at: Path) -> Iterator[Path]:
    """The root in the file ``lower``, with a layer in memory over it."""
    for name in ("lower", "layer", "tree"):
        (at / name).mkdir(parents=True)
    mounted: list[Path] = []
    try:
        run(["mount", "-t", "erofs", "-o", "loop,ro", lower, at / "lower"])
        mounted.append(at / "lower")
        run(["mount", "-t", "tmpfs", "-o", "mode=0700", "layer", at / "layer"])
        mounted.append(at / "layer")
        for name in ("upper", "work"):
            (at / "layer" / name).mkdir(mode=0o755)
        layers = f"lowerdir={at / 'lower'},upperdir={at / 'layer/upper'},workdir={at / 'layer/work'}"
        run(["mount", "-t", "overlay", "-o", layers, "overlay", at / "tree"])
        mounted.append(at / "tree")
        yield at / "tree"
    finally:
        for path in reversed(mounted):
            run(["umount", path])
        shutil.rmtree(at)
