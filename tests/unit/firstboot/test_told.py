# SPDX-License-Identifier: Apache-2.0
"""What a gateway is told is data: everything that could mean something to a shell, a template or a file's format is refused (T69)."""

from __future__ import annotations

import copy
import gzip
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.config.draft import Draft, read_gateway
from image.firstboot.tree.usr.lib.lockgate.lockgate_firstboot import etc, segment, sources, store, told
from image.firstboot.tree.usr.lib.lockgate.lockgate_firstboot.policy import folder_id, settings, waits_for
from image.firstboot.tree.usr.lib.lockgate.lockgate_firstboot.told import Wrong
from tests.unit.firstboot.messages import KEY, encoded, good

PROGRAM = Path(__file__).parents[3] / "appliance" / "image" / "firstboot" / "programs" / "firstboot.py"
HOSTILE = [
    "{{ 7*7 }}",
    "$(reboot)",
    "`id`",
    "a;b",
    "a\nb",
    "../x",
    "a b",
    "%h",
    "a\0b",
    "-a",
    "a/b",
    "\u202ea",
    "{% x %}",
    "",
    "a" * 64,
    "A",
    "é",
    "a_b",
    "'",
    '"',
    "a\x1b[2J",
]

ECDSA = (
    "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBJFp9QHxB435i7BmXhbpbs7QCcbw"
    "t0vgCy1DygH15qqFxT1BZj78cAjcF8OQSAwsQUrj8pB69VNUjZYED2UUx4s= x"
)


def spoiled(path: tuple[str | int, ...], value: object) -> dict[str, Any]:
    found = copy.deepcopy(good())
    at: Any = found
    for part in path[:-1]:
        at = at[part]
    at[path[-1]] = value
    return found


def refused(value: object) -> str:
    with pytest.raises(Wrong) as wrong:
        told.parse(encoded(value))
    assert str(wrong.value).isprintable()
    return str(wrong.value)


def test_what_the_terraform_module_writes_is_taken_and_kept_as_it_is() -> None:
    found = told.parse(encoded(good()))
    assert (found.name, found.segment, found.interfaces[0].mac) == ("gw-a-1", "plant-a", "52:54:00:aa:bb:01")
    assert told.parse(found.to_json()) == found


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize(
    "path",
    [
        ("name",),
        ("segment",),
        ("interfaces", 0, "name"),
        ("interfaces", 0, "mac"),
        ("interfaces", 0, "addresses", 0),
        ("interfaces", 0, "gateway"),
        ("interfaces", 0, "routes", 0, "to"),
        ("interfaces", 0, "routes", 0, "via"),
        ("name_servers", 0),
        ("time_servers", 0),
        ("management", "networks", 0),
        ("management", "authorized_keys", 0),
    ],
)
def test_t69_names_and_values_with_template_or_shell_characters_are_refused(path: tuple[str | int, ...], text: str) -> None:
    said = refused(spoiled(path, text))
    assert str(path[-2] if isinstance(path[-1], int) else path[-1]) in said
    assert not text or len(text) < 3 or text not in said


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "text",
        7,
        {},
        {**good(), "extra": 1},
        {key: value for key, value in good().items() if key != "segment"},
        spoiled(("version",), 2),
        spoiled(("version",), True),
        spoiled(("version",), "1"),
        spoiled(("interfaces",), []),
        spoiled(("interfaces",), {}),
        spoiled(("interfaces",), [good()["interfaces"][0]] * 2),
        spoiled(("interfaces", 1, "mac"), None),
        spoiled(("interfaces", 0, "mac"), 5),
        spoiled(("interfaces", 0, "mac"), "01:00:5e:00:00:01"),
        spoiled(("interfaces", 0, "addresses"), ["192.0.2.11"]),
        spoiled(("interfaces", 0, "addresses"), ["0.0.0.0/0"]),
        spoiled(("interfaces", 0, "addresses"), ["127.0.0.1/8"]),
        spoiled(("interfaces", 0, "addresses"), ["fe80::1%eth0/64"]),
        spoiled(("interfaces", 0, "gateway"), "10.0.0.1"),
        spoiled(("interfaces", 0, "routes"), [{"to": "203.0.113.0/24", "via": "10.0.0.1"}]),
        spoiled(("interfaces", 0, "routes"), [{"to": "1.2.3.4/8"}]),
        spoiled(("interfaces", 0, "routes"), [{"to": "203.0.113.1/24", "via": "192.0.2.1"}]),
        spoiled(("name_servers",), ["192.0.2.53"] * 65),
        spoiled(("time_servers",), ["time.example"]),
        spoiled(("management", "networks"), ["0.0.0.0/0"]),
        spoiled(("management", "networks"), []),
        spoiled(("management", "authorized_keys"), []),
        spoiled(("management", "authorized_keys"), ['command="sh" ' + KEY]),
        spoiled(("management", "authorized_keys"), [KEY + "\n" + KEY]),
        spoiled(("management", "authorized_keys"), [KEY.replace("ed25519", "rsa", 1)]),
        spoiled(("management", "authorized_keys"), ["ssh-ed25519 AAAA"]),
        spoiled(("management", "authorized_keys"), [ECDSA]),  # sshd would not take it, and nobody would get in
        spoiled(("management", "authorized_keys"), [KEY + " a b"]),
        spoiled(("management", "user_ca"), "ssh-ed25519"),
        spoiled(("management",), None),
    ],
)
def test_what_is_not_whole_is_refused(value: object) -> None:
    refused(value)


@pytest.mark.parametrize("hidden", ["x\nPermitRootLogin yes\n#", "x }\nflush ruleset\n#", "eth0"])
@pytest.mark.parametrize("path", [("management", "networks", 1), ("interfaces", 0, "routes", 0, "to")])
def test_t69_a_network_carries_no_text_behind_it(path: tuple[str | int, ...], hidden: str) -> None:
    """Python takes any text as the scope of an IPv6 network, a line of sshd_config or of nftables as well."""
    assert "expected a network" in refused(spoiled(path, f"fe80::%{hidden}/64"))


@pytest.mark.parametrize("data", [b"", b"\xff", b"[" * 100_000, b'{"version": 1, "version": 1}', b"NaN", b"{" * 9, b" " * 70_000])
def test_what_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(Wrong):
        told.parse(data)


def test_one_interface_needs_no_mac_address() -> None:
    found = spoiled(("interfaces", 0, "mac"), None)
    del found["interfaces"][1]
    made = etc.files(told.parse(encoded(found)))["systemd/network/10-site-management.network"]
    assert "Kind=!*\nType=ether\n" in made and "MACAddress" not in made


def test_files_follow_from_it() -> None:
    made = etc.files(told.parse(encoded(good())))
    assert made["hostname"] == "gw-a-1\n"
    network = made["systemd/network/10-site-management.network"]
    for line in (
        "MACAddress=52:54:00:aa:bb:01",
        "Address=192.0.2.11/24",
        "Address=2001:db8::11/64",
        "Gateway=192.0.2.1",
        "[Route]\nDestination=203.0.113.0/24\nGateway=192.0.2.254",
        "IPv6AcceptRA=no",
        "LinkLocalAddressing=ipv6",
    ):
        assert line in network
    assert "LinkLocalAddressing=no" in made["systemd/network/10-site-plant.network"]
    rules = made["lockgate-appliance/firewall.d/10-site.nft"].splitlines()[1:]
    assert rules == [
        "add element inet lockgate management4 { 203.0.113.0/24 }",
        "add element inet lockgate management6 { 2001:db8:1::/48 }",
        "add element inet lockgate names4 { 192.0.2.53 }",
        "add element inet lockgate names6 { 2001:db8::53 }",
        "add element inet lockgate time4 { 192.0.2.123 }",
    ]
    assert "AllowUsers ops@203.0.113.0/24\nAllowUsers ops@2001:db8:1::/48\n" in made["ssh/sshd_config.d/10-site.conf"]
    assert made["ssh/authorized_keys.d/ops"].endswith(KEY + "\n")
    assert "ssh/user_ca.pub" not in made
    assert json.loads(made["lockgate-appliance/break-glass.yaml"]) == {"gateway": "gw-a-1", "segment": "plant-a"}


def test_the_first_policy_is_bounded_and_stays_in_its_folders(tmp_path: Path) -> None:
    (tmp_path / "policy" / "grants").mkdir(parents=True)
    (tmp_path / "trust").mkdir()
    (tmp_path / "policy" / "grants" / "a.yaml").write_text("grants: []\n")
    (tmp_path / "trust" / "ci.jwks.json").write_text("{}")
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "db.yaml").write_text("secret")
    packed = segment.pack(tmp_path)
    assert segment.unpack(packed) == {"policy/grants/a.yaml": b"grants: []\n", "trust/ci.jwks.json": b"{}"}
    assert segment.pack(tmp_path) == packed
    done = subprocess.run([sys.executable, str(PROGRAM), "pack", str(tmp_path)], capture_output=True, check=True)
    assert done.stdout == packed


@pytest.mark.parametrize(
    "files",
    [
        {},
        [],
        {"policy/../../etc/passwd": "x"},
        {"/etc/passwd": "x"},
        {"policy/.hidden": "x"},
        {"policy": "x"},
        {"credentials/db.yaml": "x"},
        {"tls/gateway.key": "x"},
        {"policy/a b.yaml": "x"},
        {"policy/{{ x }}.yaml": "x"},
        {"policy/a.yaml": 5},
        {"policy//a.yaml": "x"},
        {"policy/a.yaml\n": "x"},
        {f"policy/{number}.yaml": "x" for number in range(1001)},
        {"trust/k.pem": "-----BEGIN PRIVATE KEY-----"},
    ],
)
def test_t69_other_paths_and_secrets_are_refused(files: object) -> None:
    with pytest.raises(Wrong):
        segment.unpack(gzip.compress(json.dumps(files).encode()))


@pytest.mark.parametrize(
    "data", [b"", b"no gzip", gzip.compress(b"{}") + b"more", gzip.compress(b"{}")[:-4], gzip.compress(bytes(5 * 2**20))]
)
def test_what_is_no_whole_gzip_is_refused(data: bytes) -> None:
    with pytest.raises(Wrong):
        segment.unpack(data)


def test_secrets_are_checked_and_never_shown() -> None:
    assert told.password_hash(b"$6$salt$" + b"a" * 86 + b"\n").startswith("$6$")
    for wrong in (b"hunter2", b"", b"$1$salt$" + b"a" * 30, b"$6$salt$" + b"a" * 30 + b":0:0", b"$6$salt$" + b"a" * 30 + b"\nroot:x"):
        with pytest.raises(Wrong) as said:
            told.password_hash(wrong)
        assert "hunter2" not in str(said.value)
    assert json.loads(told.credentials(b'{"orders-db": {"kind": "password", "password": "p"}}')["orders-db"])["password"] == "p"
    for broken in (b"[]", b'{"../x": {}}', b'{"a": "hunter2"}', b'{"a": {"password": 5}}'):
        with pytest.raises(Wrong) as said:
            told.credentials(broken)
        assert "hunter2" not in str(said.value)


def test_sources_take_plain_files_of_bounded_size(tmp_path: Path) -> None:
    assert sources.read(tmp_path) == {}
    (tmp_path / "lockgate.segment").write_bytes(b"x")
    with pytest.raises(Wrong, match=re.escape("lockgate.firstboot")):
        sources.read(tmp_path)
    (tmp_path / "lockgate.firstboot").write_bytes(b"y")
    (tmp_path / "other").write_bytes(b"z")
    assert sources.read(tmp_path) == {"lockgate.firstboot": b"y", "lockgate.segment": b"x"}
    assert sources.found({"CREDENTIALS_DIRECTORY": str(tmp_path)}) == ("systemd credentials", sources.read(tmp_path))
    (tmp_path / "lockgate.firstboot").write_bytes(bytes(2**20 + 1))
    with pytest.raises(Wrong):
        sources.read(tmp_path)
    (tmp_path / "lockgate.firstboot").unlink()
    (tmp_path / "lockgate.firstboot").symlink_to("/etc/shadow")
    with pytest.raises(OSError):
        sources.read(tmp_path)


def test_it_is_kept_whole_and_checked_again(tmp_path: Path) -> None:
    kept = store.Store(tmp_path / "site")
    assert kept.told() is None
    found = told.parse(encoded(good()))
    kept.keep(found, {"policy/a.yaml": b"grants: []\n"}, "$6$salt$" + "a" * 86)
    assert kept.told() == found and (kept.policy / "policy" / "a.yaml").read_bytes() == b"grants: []\n"
    assert (tmp_path / "site" / "break-glass").stat().st_mode & 0o777 == 0o600
    made = kept.render(found, tmp_path / "etc")
    assert (tmp_path / "etc" / "hostname").read_text() == "gw-a-1\n" and "hostname" in made
    kept.marker.write_text(kept.marker.read_text().replace("gw-a-1", "$(reboot)"))
    with pytest.raises(Wrong):
        kept.told()


def test_t67_nothing_of_a_policy_told_before_stays(tmp_path: Path) -> None:
    """Told, not in force yet, forgotten, told anew: a grant of the first time is none of the second."""
    kept = store.Store(tmp_path / "site")
    kept.keep(told.parse(encoded(good())), {"policy/a.yaml": b"", "policy/wide.yaml": b"grants: [too much]\n"}, "")
    kept.marker.unlink()
    kept.keep(told.parse(encoded(good())), {"policy/a.yaml": b""}, "")
    assert [path.name for path in kept.policy.rglob("*.yaml")] == ["a.yaml"]
    kept.marker.unlink()
    kept.keep(told.parse(encoded(good())), {}, "")
    assert not kept.policy.exists()


def test_a_text_that_utf_8_has_not_is_refused() -> None:
    with pytest.raises(Wrong, match="UTF-8"):
        segment.unpack(gzip.compress(b'{"policy/a.yaml": "\\ud800"}'))


def test_only_missing_credentials_are_waited_for() -> None:
    lacking: dict[str, object] = {
        "file": "policy/r.yaml",
        "key": "resources[0].credential",
        "message": "expected a credential; there is no credentials/db.yaml",
    }
    other: dict[str, object] = {"file": "policy/g.yaml", "key": "grants[0].to[0]", "message": "expected the name of an identity"}
    assert waits_for([lacking]) == ["policy/r.yaml: resources[0].credential"]
    assert waits_for([lacking, other]) is None
    assert waits_for([lacking, {**lacking, "message": "expected a credential of kind password"}]) is None


def test_settings_are_what_the_gateway_takes(tmp_path: Path) -> None:
    made = settings(told.parse(encoded(good())))
    (tmp_path / "gateway.yaml").write_bytes(made)
    draft = Draft(tmp_path)
    read_gateway(draft)
    assert draft.all_problems() == [] and draft.gateway is not None
    assert (draft.gateway.name, draft.gateway.audit.console) == ("gw-a-1", "/var/lib/lockgate-console")
    assert len(folder_id({"gateway.yaml": made}, {"tls/gateway.key": "/run/x"})) == 16


def test_the_program_says_how_it_is_used() -> None:
    done = subprocess.run([sys.executable, str(PROGRAM)], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "firstboot take" in done.stderr
