# SPDX-License-Identifier: Apache-2.0
"""What is in the root, and above all what is not."""

from __future__ import annotations

import os
import re
import stat

import pytest

from image import modules
from image.chroot import inside
from tests.image.conftest import Image

SET_ID = {"usr/bin/sudo"}


def test_set_id_programs_are_those_of_the_list(image: Image) -> None:
    found = {str(path.relative_to(image.root)) for path in image.files() if path.stat().st_mode & (stat.S_ISUID | stat.S_ISGID)}
    assert found == SET_ID


def test_no_program_carries_capabilities_of_its_own(image: Image) -> None:
    assert [path for path in image.files() if "security.capability" in os.listxattr(path)] == []


@pytest.mark.parametrize("name", [
    "gcc*", "cc", "g++*", "cpp*", "clang*", "ld", "as", "make", "pip*", "git", "curl", "wget", "gdb", "strace", "nc", "nc.*", "ncat",
    "telnet", "tcpdump", "ansible*", "docker", "python3-config",
])  # fmt: skip
def test_no_tool_for_strangers(image: Image, name: str) -> None:
    folders = ("usr/bin", "usr/sbin", "usr/local/bin", "usr/local/sbin", "opt/lockgate/releases/*/bin")
    assert [path for folder in folders for path in image.root.glob(f"{folder}/{name}")] == []


def test_no_installer_for_python_packages(image: Image) -> None:
    installer = re.compile(r"(pip|setuptools|ensurepip|wheel)(-[0-9.]+\.dist-info)?")
    assert [path for path in image.root.rglob("*") if installer.fullmatch(path.name)] == []


def test_no_headers_and_no_static_libraries(image: Image) -> None:
    assert not list((image.root / "usr/include").rglob("*.h"))
    assert not list((image.root / "usr/lib").rglob("*.a"))


def test_nothing_that_is_unique_to_a_host(image: Image) -> None:
    assert (image.root / "etc/machine-id").read_text() == ""
    assert not list((image.root / "etc/ssh").glob("ssh_host_*"))
    assert [path.name for path in (image.root / "etc/ssh").glob("authorized_keys.d/*") if "ssh-" in path.read_text()] == []
    secret = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\n[A-Za-z0-9+/]{40}")
    known = {path for path in image.files() if path.stat().st_size < 1 << 20 and secret.search(path.read_bytes())}
    assert {str(path.relative_to(image.root)) for path in known} == set()


def test_nobody_has_a_password(image: Image) -> None:
    fields = [line.split(":") for line in (image.root / "etc/shadow").read_text().splitlines()]
    assert {row[0] for row in fields if not row[1].startswith(("!", "*"))} == set()


def test_accounts_with_a_shell_are_few(image: Image) -> None:
    rows = [line.split(":") for line in (image.root / "etc/passwd").read_text().splitlines()]
    assert {row[0] for row in rows if not row[6].endswith(("/nologin", "/false", "/sync"))} <= {"root", "ops", "breakglass"}
    assert {row[0] for row in rows if row[2] == "0"} == {"root"}


def test_no_logs_no_package_lists_no_caches(image: Image) -> None:
    for folder in ("var", "home", "root", "tmp", "run", "dev", "proc", "sys", "boot"):
        assert list((image.root / folder).iterdir()) == [], folder
    factory = image.root / "usr/share/factory/var"
    assert [path for name in ("log", "cache", "lib/apt") for path in (factory / name).rglob("*") if path.is_file()] == []


def test_no_way_to_fetch_packages(image: Image) -> None:
    assert list((image.root / "etc/apt").glob("sources.list*")) == []


def test_every_file_has_the_time_of_the_release(image: Image) -> None:
    assert len({int(path.lstat().st_mtime) for path in image.root.rglob("*")}) == 1


def test_byte_code_holds_whatever_the_time(image: Image) -> None:
    compiled = [path for path in image.files() if path.suffix == ".pyc"]
    assert len(compiled) > 1000
    assert {path.read_bytes()[4:8] for path in compiled} == {b"\x01\x00\x00\x00"}, "hash-based, not checked"


def test_kernel_modules_are_a_closed_list(image: Image) -> None:
    there = {path.name.split(".")[0].replace("-", "_") for path in image.root.glob("usr/lib/modules/*/kernel/**/*.ko*")}
    listed = {name.replace("-", "_") for name in (*modules.listed("initrd"), *modules.listed("root"))}
    builtin = next(image.root.glob("usr/lib/modules/*/modules.builtin")).read_text().replace("-", "_")
    assert [name for name in listed - there if f"/{name}.ko" not in builtin] == []
    assert len(there) < 100
    assert not there & {"usb_storage", "bluetooth", "sctp", "dccp", "nfs", "cifs", "tun", "firewire_core", "kvm", "btrfs", "fuse"}


def test_what_a_boot_starts(image: Image) -> None:
    wanted = {path.name for path in image.root.glob("etc/systemd/system/*.wants/*")}
    required = {path.name for path in image.root.glob("etc/systemd/system/*.requires/*")}
    assert {"nftables.service", "ssh.service", "auditd.service", "apparmor.service"} <= wanted
    assert {"lockgate-site.service", "lockgate-health.service", "lockgate-go-back.timer"} <= wanted
    assert "lockgate-health.service" in required
    for unit in ("systemd-machined.service", "systemd-sysupdate.timer", "systemd-boot-update.service", "sshd-keygen.service"):
        assert (image.root / "etc/systemd/system" / unit).readlink().name == "null", unit


def test_units_are_valid(image: Image) -> None:
    """systemd's own verdict on the image's units, inside the image."""
    units = [f"/{path.relative_to(image.root)}" for path in sorted(image.root.glob("usr/lib/systemd/system/lockgate-*.service"))]
    inside(image.root, ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *units])


def test_the_gateway_starts_from_the_read_only_root(image: Image) -> None:
    assert inside(image.root, ["/usr/local/bin/lockgate", "--version"]).split()[-1] == image.manifest["package"]
    assert inside(image.root, ["/opt/lockgate/current/bin/python", "-c", "import gateway.cli.serve, apsw, re2, uvloop"]) == ""


def test_the_firewall_is_closed_before_a_site_has_said_anything(image: Image) -> None:
    rules = (image.root / "etc/nftables.conf").read_text()
    assert len(re.findall(r"hook (input|output|forward) priority [^;]+; policy drop;", rules)) == 3


def test_the_release_is_named_everywhere_alike(image: Image) -> None:
    version = image.manifest["version"]
    assert f"IMAGE_VERSION={version}\n" in (image.root / "usr/lib/os-release").read_text()
    assert f'"image_version": "{version}"' in (image.root / "etc/lockgate-appliance/release.json").read_text()


def test_apparmor_profiles_are_compiled(image: Image) -> None:
    profiles = {path.name for path in (image.root / "etc/apparmor.d").iterdir() if path.is_file()}
    compiled = {path.name for path in (image.root / "usr/lib/lockgate/apparmor-cache").rglob("*") if path.is_file()}
    assert compiled == {*profiles, ".features"}
    assert "lockgate" in profiles and len(profiles) < 20


def test_the_gateway_does_not_start_without_its_profile(image: Image) -> None:
    unit = (image.root / "etc/systemd/system/lockgate.service").read_text().splitlines()
    assert "AppArmorProfile=lockgate" in unit, "no dash before it: systemd takes no other answer"
    profile = (image.root / "etc/apparmor.d/lockgate").read_text()
    assert "abi <abi/4.0>," in profile and not re.search(r"flags=\([^)]*(complain|unconfined)", profile)
    assert not (image.root / "etc/apparmor.d/local/lockgate").exists()


def test_folders_on_var_come_from_the_root(image: Image) -> None:
    listed = (image.root / "usr/lib/tmpfiles.d/lockgate-state.conf").read_text()
    assert "d /var/lib/lockgate-credentials 0700 root root -\n" in listed
    assert "L /var/lib/dpkg - - - - /usr/lib/sysimage/dpkg\n" in listed
    assert "d /home/ops 0700 ops ops -\n" in listed


@pytest.mark.parametrize(("expression", "module"), [
    ("ct state", "nft_ct"), ("ct count", "nft_connlimit"), ("limit rate", "nft_limit"), (" log ", "nft_log"), ("fib ", "nft_fib_inet"),
    ("socket cgroupv2", "nft_socket"), ("reject", "nft_reject_inet"),
])  # fmt: skip
def test_the_kernel_has_what_the_firewalls_rules_need(image: Image, expression: str, module: str) -> None:
    rules = "".join((image.root / name).read_text() for name in ("etc/nftables.conf", "etc/nftables-closed.conf"))
    there = {path.name.split(".")[0] for path in image.root.glob("usr/lib/modules/*/kernel/**/*.ko*")}
    assert expression not in rules or module in there


def test_the_images_own_programs_can_be_run(image: Image) -> None:
    programs = [path for path in (image.root / "usr/lib/lockgate").iterdir() if path.is_file()]
    assert {"site-files", "health", "update", "firstboot"} <= {path.name for path in programs}
    assert {stat.S_IMODE(path.stat().st_mode) for path in programs} == {0o755}
