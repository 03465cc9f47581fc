#!/usr/bin/env -S python3 -I
# SPDX-License-Identifier: Apache-2.0
"""Check a Lockgate bundle, and unpack it. Needs Python 3.9 and ssh-keygen, nothing else; this one file is all of it.

    verify-bundle BUNDLE --signers FILE                   say whether it is good
    verify-bundle BUNDLE --signers FILE --into DIR        and unpack it into DIR/NUMBER, remember NUMBER, point DIR/current at it

FILE is OpenSSH's list of allowed signers; it reaches the site by another way than the bundle. Exit status: 0 good; 1 not signed by an
allowed signer, changed, incomplete or with more in it than was signed; 2 cannot be read; 3 older than the last one taken
(--allow-older takes it all the same). Nothing is unpacked that was not verified before, and nothing is run from the folder that this file
lies in: on a carried medium, what lies beside it may be named like a module of Python.
"""

import sys

if __name__ == "__main__" and not sys.flags.isolated:  # before any other import; isolated is what `-I` above makes of it
    sys.path[:] = [place for place in sys.path if place != sys.path[0]]

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

NAMESPACE = "lockgate-release"
DEVELOPMENT = "DEVELOPMENT-ONLY"
FORMAT = 1
MANIFEST, SIGNATURE = "bundle.json", "bundle.json.sig"
LARGEST_MANIFEST, LARGEST_SIGNATURE = 16 << 20, 16 << 10
_LARGEST_READ = LARGEST_MANIFEST + 512
_CHUNK = 1 << 20
_DIGEST = re.compile(r"[0-9a-f]{64}")

SAY_NO, UNREADABLE, OLDER = 1, 2, 3


class Refused(Exception):
    """Not to be trusted; ``status`` is the program's exit status."""

    def __init__(self, reason: str, status: int = SAY_NO) -> None:
        super().__init__(reason)
        self.status = status


def signed_by(data: bytes, signature: bytes, signers: Path, *, allow_development: bool = False) -> str:
    """The name of the allowed signer who signed ``data``. Raises ``Refused``."""
    if not signers.is_file():
        raise Refused(f"{signers}: no file of allowed signers", UNREADABLE)
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "signature"
        kept.write_bytes(signature)
        found = _ssh_keygen(["find-principals", "-s", kept, "-f", signers], b"")
        names = found.stdout.decode(errors="replace").split()
        if found.returncode or not names:
            raise Refused("not signed by an allowed signer")
        checked = _ssh_keygen(["verify", "-n", NAMESPACE, "-I", names[0], "-s", kept, "-f", signers], data)
        if checked.returncode:
            raise Refused("the signature does not fit: changed after it was signed, or signed for another purpose")
    if DEVELOPMENT in names[0] and not allow_development:
        raise Refused(f"signed by {names[0]}: a throw-away key (--allow-development takes it all the same)")
    return names[0]


def _ssh_keygen(words: "list[str | Path]", stdin: bytes) -> "subprocess.CompletedProcess[bytes]":
    command = ["ssh-keygen", "-Y", *map(str, words)]
    return subprocess.run(command, input=stdin, capture_output=True, check=False)


def refuse_older(number: int, last: int, *, allow: bool) -> None:
    """Raises ``Refused`` when ``number`` is below ``last``."""
    if number < last and not allow:
        raise Refused(f"number {number} is older than {last}, which was here already (--allow-older takes it all the same)", OLDER)


def read_number(file: Path) -> int:
    """The last number taken; 0 where there was none. A file that cannot be read is not the same as none."""
    try:
        return int(file.read_text())
    except FileNotFoundError:
        return 0
    except (OSError, ValueError):
        raise Refused(f"{file}: not a number", UNREADABLE) from None


def write_number(file: Path, number: int) -> None:
    """Replaces the file in one step; survives a power cut."""
    fresh = file.with_name(f".{file.name}.new")
    with fresh.open("w") as out:
        out.write(f"{number}\n")
        out.flush()
        os.fsync(out.fileno())
    fresh.replace(file)


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Refused("a key of the manifest is there twice")
    return found


def read_manifest(data: bytes) -> dict[str, Any]:
    """A signed manifest, its form checked all the same. Raises ``Refused``."""
    try:
        manifest = json.loads(data, object_pairs_hook=unique)
        files = manifest["files"]
        good = manifest["bundle"] == FORMAT and type(manifest["number"]) is int and manifest["number"] > 0 and bool(files)
        good = good and all(_good_entry(name, entry) for name, entry in files.items())
    except (ValueError, KeyError, TypeError, AttributeError):
        good = False
    if not good:
        raise Refused("the manifest has another form than this verifier knows")
    return dict(manifest)


def _good_entry(name: str, entry: dict[str, Any]) -> bool:
    path = PurePosixPath(name)
    plain = str(path) == name and not path.is_absolute() and ".." not in path.parts and name.isprintable() and "\\" not in name
    return plain and type(entry["size"]) is int and entry["size"] >= 0 and bool(_DIGEST.fullmatch(entry["sha256"]))


class _Bounded:
    """A stream that gives no more at once than a manifest may have: what a header says of its own size is nobody's word yet."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.seek, self.tell, self._read = stream.seek, stream.tell, stream.read

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _LARGEST_READ:
            raise Refused("not a bundle: a header of it is too large", UNREADABLE)
        return self._read(size)


def open_bundle(stream: IO[bytes]) -> tarfile.TarFile:
    try:
        return tarfile.open(fileobj=cast("IO[bytes]", _Bounded(stream)), mode="r:")
    except tarfile.TarError as error:
        raise Refused(f"not a bundle: {error}", UNREADABLE) from None


def first(bundle: tarfile.TarFile, name: str, largest: int) -> bytes:
    """The next member, which has to be ``name`` and small."""
    member = bundle.next()
    data = bundle.extractfile(member) if member is not None and member.name == name and member.isreg() and member.size <= largest else None
    if data is None:
        raise Refused(f"not a bundle: {name} is not where it belongs", UNREADABLE)
    return data.read()


def take_files(bundle: tarfile.TarFile, files: dict[str, dict[str, Any]], into: "Path | None") -> None:
    """Compare every other member with the manifest while it is read; write what ``into`` asks for. Raises ``Refused``."""
    missing = dict(files)
    while (member := bundle.next()) is not None:
        entry = missing.pop(member.name, None)
        data = bundle.extractfile(member) if member.isreg() else None
        if entry is None or data is None:
            raise Refused(f"{member.name!r}: not in the manifest, there twice, or not a plain file")
        if member.size != entry["size"] or member.issparse():  # before a byte is written: a few may stand for a full disk
            raise Refused(f"{member.name}: changed after it was signed")
        with _target(into, member.name, executable=entry.get("executable") is True) as target:
            if copy(data, target) != entry["sha256"]:
                raise Refused(f"{member.name}: changed after it was signed")
    if missing:
        raise Refused(f"{min(missing)}: missing")


@contextlib.contextmanager
def _target(into: "Path | None", name: str, *, executable: bool) -> "Iterator[IO[bytes] | None]":
    if into is None:
        yield None
        return
    path = into / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as out:
        yield out
        os.fchmod(out.fileno(), 0o755 if executable else 0o644)


def copy(data: IO[bytes], target: "IO[bytes] | None") -> str:
    found = hashlib.sha256()
    while chunk := data.read(_CHUNK):
        found.update(chunk)
        if target is not None:
            target.write(chunk)
    return found.hexdigest()


def verify(
    bundle: Path, signers: Path, into: "Path | None", *, last: int = 0, allow_older: bool = False, allow_development: bool = False
) -> dict[str, Any]:
    """The manifest of a good bundle; its files are in ``into`` then. Raises ``Refused``."""
    try:
        with bundle.open("rb") as stream, open_bundle(stream) as opened:
            data = first(opened, MANIFEST, LARGEST_MANIFEST)
            signer = signed_by(data, first(opened, SIGNATURE, LARGEST_SIGNATURE), signers, allow_development=allow_development)
            manifest = read_manifest(data)
            refuse_older(manifest["number"], last, allow=allow_older)
            take_files(opened, manifest["files"], into)
    except (tarfile.TarError, ValueError, ArithmeticError, RecursionError) as error:  # what tarfile says of a header made to hurt
        raise Refused(f"{bundle}: {error}") from None
    except OSError as error:
        raise Refused(f"{error.filename or bundle}: {error.strerror}", UNREADABLE) from None
    if into is not None:
        (into / MANIFEST).write_bytes(data)
    return {**manifest, "signer": signer}


def unpack(bundle: Path, signers: Path, folder: Path, *, allow_older: bool, allow_development: bool) -> dict[str, Any]:
    """Verify into a folder beside, then rename; ``folder/last-number`` only grows unless an older one was asked for."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "last-number"
    fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=folder))
    try:
        manifest = verify(bundle, signers, fresh, last=read_number(kept), allow_older=allow_older, allow_development=allow_development)
        number = str(manifest["number"])
        fresh.chmod(0o755)
        shutil.rmtree(folder / number, ignore_errors=True)
        fresh.rename(folder / number)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    write_number(kept, manifest["number"])
    link = folder / ".current.new"
    link.unlink(missing_ok=True)
    link.symlink_to(number)
    link.replace(folder / "current")
    return manifest


def main(argv: "list[str] | None" = None) -> int:
    parser = argparse.ArgumentParser(prog="verify-bundle", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--signers", type=Path, required=True, metavar="FILE", help="OpenSSH's list of allowed signers")
    parser.add_argument("--into", type=Path, metavar="DIR", help="where bundles are kept on this site")
    parser.add_argument("--allow-older", action="store_true", help="take a bundle whose number is below the last one's")
    parser.add_argument("--allow-development", action="store_true", help="take one signed with a throw-away key")
    args = parser.parse_args(argv)
    allowed = {"allow_older": args.allow_older, "allow_development": args.allow_development}
    try:
        found = unpack(args.bundle, args.signers, args.into, **allowed) if args.into else verify(args.bundle, args.signers, None, **allowed)
    except Refused as refused:
        print(f"verify-bundle: REFUSED: {refused}", file=sys.stderr)
        return refused.status
    print(f"good: number {found['number']}, version {found['version']}, signed by {found['signer']}, {len(found['files'])} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
