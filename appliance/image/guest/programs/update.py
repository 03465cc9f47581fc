#!/usr/bin/python3 -I
# SPDX-License-Identifier: Apache-2.0
"""Write another image into the slot that is not running.

    update install DIR [--allow-older] [--allow-development]
                            DIR holds an image's manifest.json, its signature and the files; verified first
    update other-slot       boot the other image from now on (it is there since the last update, or since before it)
    update status           JSON: what runs, what is in the other slot, the last number taken

Allowed signers are the running image's own: /usr/share/lockgate/allowed_signers. Nothing restarts the machine. The exit status is that of
verify-bundle.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, "/usr/lib/lockgate")
sys.dont_write_bytecode = True
from image import verify_bundle as verifier  # noqa: E402 (lies beside this program, where `python -I` does not look by itself)

SIGNERS = Path("/usr/share/lockgate/allowed_signers")
RELEASE = Path("/etc/lockgate-appliance/release.json")
STATE = Path("/var/lib/lockgate-update")
SYSUPDATE = "/usr/lib/systemd/systemd-sysupdate"
NEEDED = ("root", "verity", "efi")
_ENTRY = re.compile(r"^lockgate_(?P<version>[0-9.]+)(\+\d+(-\d+)?)?\.efi$")
_PLAIN = re.compile(r"[0-9A-Za-z-]{1,36}")
_VERSION = re.compile(r"[0-9]+(\.[0-9]+)+")


def running() -> dict[str, Any]:
    return dict(json.loads(RELEASE.read_text()))


def last_number() -> int:
    """The newest of what was ever installed here and what runs."""
    return max(verifier.read_number(STATE / "last-number"), int(running()["number"]))


def read_image(folder: Path, *, allow_older: bool, allow_development: bool) -> dict[str, Any]:
    """The image's manifest, signed, not older, and its three files as they were signed. Raises ``Refused``."""
    try:
        data, signature = (folder / "manifest.json").read_bytes(), (folder / "manifest.json.sig").read_bytes()
    except OSError as error:
        raise verifier.Refused(f"{error.filename}: {error.strerror}", verifier.UNREADABLE) from None
    development = allow_development or verifier.DEVELOPMENT in running()["signer"]
    verifier.signed_by(data, signature, SIGNERS, allow_development=development)
    manifest = of_image(data)
    verifier.refuse_older(manifest["number"], last_number(), allow=allow_older)
    return manifest


def of_image(data: bytes) -> dict[str, Any]:
    """A signed manifest of an image. Raises ``Refused`` for another document that the same key signed, such as a bundle's manifest."""
    try:
        manifest = dict(json.loads(data, object_pairs_hook=verifier.unique))
        files = [manifest["files"][f"lockgate_{manifest['version']}.{kind}"] for kind in NEEDED]
        good = all(_PLAIN.fullmatch(manifest[name]) for name in ("root_uuid", "verity_uuid")) and type(manifest["number"]) is int
        good = good and bool(_VERSION.fullmatch(manifest["version"])) and manifest["number"] > 0 and "bundle" not in manifest
        good = good and all(type(one["size"]) is int and type(one["sha256"]) is str for one in files)
    except (ValueError, KeyError, TypeError, RecursionError):
        good = False
    if not good:
        raise verifier.Refused("the manifest has another form than this program knows")
    return manifest


def stage(folder: Path, manifest: dict[str, Any]) -> None:
    """Copy the files to where only root writes, comparing on the way, under the names that the transfers look for."""
    verified = STATE / "verified"
    shutil.rmtree(verified, ignore_errors=True)
    verified.mkdir(parents=True, mode=0o700)
    version = manifest["version"]
    names = {
        "root": f"lockgate_{version}_{manifest['root_uuid']}.root",
        "verity": f"lockgate_{version}_{manifest['verity_uuid']}.verity",
        "efi": f"lockgate_{version}.efi",
    }
    for kind in NEEDED:
        name = f"lockgate_{version}.{kind}"
        if (folder / name).stat().st_size != manifest["files"][name]["size"]:
            raise verifier.Refused(f"{name}: changed after it was signed")
        with (folder / name).open("rb") as source, (verified / names[kind]).open("xb") as target:
            digest = verifier.copy(source, target)
        if digest != manifest["files"][name]["sha256"]:
            raise verifier.Refused(f"{name}: changed after it was signed")


def install(folder: Path, *, allow_older: bool, allow_development: bool) -> int:
    manifest = read_image(folder, allow_older=allow_older, allow_development=allow_development)
    version = manifest["version"]
    if version == running()["image_version"]:
        print(f"{version} is what runs")
        return 0
    if version in entries():
        print(f"{version} is in the other slot")
    else:
        try:
            stage(folder, manifest)
            call(SYSUPDATE, "--verify=no", "update", version)
        finally:
            shutil.rmtree(STATE / "verified", ignore_errors=True)
        print(f"installed {version}")
    verifier.write_number(STATE / "last-number", int(manifest["number"]))
    # An older image that was asked for would not be tried by itself: systemd-boot takes the newest.
    newer = int(manifest["number"]) > int(running()["number"])
    call("/usr/bin/bootctl", "set-default", "" if newer else f"lockgate_{version}*")
    return 0


def entries() -> list[str]:
    """The versions that systemd-boot knows."""
    found = (_ENTRY.match(path.name) for path in sorted(Path("/boot/EFI/Linux").glob("*.efi")))
    return [one["version"] for one in found if one]


def others() -> list[str]:
    return [version for version in entries() if version != running()["image_version"]]


def other_slot() -> int:
    if not others():
        raise verifier.Refused("there is no other image")
    version = others()[-1]
    call("/usr/bin/bootctl", "set-default", f"lockgate_{version}*")
    print(f"next boot: {version}")
    return 0


def status() -> int:
    print(json.dumps({"running": running(), "other": others(), "last_number": last_number()}, sort_keys=True))
    return 0


def call(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise verifier.Refused(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}", verifier.UNREADABLE)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="update", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    wanted = verbs.add_parser("install")
    wanted.add_argument("folder", type=Path, metavar="DIR")
    wanted.add_argument("--allow-older", action="store_true")
    wanted.add_argument("--allow-development", action="store_true")
    verbs.add_parser("other-slot")
    verbs.add_parser("status")
    args = parser.parse_args(argv)
    STATE.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        if args.verb == "install":
            return install(args.folder, allow_older=args.allow_older, allow_development=args.allow_development)
        return other_slot() if args.verb == "other-slot" else status()
    except verifier.Refused as refused:
        print(f"update: REFUSED: {refused}", file=sys.stderr)
        return refused.status


if __name__ == "__main__":
    sys.exit(main())
