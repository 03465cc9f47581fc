# SPDX-License-Identifier: Apache-2.0
"""Bill of materials, report, manifest and signatures say what is in the image."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from image.build import digest
from image.signing import NAMESPACE
from image.verify_bundle import Refused, signed_by
from tests.image.conftest import Image


@pytest.fixture(scope="module")
def materials(image: Image) -> dict[str, Any]:
    return dict(json.loads(image.file("sbom.cdx.json").read_text()))


def test_the_bill_of_materials_is_cyclonedx_1_6(image: Image) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(image.file("sbom.cdx.json").read_text()) is None


def test_every_installed_package_is_in_it(image: Image, materials: dict[str, Any]) -> None:
    status = (image.root / "usr/lib/sysimage/dpkg/status").read_text()
    there = [part for part in status.split("\n\n") if "\nStatus: install ok installed\n" in part]
    installed = {part.split("\n", 1)[0].removeprefix("Package: ") for part in there}
    named = {component["name"] for component in materials["components"] if component["purl"].startswith("pkg:deb/")}
    assert len(installed) > 100
    assert installed <= named
    assert {name for name in named - installed if not name.startswith("linux-image-")} == {"systemd-boot-efi"}, "from the tools tree"
    assert [name for name in named if name.startswith("linux-image-")]


def test_python_packages_carry_the_hash_of_their_wheel(image: Image, materials: dict[str, Any]) -> None:
    python = [component for component in materials["components"] if component["purl"].startswith("pkg:pypi/")]
    there = {path.name for path in image.root.glob("opt/lockgate/releases/*/lib/python3*/site-packages/*.dist-info")}
    assert len(python) == len(there) > 15
    assert [component["name"] for component in python if not re.fullmatch("[0-9a-f]{64}", component["hashes"][0]["content"])] == []
    assert "lockgate" in {component["name"] for component in python}


def test_the_manifest_names_every_file_with_its_hash(image: Image) -> None:
    listed = image.manifest["files"]
    there = {path.name for path in image.folder.iterdir() if path.is_file() and not path.is_symlink() and path.suffix != ".sig"}
    assert there - {"manifest.json", "timings.json", "allowed_signers"} == set(listed)
    for name in (name for name in listed if not name.endswith(".raw")):
        assert digest(image.folder / name) == listed[name]["sha256"], name


def test_every_file_is_signed(image: Image) -> None:
    signers = image.folder / "allowed_signers"
    assert f'namespaces="{NAMESPACE}"' in signers.read_text()
    for name in [name for name in image.manifest["files"] if not name.endswith(".raw")] + ["manifest.json"]:
        data, signature = (image.folder / name).read_bytes(), (image.folder / f"{name}.sig").read_bytes()
        signed_by(data, signature, signers, allow_development=True)
    assert image.file("raw.sig").exists()


def test_t67_a_changed_manifest_is_not_signed(image: Image) -> None:
    data = (image.folder / "manifest.json").read_bytes().replace(b'"number": 2', b'"number": 3')
    with pytest.raises(Refused, match="does not fit"):
        signed_by(data, (image.folder / "manifest.json.sig").read_bytes(), image.folder / "allowed_signers", allow_development=True)


def test_the_report_names_sizes_programs_and_packages(image: Image) -> None:
    text = image.file("report.txt").read_text()
    assert image.manifest["root_hash"] in text
    assert re.search(r"^  -rwsr-xr-x /usr/bin/sudo$", text, re.MULTILINE)
    assert re.search(r"^  openssh-server 1:", text, re.MULTILINE)


def test_the_image_takes_its_next_release_from_the_same_signer(image: Image) -> None:
    assert (image.root / "usr/share/lockgate/allowed_signers").read_text() == (image.folder / "allowed_signers").read_text()
