# SPDX-License-Identifier: Apache-2.0
"""``lockgate init``: what it writes, that it never overwrites, and that it can be run again."""

from __future__ import annotations

import json
import os
import ssl
import stat
from argparse import ArgumentParser, Namespace
from pathlib import Path

import jwt
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from gateway.cli.init import register, run
from gateway.config.load import load_folder
from gateway.errors import ConfigError
from gateway.identity.keys import parse_key_set

SHIPPED = Path(__file__).parents[3] / "appliance" / "gateway" / "config" / "demo"


def init(folder: Path, *, demo: bool = True) -> None:
    assert run(Namespace(folder=folder, demo=demo, ssh=False, json=False, host=[])) == 0


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) for path in found}


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    init(tmp_path / "etc")
    return tmp_path / "etc"


def test_demo_is_the_example_and_is_valid(demo: Path) -> None:
    for path in SHIPPED.rglob("*.yaml"):
        assert (demo / path.relative_to(SHIPPED)).read_bytes() == path.read_bytes()
    folder = load_folder(demo, need_tests=True)
    assert folder.warnings == ()
    assert (demo / "policy/schemas/orders-db.json").read_bytes() == (SHIPPED / "orders-db.schema.json").read_bytes()


def test_demo_people(demo: Path) -> None:
    people = yaml.safe_load((demo / "demo/people.yaml").read_text())["people"]
    assert {person["name"]: person["groups"] for person in people} == {
        "dana": ["dba"],
        "ines": ["dba"],
        "sam": ["security"],
        "omar": ["ops"],
    }
    assert {person["issuer"] for person in people} == {"staff"}


@pytest.mark.parametrize("issuer", ["ci", "staff"])
def test_demo_issuers_sign_tokens_that_their_key_set_verifies(issuer: str, demo: Path) -> None:
    private = json.loads((demo / f"demo/{issuer}.jwk.json").read_text())
    token = jwt.encode({"sub": "x"}, jwt.PyJWK(private).key, algorithm="ES256", headers={"kid": private["kid"]})
    key = parse_key_set((demo / f"trust/{issuer}.jwks.json").read_bytes()).find(private["kid"], "ES256")
    assert key is not None
    assert jwt.decode(token, key.public, algorithms=["ES256"])["sub"] == "x"
    assert "d" not in json.loads((demo / f"trust/{issuer}.jwks.json").read_text())["keys"][0]


def test_modes(demo: Path) -> None:
    modes = {name: mode for name, (_, mode) in contents(demo).items()}
    private = {name for name, mode in modes.items() if mode == 0o600}
    assert private == {
        "credentials/orders-db.yaml",
        "tls/gateway.key",
        "tls/ca.key",
        "tls/audit_ed25519_key",
        "demo/ci.jwk.json",
        "demo/staff.jwk.json",
    }
    assert all(mode == 0o644 for name, mode in modes.items() if name not in private)
    for name, wanted in {"credentials": 0o700, "demo": 0o700, "../state": 0o700, "policy": 0o755, ".": 0o755}.items():
        assert stat.S_IMODE((demo / name).stat().st_mode) == wanted


def test_a_state_folder_that_holds_something_else_keeps_its_mode(tmp_path: Path) -> None:
    """`state: /var/lib`, as root, would close it to the whole machine; a gateway's own is closed to others."""
    init(tmp_path / "etc")
    state = tmp_path / "state"
    for name, wanted in (("somebody-elses", 0o755), ("clock.floor", 0o700)):
        state.chmod(0o755)
        (state / name).touch()
        init(tmp_path / "etc")
        assert stat.S_IMODE(state.stat().st_mode) == wanted


@pytest.mark.parametrize("mask", [0o000, 0o002, 0o077])
def test_whatever_the_umask(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        init(tmp_path / "etc")
    finally:
        os.umask(before)
    load_folder(tmp_path / "etc", need_tests=True)


def test_the_certificate_is_for_this_machine_and_signed_by_the_ca(demo: Path) -> None:
    certificate = x509.load_pem_x509_certificate((demo / "tls/gateway.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "localhost" in names.get_values_for_type(x509.DNSName)
    assert {str(address) for address in names.get_values_for_type(x509.IPAddress)} == {"127.0.0.1", "::1"}
    ca = x509.load_pem_x509_certificate((demo / "tls/ca.crt").read_bytes())
    certificate.verify_directly_issued_by(ca)
    strict = ssl.create_default_context(cafile=str(demo / "tls/ca.crt"))
    strict.verify_flags |= ssl.VERIFY_X509_STRICT
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(demo / "tls/gateway.crt", demo / "tls/gateway.key")


def test_the_certificate_names_further_hosts(tmp_path: Path) -> None:
    assert run(Namespace(folder=tmp_path / "etc", demo=False, ssh=False, json=False, host=["gw.example", "192.0.2.7"])) == 0
    certificate = x509.load_pem_x509_certificate((tmp_path / "etc/tls/gateway.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "gw.example" in names.get_values_for_type(x509.DNSName)
    assert "192.0.2.7" in {str(address) for address in names.get_values_for_type(x509.IPAddress)}


@pytest.mark.parametrize("name", ["", "-x", "a b", "a/b", "x;y"])
def test_what_no_certificate_can_name_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = ArgumentParser()
    register(parser.add_subparsers())
    with pytest.raises(SystemExit):
        parser.parse_args(["init", "x", f"--host={name}"])
    assert "expected a host name or an address" in capsys.readouterr().err


def test_a_strict_client_accepts_the_certificate(demo: Path) -> None:
    """Both ends in memory: a handshake with every check that newer Pythons and OpenSSL make."""
    client = ssl.create_default_context(cafile=str(demo / "tls/ca.crt"))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(demo / "tls/gateway.crt", demo / "tls/gateway.key")
    for name in ("localhost", "127.0.0.1", "::1"):
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        one, two = client.wrap_bio(to_client, to_server, server_hostname=name), server.wrap_bio(to_server, to_client, server_side=True)
        done = 0
        for _ in range(10):
            for end in (one, two):
                try:
                    end.do_handshake()
                    done += 1
                except ssl.SSLWantReadError:
                    pass
        assert done >= 2
        assert one.version() == "TLSv1.3"


def test_the_audit_key_is_openssh_ed25519(demo: Path) -> None:
    assert type(load_ssh_private_key((demo / "tls/audit_ed25519_key").read_bytes(), None)).__name__ == "Ed25519PrivateKey"


def test_twice_changes_nothing(demo: Path) -> None:
    before = contents(demo)
    init(demo)
    assert contents(demo) == before
    init(demo, demo=False)
    assert contents(demo) == before


def test_what_is_missing_is_written_and_the_rest_left(demo: Path) -> None:
    before = contents(demo)
    (demo / "gateway.yaml").write_text((demo / "gateway.yaml").read_text().replace("plant-a-1", "plant-a-2"))
    for name in ("trust/ci.jwks.json", "tls/gateway.crt", "tls/audit_ed25519_key"):
        (demo / name).unlink()
    (demo / "policy/grants/reporting.yaml").unlink()
    init(demo)
    after = contents(demo)
    assert after["trust/ci.jwks.json"] == before["trust/ci.jwks.json"], "the issuer's key is still there, its public half is the same"
    assert after["tls/gateway.crt"] != before["tls/gateway.crt"]
    assert after["tls/ca.crt"] == before["tls/ca.crt"]
    assert after["tls/audit_ed25519_key"] != before["tls/audit_ed25519_key"]
    assert b"plant-a-2" in after["gateway.yaml"][0]
    assert "policy/grants/reporting.yaml" not in after, "somebody took it out"
    load_folder(demo)


def test_files_added_later_get_their_modes(demo: Path) -> None:
    added = {"credentials/new.yaml": 0o666, "policy/new.yaml": 0o666, "tls/new.key": 0o644}
    for name, mode in added.items():
        (demo / name).write_text("kind: password\nusername: a\npassword: b\n" if name.startswith("cred") else "-----BEGIN PRIVATE KEY-----")
        (demo / name).chmod(mode)
    (demo / "policy/new.yaml").write_text("")
    (demo / "policy").chmod(0o777)
    init(demo)
    modes = {name: mode for name, (_, mode) in contents(demo).items()}
    assert (modes["credentials/new.yaml"], modes["policy/new.yaml"], modes["tls/new.key"]) == (0o600, 0o644, 0o600)
    load_folder(demo)


def test_a_copy_of_the_example_that_somebody_made(tmp_path: Path) -> None:
    """As a renderer leaves it: files without keys and with the modes of a checkout."""
    folder = tmp_path / "etc"
    for path in SHIPPED.rglob("*.yaml"):
        (folder / path.relative_to(SHIPPED)).parent.mkdir(parents=True, exist_ok=True)
        (folder / path.relative_to(SHIPPED)).write_bytes(path.read_bytes())
    init(folder)
    load_folder(folder, need_tests=True)


def test_new_issuers_get_a_key(demo: Path) -> None:
    (demo / "policy/more.yaml").write_text(
        "issuers:\n  - {name: hub, issuer: hub.example, audience: lockgate/plant-a, jwks: trust/hub.jwks.json, algorithms: [ES256]}\n"
    )
    init(demo)
    assert (demo / "demo/hub.jwk.json").exists()
    load_folder(demo)


def test_without_demo_nothing_is_trusted(tmp_path: Path) -> None:
    init(tmp_path / "etc", demo=False)
    folder = load_folder(tmp_path / "etc")
    assert (folder.policy.issuers, folder.policy.grants, folder.policy.resources) == ((), (), ())
    assert not (tmp_path / "etc/demo").exists()
    assert {warning.key for warning in folder.warnings} == {"issuers", "identities", "resources", "grants"}


def test_the_comments_of_a_new_folder_are_valid_configuration(tmp_path: Path) -> None:
    """What an operator gets by taking the comment signs away is right but for the files it names."""
    init(tmp_path / "etc", demo=False)
    for path in (tmp_path / "etc/policy").glob("*.yaml"):
        lines = [line for line in path.read_text().splitlines() if not line.endswith(": []")]
        heads = [
            f"{line.split(':')[0]}:" if line.endswith(": []") else line[1:] if line.startswith("#  ") else ""
            for line in path.read_text().splitlines()
        ]
        assert lines
        path.write_text("\n".join(heads) + "\n")
    with pytest.raises(ConfigError) as caught:
        load_folder(tmp_path / "etc")
    for line in str(caught.value).splitlines():
        assert "expected a file, but there is none" in line or "expected a credential; there is no" in line


def test_a_folder_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/gateway.yaml").write_text("name: [\n")
    with pytest.raises(ConfigError, match=r"gateway\.yaml:\d+: expected YAML"):
        init(tmp_path / "etc")


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "etc").write_text("")
    with pytest.raises(ConfigError):
        init(tmp_path / "etc")


def test_links_are_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "etc/tls").mkdir(parents=True)
    (tmp_path / "etc/tls/audit_ed25519_key").symlink_to(tmp_path / "elsewhere")
    init(tmp_path / "etc")
    assert not (tmp_path / "elsewhere").exists()


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(Namespace(folder=tmp_path / "etc", demo=True, ssh=False, json=True, host=[]))
    answer = json.loads(capsys.readouterr().out)
    assert answer["folder"] == str(tmp_path / "etc")
    assert "gateway.yaml" in answer["written"]
    run(Namespace(folder=tmp_path / "etc", demo=True, ssh=False, json=True, host=[]))
    assert json.loads(capsys.readouterr().out)["written"] == []
