# SPDX-License-Identifier: Apache-2.0
"""The bill of materials: CycloneDX 1.6 as JSON, from the tree itself and not from what was asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.parser import HeaderParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

from image.release import IMAGE_ID, Release
from image.state import PACKAGES

Component = dict[str, Any]

_ARCHITECTURE = "amd64"


def document(release: Release, tree: Path, tools: Path, wheels: Mapping[str, str], root_hash: str) -> dict[str, Any]:
    """``wheels`` maps the file names of wheels to their SHA-256, as the wheelhouse wrote them."""
    components = [*debian(tree / PACKAGES / "status"), *kernel(tools), *python(tree, wheels)]
    components.sort(key=lambda component: component["bom-ref"])
    own = _own(release, root_hash)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{release.uuid('sbom')}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(release.epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": own,
            "licenses": [{"license": {"id": "Apache-2.0"}}],
        },
        "components": components,
        "dependencies": [
            {"ref": own["bom-ref"], "dependsOn": [component["bom-ref"] for component in components]},
            *({"ref": component["bom-ref"]} for component in components),
        ],
    }


def _own(release: Release, root_hash: str) -> Component:
    return {
        "type": "operating-system",
        "bom-ref": f"pkg:generic/{IMAGE_ID}-image@{release.version}",
        "name": f"{IMAGE_ID}-image",
        "version": release.version,
        "description": "Lockgate access gateway, bootable image",
        "licenses": [{"license": {"id": "Apache-2.0"}}],
        "properties": [
            {"name": "lockgate:commit", "value": release.commit},
            {"name": "lockgate:verity-root-hash", "value": root_hash},
        ],
    }


def debian(status: Path) -> Iterator[Component]:
    """The installed packages of a dpkg status file."""
    for paragraph in status.read_text().split("\n\n"):
        fields = HeaderParser().parsestr(paragraph)
        if fields["Status"] == "install ok installed":
            yield _deb(fields["Package"], fields["Version"], fields["Architecture"], fields.get("Source", fields["Package"]))


def _deb(name: str, version: str, architecture: str, source: str) -> Component:
    purl = f"pkg:deb/debian/{quote(name, safe='')}@{quote(version, safe='')}?arch={architecture}&distro=debian-13"
    properties = [{"name": "debian:source", "value": re.sub(r"[ (].*", "", source)}]
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl, "properties": properties}


def kernel(tools: Path) -> Iterator[Component]:
    """What ships from the tools tree: the kernel with its modules, and systemd's EFI programs."""
    shipped = re.compile(r"^(linux-image-\d.*|systemd-boot-efi)$")
    yield from (component for component in debian(tools / "var/lib/dpkg/status") if shipped.match(component["name"]))


def python(tree: Path, wheels: Mapping[str, str]) -> Iterator[Component]:
    """What is installed beside the interpreter's own packages: the gateway and its dependencies, each with the hash of its wheel."""
    hashes = {_wheel_key(name): digest for name, digest in wheels.items()}
    for metadata in sorted(tree.glob("opt/lockgate/releases/*/lib/python3*/site-packages/*.dist-info/METADATA")):
        fields = HeaderParser().parsestr(metadata.read_text())
        name, version = _normal(fields["Name"]), fields["Version"]
        purl = f"pkg:pypi/{name}@{quote(version, safe='')}"
        component: Component = {
            "type": "application" if name == "lockgate" else "library",
            "bom-ref": purl,
            "name": name,
            "version": version,
            "purl": purl,
        }
        if digest := hashes.get((name, version)):
            component["hashes"] = [{"alg": "SHA-256", "content": digest}]
        yield component


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _wheel_key(file: str) -> tuple[str, str]:
    name, version, *_ = file.removesuffix(".whl").split("-")
    return _normal(name), version
