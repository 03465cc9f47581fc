# SPDX-License-Identifier: Apache-2.0
"""The root file system as one file, and the hash tree that vouches for every block of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from image.chroot import inside
from image.release import Release


@dataclass(frozen=True, slots=True)
class VerifiedRoot:
    """``root_hash`` names the content. Data and hash partition carry its two halves as their UUIDs, which is how the initrd finds them."""

    root: Path
    verity: Path
    root_hash: str

    @property
    def root_uuid(self) -> str:
        return _uuid(self.root_hash[:32])

    @property
    def verity_uuid(self) -> str:
        return _uuid(self.root_hash[32:])


def _uuid(digits: str) -> str:
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def make(tools: Path, tree: Path, out: Path, release: Release) -> VerifiedRoot:
    """erofs, then dm-verity. Every time, identifier and salt follows from the release."""
    root, verity = out / release.file("root"), out / release.file("verity")
    for file in (root, verity):
        file.unlink(missing_ok=True)
    binds = {"/mnt": tree, "/srv": out}
    erofs = ["mkfs.erofs", "--quiet", "-zlz4hc,9", "-C65536", "--all-time", "-T", str(release.epoch), "-U", str(release.uuid("erofs"))]
    inside(tools, [*erofs, "--workers=1", f"/srv/{root.name}", "/mnt"], binds=binds)
    salt = sha256(f"{release.version}/salt".encode()).hexdigest()
    options = [
        "--uuid",
        str(release.uuid("verity")),
        "--salt",
        salt,
        "--hash",
        "sha256",
        "--data-block-size",
        "4096",
        "--hash-block-size",
        "4096",
    ]
    said = inside(tools, ["veritysetup", "format", *options, f"/srv/{root.name}", f"/srv/{verity.name}"], binds={"/srv": out})
    found = re.search(r"^Root hash:\s+([0-9a-f]{64})$", said, re.MULTILINE)
    if found is None:
        raise ValueError(f"veritysetup named no root hash:\n{said}")
    return VerifiedRoot(root, verity, found[1])
