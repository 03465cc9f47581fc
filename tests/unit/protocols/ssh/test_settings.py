# SPDX-License-Identifier: Apache-2.0
"""What the folder may say of SSH: every error names file, line and key, and says what was expected."""

from __future__ import annotations

import base64
import hmac
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_ssh_private_key,
)

from gateway.config import fresh
from gateway.network.plan import destinations
from gateway.protocols.ssh import trust
from gateway.protocols.ssh.settings import SshListener, SshResource
from tests.unit.config.folder import Demo, make

EXAMPLE = Path(__file__).parents[4] / "appliance" / "gateway" / "config" / "demo-ssh"
LISTENER = '  ssh: {address: "127.0.0.1:12222", host_keys: [tls/ssh_host_ed25519_key], user_ca: tls/ssh_user_ca}\n'
WEB, CREDENTIAL = "policy/web.yaml", "credentials/web-1.yaml"


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    etc = make(tmp_path_factory.mktemp("ssh") / "etc")
    shutil.copytree(EXAMPLE, etc, dirs_exist_ok=True, copy_function=shutil.copyfile)
    Demo(etc).replace("gateway.yaml", "listeners:\n", "listeners:\n" + LISTENER)
    return make(etc)


@pytest.fixture
def demo(shipped: Path, tmp_path: Path) -> Demo:
    shutil.copytree(shipped, tmp_path / "etc")
    return Demo(tmp_path / "etc")


def test_it_is_right(demo: Demo) -> None:
    assert demo.problems(check_modes=True) == []
    folder = demo.load()
    listener, resource = folder.gateway.listeners["ssh"], folder.policy.resources[-1]
    assert isinstance(listener, SshListener)
    assert isinstance(resource, SshResource)
    assert (listener.certificate_lifetime, listener.tls) == (300.0, None)
    assert (resource.logins, resource.share, resource.place) == (("deploy",), 15.0, ("127.0.0.1", 2222))
    assert (resource.recording.output, resource.recording.input, resource.recording.files) == (16 * 2**20, False, 0)
    assert [(to.name, to.host, to.port) for to in destinations(folder)][-1] == ("web-1", "127.0.0.1", 2222)


def test_a_listener_for_everybody_needs_no_tls(demo: Demo) -> None:
    assert demo.replace("gateway.yaml", "127.0.0.1:12222", "0.0.0.0:22").problems() == []


WRONG = {
    "tls of a listener": ("gateway.yaml", "user_ca: tls/ssh_user_ca", "tls: {certificate: tls/gateway.crt, key: tls/gateway.key}",
                          "gateway.yaml:6: listeners.ssh: expected no `tls`: SSH encrypts itself"),
    "no host key": ("gateway.yaml", "[tls/ssh_host_ed25519_key]", "[]",
    "gateway.yaml:6: listeners.ssh.host_keys: expected at least one entry"),
    "a host key that is not there": ("gateway.yaml", "tls/ssh_host_ed25519_key", "tls/none",
                                     "gateway.yaml:6: listeners.ssh.host_keys[0]: expected a file, but there is none"),
    "a host key that is none": ("gateway.yaml", "tls/ssh_host_ed25519_key", "tls/gateway.key",
                                "listeners.ssh.host_keys[0]: expected an OpenSSH Ed25519 private key without passphrase"),
    "a public key as user CA": ("gateway.yaml", "tls/ssh_user_ca", "tls/ssh_user_ca.pub",
    "listeners.ssh.user_ca: expected an OpenSSH Ed25519"),
    "one key for both": ("gateway.yaml", "tls/ssh_user_ca", "tls/ssh_host_ed25519_key",
    "listeners.ssh: expected `user_ca` to be another key"),
    "a key twice": ("gateway.yaml", "[tls/ssh_host_ed25519_key]", "[tls/ssh_host_ed25519_key, tls/ssh_host_ed25519_key]",
                    "listeners.ssh: expected each of `host_keys` once"),
    "a host certificate": ("gateway.yaml", "user_ca: tls/ssh_user_ca", "host_certificates: [tls/ssh_user_ca.pub]",
                           "listeners.ssh.host_certificates[0]: expected an OpenSSH host certificate"),
    "a long certificate": ("gateway.yaml", "user_ca: tls/ssh_user_ca", "certificate_lifetime: 2h",
    "certificate_lifetime: expected at most 3600"),
    "an unknown key": ("gateway.yaml", "user_ca: tls", "user_cas: tls", "did you mean 'user_ca'?"),
    "address": (WEB, "127.0.0.1:2222", "127.0.0.1", f"{WEB}:4: resources[0].address: expected HOST:PORT"),
    "no logins": (WEB, "[deploy]", "[]", f"{WEB}:5: resources[0].logins: expected at least one entry"),
    "a login twice": (WEB, "[deploy]", "[deploy, deploy]", "resources[0]: expected each of `logins` once"),
    "an odd login": (WEB, "[deploy]", '["-oProxyCommand=id"]', "resources[0].logins[0]: expected the name of a login"),
    "a login with a space": (WEB, "[deploy]", '["a b"]', "expected the name of a login"),
    "nothing pinned": (WEB, "    host_keys: trust/known_hosts\n", "",
    "resources[0]: expected either `host_keys: FILE` (known_hosts) or `host_ca: FILE`"),
    "both pinned": (WEB, "host_keys: trust/known_hosts", "host_keys: trust/known_hosts\n    host_ca: trust/ca",
    "expected either `host_keys: FILE`"),
    "tls of a target": (WEB, "logins:", "tls: {mode: require}\n    logins:",
    "expected no `tls`: a target of SSH proves itself by its host key"),
    "known_hosts that is not there": (WEB, "trust/known_hosts", "trust/none",
    f"{WEB}:6: resources[0].host_keys: expected a file, but there is none"),
    "another address": (WEB, "127.0.0.1:2222", "127.0.0.1:2223", "resources[0].host_keys: expected a key of [127.0.0.1]:2223"),
    "authorities that are none": (WEB, "host_keys: trust/known_hosts", "host_ca: trust/known_hosts",
    "host_ca: expected public keys of authorities"),
    "credential of another kind": (WEB, "credential: web-1", "credential: demo-bearer",
    "expected a credential; there is no credentials/demo-bearer.yaml"),
    "credentials of no login": (WEB, "credential: web-1", "credential: web-1\n    credentials: {root: web-1}",
                                "expected `credentials` of logins that `logins` offers; 'root' is none"),
    "credentials that are not there": (WEB, "credential: web-1", "credential: web-1\n    credentials: {deploy: web-2}",
                                       'resources[0].credentials.deploy: expected a credential; there is no credentials/web-2.yaml'),
    "a matcher's key": (WEB, "paths: [", "path: [", "grants[0].rules[1].allow.ssh: unknown key 'path': expected one of"),
    "an action": (WEB, "[read, write", "[reed, write", "allow.ssh.actions: expected actions of the published table; there is no 'reed'"),
    "a pattern": (WEB, '"uptime"', '"uptime > x"', "grants[0].rules[0].allow.ssh.command: expected the pattern of a simple command"),
    "rows": (WEB, "name: files, allow: {ssh: {", "name: files, allow: {ssh: {max_rows: 5, ", "expected no `max_rows`: SSH has no rows"),
    "a case without action": ("policy/tests/web.yaml", "{exec: reboot}", "{}", "tests[3].ssh: expected one action and what it is about"),
    "a case with two": ("policy/tests/web.yaml", "{exec: reboot}", "{exec: reboot, read: /x}", "tests[3].ssh: expected exactly one action"),
    "a case with another": ("policy/tests/web.yaml", "{exec: reboot}", "{run: reboot}", "there is no 'run'"),
    "a case with no text": ("policy/tests/web.yaml", "{exec: reboot}", "{exec: 5}",
    "tests[3].ssh: exec: expected text (numbers in quotes)"),
    "a case with half a rename": ("policy/tests/web.yaml", "{exec: reboot}", "{rename: /a}", "tests[3].ssh: rename: expected [OLD, NEW]"),
    "a case with a word": ("policy/tests/web.yaml", "{exec: reboot}", "{shell: yes}", "tests[3].ssh: shell: expected true"),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_told(demo: Demo, case: tuple[str, str, str, str]) -> None:
    file, old, new, wanted = case
    problems = demo.replace(file, old, new).problems()
    assert any(wanted in problem for problem in problems), problems


def test_the_login_of_a_password_is_one_that_is_offered(demo: Demo) -> None:
    demo.write(CREDENTIAL, "kind: password\nusername: other\npassword: hunter2-secret\n")
    assert demo.only_problem().endswith("credential: expected a credential of login 'deploy'; 'web-1' is of 'other'")
    demo.write(CREDENTIAL, "kind: password\nusername: deploy\npassword: hunter2-secret\n")
    assert demo.problems() == []


def test_credentials_of_single_logins(demo: Demo) -> None:
    demo.replace(WEB, "logins: [deploy]", "logins: [deploy, backup]\n    credentials: {backup: other}")
    demo.write("credentials/other.yaml", "kind: password\nusername: backup\npassword: hunter2-secret\n")
    folder = demo.load()
    resource = folder.policy.resources[-1]
    assert isinstance(resource, SshResource)
    assert [resource.credential_for(login) for login in resource.logins] == ["web-1", "other"]
    assert not any("no resource uses" in warning.message for warning in folder.warnings)


def test_keys_of_credentials(demo: Demo) -> None:
    key = load_ssh_private_key(fresh.audit_key(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, BestAvailableEncryption(b"x"))
    small = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    for content, wanted in ((locked, "without passphrase"), (small, "at least 3072 bits"), (b"no key", "expected an OpenSSH private key"),
                            (fresh.key_pem(fresh.new_key()), "expected an OpenSSH private key")):
        demo.file("credentials/web-1.key").write_bytes(content)
        problem = demo.only_problem()
        assert problem.startswith(f"{CREDENTIAL}:2: private_key: ")
        assert wanted in problem
    demo.write(CREDENTIAL, "kind: ssh-ca\nprivate_key: credentials/web-1.key\nprincipals: [deploy]\nlifetime: 2m\n")
    demo.file("credentials/web-1.key").write_bytes(fresh.audit_key())
    credential = demo.load().credentials["web-1"]
    assert (credential.kind, credential.principals, credential.lifetime) == ("ssh-ca", ("deploy",), 120.0)
    assert [secret.reveal()[:35] for secret in credential.secrets()] == ["-----BEGIN OPENSSH PRIVATE KEY-----"]
    assert "OPENSSH" not in repr(credential)


def test_a_private_key_that_others_may_read(demo: Demo) -> None:
    for name in ("tls/ssh_host_ed25519_key", "tls/ssh_user_ca"):
        demo.file(name).chmod(0o644)
    assert sum("not to be readable by others" in problem for problem in demo.problems(check_modes=True)) >= 2


# --- known_hosts ---

KEY = fresh.public_line(fresh.audit_key(), "a comment").strip()


@pytest.mark.parametrize(("line", "known"), [
    ("[h]:22 KEY", False), ("h KEY", True), ("H KEY", True), ("a,h KEY", True), ("*h KEY", True), ("!h,* KEY", False), ("x KEY", False),
    ("h? KEY", False),
    ("@cert-authority h KEY", True), ("@cert-authority * KEY", True), ("@revoked h KEY", False), ("# h KEY", False)])
def test_known_hosts(tmp_path: Path, line: str, known: bool) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(f"\n{line.replace('KEY', KEY)}\n")
    if known:
        trust.check_known_hosts(path, "h", 22)
        return
    with pytest.raises(ValueError, match="expected a key of h in"):
        trust.check_known_hosts(path, "h", 22)


def test_a_hashed_name(tmp_path: Path) -> None:
    """As ssh-keygen -H writes it."""
    path, salt = tmp_path / "known_hosts", b"0123456789abcdef0123"
    digest = hmac.digest(salt, b"[h]:2222", "sha1")
    path.write_text(f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()} {KEY}\n")
    trust.check_known_hosts(path, "h", 2222)
    with pytest.raises(ValueError, match="expected a key of h in"):
        trust.check_known_hosts(path, "h", 22)


@pytest.mark.parametrize("line", ["h", "h ssh-ed25519", "h ssh-ed25519 AAAA", "@other h KEY", "@revoked", "h ssh-ed25519 !!!!"])
def test_a_line_that_cannot_be_read_is_an_error(tmp_path: Path, line: str) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(f"h {KEY}\n{line.replace('KEY', KEY)}\n")
    with pytest.raises(ValueError, match="line 2"):
        trust.check_known_hosts(path, "h", 22)


def test_a_placeholder_lets_nothing_through_and_is_told(demo: Demo) -> None:
    [warning] = [one for one in demo.load().warnings if one.file == WEB]
    assert "nobody has the key that stands there" in warning.message
    with demo.file("trust/known_hosts").open("a") as file:
        file.write(f"[127.0.0.1]:2222 {KEY}\n")
    assert [one for one in demo.load().warnings if one.file == WEB] == []
