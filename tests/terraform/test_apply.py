# SPDX-License-Identifier: Apache-2.0
"""Applied for real: libvirtd, domains under emulation, UEFI, a TPM, networks. The disks are empty: test_boot.py boots."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from base64 import b64decode
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.terraform.libvirt_host import LibvirtHost, bridge, default_pool
from tests.terraform.programs import Program, Workspace

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMHg/j+6nL8jh6uJ7iZFy27adVcV4NYwnQwxOo//DKYP tests"
SEGMENT = "inventories/example/segments/plant-a"
DOMAIN = 'module.segment.module.gateway["gw-lab-1"].libvirt_domain.gateway'
HOSTILE = "$(reboot) `reboot` {{ 7*7 }} ${7*7} %{ if true } </entry><entry>io.systemd.credential:x=y \" ' , \\ \n\u2028 é"


@pytest.fixture
def lab(program: Program, tree: Path, folder: Path, empty_image: Path, hypervisor: LibvirtHost) -> Workspace:
    variables = {
        "libvirt_uri": hypervisor.uri,
        "folder": str(folder),
        "image": str(empty_image),
        "memory_mib": 512,
        "authorized_keys": [KEY],
        "segment_folder": str(tree.parent / SEGMENT),
        "credentials": {"lab.hostile": HOSTILE},
        "inventory_file": str(folder / "hosts.yml"),
    }
    return Workspace(program, tree / "environments/lab", variables).init()


def domain_xml(host: LibvirtHost, name: str) -> ElementTree.Element:
    return ElementTree.fromstring(host.virsh("dumpxml", name))


def credentials(domain: ElementTree.Element) -> dict[str, bytes]:
    """What systemd in the machine will read from SMBIOS."""
    found = {}
    for entry in domain.findall("./sysinfo/oemStrings/entry"):
        name, _, value = (entry.text or "").removeprefix("io.systemd.credential.binary:").partition("=")
        found[name] = b64decode(value, validate=True)
    return found


def tpm_state(host: LibvirtHost, uuid: str) -> bytes:
    return (host.root / f"var/lib/libvirt/swtpm/{uuid}/tpm2/tpm2-00.permall").read_bytes()


def ansible_inventory(file: Path) -> Any:
    command = [str(Path(sys.executable).with_name("ansible-inventory")), "--list", "-i", str(file)]
    return json.loads(subprocess.run(command, check=True, text=True, capture_output=True).stdout)


def test_lab(lab: Workspace, tree: Path, hypervisor: LibvirtHost, folder: Path) -> None:
    lab.apply()
    try:
        assert not lab.has_changes()
        domain = domain_xml(hypervisor, "gw-lab-1")
        _the_machine_is_as_asked_for(domain)
        _first_boot_is_told(domain, tree.parent / SEGMENT)
        _the_hypervisor_serves_nothing(hypervisor)
        _the_inventory_is_one(lab, folder / "hosts.yml")
        _no_secret_is_in_the_state(lab)
        _first_boot_s_things_do_not_make_it_anew(lab)
        _a_machine_made_anew_is_the_same(lab, hypervisor)
    finally:
        lab.destroy()
    assert hypervisor.virsh("list", "--all", "--name").split() == []
    assert hypervisor.virsh("net-list", "--all", "--name").split() == []
    assert not (folder / "pool").exists()


def _the_machine_is_as_asked_for(domain: ElementTree.Element) -> None:
    assert domain.get("type") == "qemu"
    assert domain.findtext("./os/loader") == "/usr/share/OVMF/OVMF_CODE_4M.fd"
    tpm = domain.find("./devices/tpm")
    assert tpm is not None
    assert tpm.get("model") == "tpm-crb"
    backend = tpm.find("backend")
    assert backend is not None
    assert backend.attrib == {"type": "emulator", "version": "2.0", "persistent_state": "yes"}
    assert domain.findall("./devices/graphics") == domain.findall("./devices/channel") == domain.findall("./devices/hostdev") == []
    assert [model.get("type") for model in domain.findall("./devices/video/model")] == ["none"]
    assert len(domain.findall("./devices/interface")) == 1


def _first_boot_is_told(domain: ElementTree.Element, segment: Path) -> None:
    told = credentials(domain)
    assert set(told) == {"lockgate.firstboot", "lockgate.segment", "lab.hostile"}
    assert told["lab.hostile"].decode() == HOSTILE
    document = json.loads(told["lockgate.firstboot"])
    interface = domain.find("./devices/interface/mac")
    assert interface is not None
    assert document == {
        "version": 1,
        "name": "gw-lab-1",
        "segment": "lab",
        "interfaces": [
            {"name": "management", "mac": interface.get("address"), "addresses": ["10.88.20.11/24"], "gateway": None, "routes": []}
        ],
        "name_servers": [],
        "time_servers": [],
        "management": {"networks": ["10.88.20.0/24"], "authorized_keys": [KEY], "user_ca": ""},
    }
    files = json.loads(gzip.decompress(told["lockgate.segment"]))
    assert files == {str(file.relative_to(segment)): file.read_text() for file in segment.rglob("*") if file.is_file()}


def _the_hypervisor_serves_nothing(hypervisor: LibvirtHost) -> None:
    assert hypervisor.run("ss", "-Hlntup").stdout == ""


def _the_inventory_is_one(lab: Workspace, file: Path) -> None:
    listed = ansible_inventory(file)
    assert listed["_meta"]["hostvars"] == {"gw-lab-1": {"ansible_host": "10.88.20.11", "gateway_segment": "lab"}}
    assert listed["gateways"] == {"children": ["segment_lab"]}
    as_json = file.with_suffix(".json")
    as_json.write_text(json.dumps(lab.output("inventory")))
    assert ansible_inventory(as_json) == listed


def _no_secret_is_in_the_state(lab: Workspace) -> None:
    state = lab.state
    assert "PRIVATE KEY" not in state
    assert '"sensitive_values": {' not in state
    for domain in (instance for resource in json.loads(state)["resources"] for instance in resource["instances"]):
        assert not [name for name in domain["attributes"] if "password" in name]


def _first_boot_s_things_do_not_make_it_anew(lab: Workspace) -> None:
    before = lab.variables
    lab.variables = before | {"authorized_keys": [KEY, KEY.replace("tests", "more")], "image": "/nowhere/newer.raw"}
    assert not lab.has_changes()
    lab.variables = before


def _a_machine_made_anew_is_the_same(lab: Workspace, hypervisor: LibvirtHost) -> None:
    uuid = lab.output("gateways")["gw-lab-1"]["id"]
    sealed = tpm_state(hypervisor, uuid)
    running = hypervisor.virsh("domid", "gw-lab-1")
    lab.apply(f"-replace={DOMAIN}")
    assert hypervisor.virsh("domid", "gw-lab-1") != running
    assert lab.output("gateways")["gw-lab-1"]["id"] == uuid
    assert tpm_state(hypervisor, uuid) == sealed


def test_example_pair(program: Program, tree: Path, empty_image: Path, hypervisor: LibvirtHost) -> None:
    with default_pool(hypervisor, empty_image.parent / "pool"):
        pair = Workspace(
            program, tree / "modules/segment/examples/pair", {"image": str(empty_image), "domain_type": "qemu"}, hypervisor.uri
        ).init()
        pair.apply()
        try:
            assert not pair.has_changes()
            assert sorted(hypervisor.virsh("list", "--name").split()) == ["gw-c-1", "gw-c-2"]
            hosts = pair.output("inventory")["all"]["children"]["gateways"]["children"]["segment_plant_c"]["hosts"]
            assert hosts == {"gw-c-1": {"ansible_host": "10.88.21.11"}, "gw-c-2": {"ansible_host": "10.88.21.12"}}
            macs = [i["mac"] for gateway in pair.output("gateways").values() for i in gateway["interfaces"].values()]
            assert len(set(macs)) == 4
            _the_hypervisor_serves_nothing(hypervisor)
        finally:
            pair.destroy()


def test_example_single(program: Program, tree: Path, empty_image: Path, hypervisor: LibvirtHost) -> None:
    with default_pool(hypervisor, empty_image.parent / "pool"), bridge(hypervisor, "br-mgmt"):
        single = Workspace(
            program, tree / "modules/gateway_vm/examples/single", {"image": str(empty_image), "domain_type": "qemu"}, hypervisor.uri
        ).init()
        single.apply()
        try:
            assert not single.has_changes()
            domain = domain_xml(hypervisor, "gw-single")
            source = domain.find("./devices/interface/source")
            assert source is not None
            assert source.get("bridge") == "br-mgmt"
            assert "master br-mgmt" in hypervisor.run("ip", "-o", "link", "show", "type", "tun").stdout
        finally:
            single.destroy()
