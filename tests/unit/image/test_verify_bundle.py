# SPDX-License-Identifier: Apache-2.0
"""What the verifier takes and what it refuses (T67), with real keys and ssh-keygen; no image is needed for that."""

from __future__ import annotations

import io
import json
import resource
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from image import bundle, signing, verify_bundle
from image.commands import run
from image.verify_bundle import OLDER, SAY_NO, UNREADABLE

Members = list[tuple[tarfile.TarInfo, bytes]]
EPOCH = 1_795_000_000


def key(folder: Path, name: str = "release") -> Path:
    file = folder / f"{name}-key"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file])
    return file


class Site:
    """A release engineer's key and a site that trusts it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.signer = signing.Signer(key(folder), signing.RELEASE)
        self.signers = folder / "allowed_signers"
        self.signers.write_text(self.signer.allowed)
        self.kept = folder / "bundles"

    def bundle(self, number: int, signer: signing.Signer | None = None, form: int = verify_bundle.FORMAT) -> Path:
        stage = self.folder / f"stage-{number}"
        (stage / "docs").mkdir(parents=True, exist_ok=True)
        (stage / "docs/operating.md").write_text(f"bundle {number}\n")
        (stage / "install").write_text("#!/bin/sh\n")
        (stage / "install").chmod(0o755)
        out = self.folder / f"bundle-{number}.tar"
        head = {"bundle": form, "number": number, "version": f"0.1.0.{number}", "commit": "0" * 40}
        bundle.write(stage, out, head, signer or self.signer, EPOCH)
        return out

    def verify(self, file: Path, *options: str) -> int:
        return verify_bundle.main([str(file), "--signers", str(self.signers), *options])

    def take(self, file: Path, *options: str) -> int:
        return self.verify(file, "--into", str(self.kept), *options)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def rewritten(file: Path, change: Callable[[Members], Members]) -> Path:
    """The bundle with its members changed by ``change``."""
    with tarfile.open(file) as found:
        members = [(member, taken.read() if (taken := found.extractfile(member)) else b"") for member in found]
    out = file.with_name("rewritten.tar")
    with tarfile.open(out, "w") as written:
        for member, data in change(members):
            member.size = len(data) if member.isreg() else 0
            written.addfile(member, io.BytesIO(data))
    return out


def with_member(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> Callable[[Members], Members]:
    extra = tarfile.TarInfo(name)
    extra.type, extra.linkname = kind, link
    return lambda members: [*members, (extra, data)]


def test_a_good_bundle_is_unpacked_and_remembered(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert site.take(site.bundle(7)) == 0
    assert "good: number 7, version 0.1.0.7, signed by lockgate-release, 2 files" in capsys.readouterr().out
    assert (site.kept / "current/docs/operating.md").read_text() == "bundle 7\n"
    assert (site.kept / "current/install").stat().st_mode & 0o777 == 0o755
    assert (site.kept / "last-number").read_text() == "7\n"
    assert sorted(path.name for path in site.kept.iterdir()) == ["7", "current", "last-number"]


def test_the_same_bytes_every_time(site: Site) -> None:
    assert site.bundle(7).read_bytes() == site.bundle(7).read_bytes()


def test_t67_an_unsigned_bundle_is_refused(site: Site) -> None:
    unsigned = rewritten(site.bundle(7), lambda members: [one for one in members if one[0].name != verify_bundle.SIGNATURE])
    assert site.take(unsigned) == UNREADABLE
    assert not (site.kept / "current").exists()


@pytest.mark.parametrize("trusted_elsewhere", [False, True])
def test_t67_another_key_is_refused(site: Site, trusted_elsewhere: bool) -> None:
    other = signing.Signer(key(site.folder, "other"), signing.RELEASE)
    if trusted_elsewhere:
        site.signers.write_text(site.signer.allowed + f'someone namespaces="git" {other.public}\n')
    assert site.take(site.bundle(7, other)) == SAY_NO


def test_t67_a_signature_for_another_purpose_is_refused(site: Site) -> None:
    """The same key, the same bytes, another namespace."""
    good = site.bundle(7)
    manifest = site.folder / "bundle.json"
    with tarfile.open(good) as found:
        manifest.write_bytes(taken.read() if (taken := found.extractfile(verify_bundle.MANIFEST)) else b"")
    run(["ssh-keygen", "-Y", "sign", "-q", "-n", "git", "-f", site.signer.key, manifest])
    signature = manifest.with_name("bundle.json.sig").read_bytes()
    swapped = rewritten(good, lambda members: [(one, signature if one.name == verify_bundle.SIGNATURE else data) for one, data in members])
    assert site.take(swapped) == SAY_NO


def test_t67_a_throw_away_key_is_refused_unless_asked_for(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    development = signing.Signer(key(site.folder, "development"), signing.DEVELOPMENT)
    site.signers.write_text(development.allowed)
    made = site.bundle(7, development)
    assert site.take(made) == SAY_NO
    assert "throw-away key" in capsys.readouterr().err
    assert site.take(made, "--allow-development") == 0


def test_t67_a_revoked_or_expired_key_is_refused(site: Site) -> None:
    made = site.bundle(7)
    site.signers.write_text(site.signer.allowed.replace("namespaces", 'valid-before="20200101",namespaces'))
    assert site.take(made) == SAY_NO


def test_t67_an_older_bundle_is_refused_unless_asked_for(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    older, newer = site.bundle(7), site.bundle(8)
    assert site.take(newer) == 0
    assert site.take(older) == OLDER
    assert "number 7 is older than 8" in capsys.readouterr().err
    assert (site.kept / "current").readlink() == Path("8")
    assert site.take(newer) == 0, "the same one again is no step back"
    assert site.take(older, "--allow-older") == 0
    assert (site.kept / "current").readlink() == Path("7")


def test_t67_a_damaged_memory_of_the_last_number_is_not_the_same_as_none(site: Site) -> None:
    site.kept.mkdir()
    (site.kept / "last-number").write_text("")
    assert site.take(site.bundle(7)) == UNREADABLE


def test_t67_a_changed_number_is_a_changed_manifest(site: Site) -> None:
    def renumber(members: Members) -> Members:
        return [(one, data.replace(b'"number": 7', b'"number": 9')) for one, data in members]

    assert site.take(rewritten(site.bundle(7), renumber)) == SAY_NO


@pytest.mark.parametrize("data", [b"bundle 8\n", b"bundle 7\nand more\n", b""])
def test_t67_a_changed_file_is_refused(site: Site, data: bytes) -> None:
    name = "docs/operating.md"
    changed = rewritten(site.bundle(7), lambda members: [(one, data if one.name == name else old) for one, old in members])
    assert site.take(changed) == SAY_NO
    assert list(site.kept.iterdir()) == [], "nothing of it stays"


@pytest.mark.parametrize("extra", [
    with_member("roles/extra.yml", b"- hosts: all\n"),
    with_member("docs/operating.md", b"bundle 7\n"),
    with_member("../outside", b"x"),
    with_member("/tmp/outside", b"x"),
    with_member("docs/link", kind=tarfile.SYMTYPE, link="/etc/passwd"),
    with_member("docs/link", kind=tarfile.LNKTYPE, link="install"),
    with_member("docs/device", kind=tarfile.CHRTYPE),
    with_member("docs", kind=tarfile.DIRTYPE),
])  # fmt: skip
def test_t67_anything_beyond_the_manifest_is_refused(site: Site, extra: Callable[[Members], Members]) -> None:
    assert site.take(rewritten(site.bundle(7), extra)) == SAY_NO
    assert not (site.folder / "outside").exists()


def test_t67_a_missing_file_is_refused(site: Site) -> None:
    assert site.take(rewritten(site.bundle(7), lambda members: members[:-1])) == SAY_NO


def test_t67_a_link_in_place_of_a_file_is_refused(site: Site) -> None:
    def linked(members: Members) -> Members:
        members[-1][0].type, members[-1][0].linkname = tarfile.SYMTYPE, "/etc/shadow"
        return members

    assert site.take(rewritten(site.bundle(7), linked)) == SAY_NO


@pytest.mark.parametrize("cut", [0, 100, 1000, 2000, 3000])
def test_a_bundle_cut_short_is_refused(site: Site, cut: int) -> None:
    whole = site.bundle(7).read_bytes()
    short = site.folder / "short.tar"
    short.write_bytes(whole[:cut])
    assert site.take(short) in (SAY_NO, UNREADABLE)
    assert not (site.kept / "current").exists()


def test_a_bundle_with_a_huge_manifest_is_not_read(site: Site) -> None:
    blank = b" " * (17 << 20)
    huge = rewritten(site.bundle(7), lambda members: [(one, blank if one.name == "bundle.json" else data) for one, data in members])
    assert site.take(huge) == UNREADABLE


def test_without_a_list_of_signers_nothing_is_good(site: Site) -> None:
    made = site.bundle(7)
    site.signers.unlink()
    assert site.verify(made) == UNREADABLE


@pytest.mark.parametrize("change", [
    {"bundle": 2}, {"number": "7"}, {"number": 0}, {"number": True}, {"files": {}}, {"files": {"../x": {"sha256": "0" * 64, "size": 1}}},
    {"files": {"x": {"sha256": "0" * 63, "size": 1}}}, {"files": {"x": {"sha256": "0" * 64, "size": -1}}},
    {"files": {"a//b": {"sha256": "0" * 64, "size": 1}}},
])  # fmt: skip
def test_a_signed_manifest_of_another_form_is_refused(change: dict[str, object]) -> None:
    good = {"bundle": 1, "number": 7, "version": "1", "files": {"x": {"sha256": "0" * 64, "size": 1}}}
    assert verify_bundle.read_manifest(json.dumps(good).encode())
    with pytest.raises(verify_bundle.Refused, match="another form"):
        verify_bundle.read_manifest(json.dumps({**good, **change}).encode())


@pytest.mark.parametrize("form", [0, 2])
def test_t67_a_bundle_of_an_older_or_newer_form_is_refused_whoever_signed_it(
    site: Site, form: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert site.take(site.bundle(7)) == 0
    assert site.take(site.bundle(8, form=form), "--allow-older") == SAY_NO
    assert "another form than this verifier knows" in capsys.readouterr().err
    assert (site.kept / "current").readlink() == Path("7")
    assert (site.kept / "last-number").read_text() == "7\n"


def test_t67_a_key_that_is_there_twice_is_refused() -> None:
    with pytest.raises(verify_bundle.Refused, match="twice"):
        verify_bundle.read_manifest(b'{"bundle": 1, "number": 7, "number": 9, "files": {}}')


@pytest.mark.parametrize("by", [[], [sys.executable]])
@pytest.mark.parametrize("module", ["json", "hashlib", "tarfile", "__future__", "argparse"])
def test_t67_nothing_beside_the_verifier_is_run(site: Site, module: str, by: list[str]) -> None:
    """On a carried medium, the bundle and the verifier lie beside what whoever had it in hand put there."""
    medium = site.folder / "medium"
    medium.mkdir()
    program = medium / "verify-bundle"
    program.write_bytes(Path(verify_bundle.__file__).read_bytes())
    program.chmod(0o755)
    (medium / f"{module}.py").write_text("import os\nos.write(1, b'run unverified')\nos._exit(0)\n")
    command = [*by, str(program), str(site.bundle(7)), "--signers", str(site.signers)]
    said = subprocess.run(command, capture_output=True, text=True, check=False, cwd=medium)
    assert "run unverified" not in said.stdout and said.stdout.startswith("good: number 7"), said


def sparse(name: str, size: int) -> bytes:
    """A member of no blocks at all that says it has ``size`` bytes, as GNU tar writes a file of one hole."""
    header = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": name, "GNU.sparse.realsize": str(size)}
    member = tarfile.TarInfo("hole")
    member.pax_headers, member.size = header, 512
    return member.tobuf(tarfile.PAX_FORMAT) + b"0\n".ljust(512, b"\0")


def without_end(file: Path) -> bytes:
    with tarfile.open(file) as opened:
        last = opened.getmembers()[-1]
    return file.read_bytes()[: last.offset_data + (last.size + 511) // 512 * 512]


def test_t67_a_hole_that_says_it_is_a_file_fills_no_disk(site: Site) -> None:
    name = "docs/operating.md"
    good = rewritten(site.bundle(7), lambda members: [one for one in members if one[0].name != name])
    swollen = site.folder / "swollen.tar"
    swollen.write_bytes(without_end(good) + sparse(name, 1 << 40) + bytes(1024))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 20, before[1]))
    try:
        assert site.take(swollen) == SAY_NO
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_t67_a_file_that_grew_is_refused_before_it_is_written(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    more = bytes(1 << 20)
    grown = rewritten(site.bundle(7), lambda members: [(one, data + more if "docs" in one.name else data) for one, data in members])
    monkeypatch.setattr(verify_bundle, "copy", lambda *_: pytest.fail("written"))
    assert site.take(grown) == SAY_NO


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_t67_a_header_before_the_signature_takes_no_memory(site: Site, kind: bytes) -> None:
    """Nothing of it is signed yet, and its size is what whoever made it says."""
    huge = site.folder / "huge.tar"
    header = tarfile.TarInfo("header")
    header.type, header.size = kind, 4 << 30
    with huge.open("wb") as out:
        out.write(header.tobuf())
        out.truncate(4 << 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert site.take(huge) == UNREADABLE
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 << 10
