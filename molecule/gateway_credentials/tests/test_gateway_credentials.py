# SPDX-License-Identifier: Apache-2.0
"""Where secrets are on a gateway host and where they are not; then they change, under a gateway that runs."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from testinfra.host import Host
from verify import Lab, Playbook

testinfra_hosts = ["lab://gw"]

ADDRESS = "10.88.6.11"
ROOT = Path(__file__).parents[3]
ROTATE = ROOT / "playbooks" / "rotate_credentials.yml"
CONTROLS: list[dict[str, Any]] = yaml.safe_load(
    (ROOT / "roles/gateway_credentials/vars/controls.yml").read_text())["__gateway_credentials_controls"]
BLOBS, DECRYPTED = "/var/lib/lockgate-credentials", "/run/lockgate-credentials"
OTHER = {"kind": "password", "username": "lockgate", "password": "canary-other-Xw3mB8rT"}
FETCH = """
import ssl, sys
print(ssl.get_server_certificate((sys.argv[1], 19443), timeout=3))
"""


def credentials(password: str) -> dict[str, Any]:
    return {"orders-db": {"kind": "password", "username": "lockgate", "password": password}, "reports-db": OTHER}


def pid(host: Host) -> int:
    return int(host.check_output("systemctl show --property=MainPID --value lockgate.service"))


def loaded(host: Host) -> float:
    """When the running gateway last read its folder."""
    return float(json.loads(host.file("/run/lockgate/serving.json").content_string)["began"])


def on_disk(host: Host, text: str) -> str:
    """Files that hold this, on every file system but those in memory."""
    return host.run("find / -xdev -path /proc -prune -o -type f -exec grep -lF -e %s {} +", text).stdout


def presented(lab: Lab) -> str:
    """The certificate that the gateway shows to somebody on the network."""
    argv = ["ip", "netns", "exec", lab.switch(), "python3", "-c", FETCH, ADDRESS]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


# --- as it was set up ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("control", [one for one in CONTROLS if one["scope"] != "vm"], ids=lambda control: str(control["id"]))
def test_controls_hold(host: Host, control: dict[str, Any]) -> None:
    evidence = control["evidence"]
    seen = host.run(" ".join(["%s"] * len(evidence["command"])), *evidence["command"])
    if "rc" in evidence:
        assert seen.rc == evidence["rc"], seen
    if "stdout_regex" in evidence:
        assert re.search(evidence["stdout_regex"], seen.stdout), seen


def test_every_secret_is_encrypted_and_readable_by_root_alone(host: Host) -> None:
    names = {"credentials.orders-db.yaml", "credentials.reports-db.yaml", "tls.gateway.key", "tls.audit_ed25519_key"}
    assert set(host.file(BLOBS).listdir()) == {f"{name}.cred" for name in names}
    assert set(host.file(DECRYPTED).listdir()) == names
    for name in names:
        assert host.check_output(f"stat -c '%U %a' {BLOBS}/{name}.cred") == "root 600"
        assert host.check_output(f"stat -c '%U %a' {DECRYPTED}/{name}") == "lockgate 400"
    name = "credentials.orders-db.yaml.cred"
    opened = host.check_output(f"systemd-creds decrypt --name=lockgate_{name} {BLOBS}/{name} -")
    assert json.loads(opened)["password"] == "canary-first-Zq7fK2pW"
    assert host.run(f"setpriv --reuid=65534 --clear-groups ls {DECRYPTED}").rc != 0


def test_nothing_of_them_is_on_the_disk_or_in_the_journal(host: Host) -> None:
    for secret in ("canary-first-Zq7fK2pW", "canary-other-Xw3mB8rT"):
        assert on_disk(host, secret) == ""
        assert secret not in host.check_output("journalctl --no-pager --quiet --output json")
    for name in ("tls.gateway.key", "tls.audit_ed25519_key"):
        line = host.file(f"{DECRYPTED}/{name}").content_string.splitlines()[2]
        assert len(line) > 40
        assert on_disk(host, line) == ""
    assert host.check_output("find / -xdev -name 'ca.key' -o -xdev -name '.lockgate-init-*'") == ""


def test_the_gateway_reads_them(host: Host, lab: Lab) -> None:
    assert host.file("/etc/lockgate/credentials/orders-db.yaml").linked_to == f"{DECRYPTED}/credentials.orders-db.yaml"
    assert host.run("lockgate ready").rc == 0
    assert host.file("/var/lib/lockgate-tls/gateway.crt").content_string.strip() == presented(lab)


def test_a_certificate_names_what_callers_use(lab: Lab, host: Host) -> None:
    context = ssl.create_default_context(cadata=host.file("/var/lib/lockgate-tls/ca.crt").content_string)
    assert context.check_hostname
    shown = host.check_output("openssl x509 -in /var/lib/lockgate-tls/gateway.crt -noout -ext subjectAltName")
    assert ADDRESS in shown


# --- they change --------------------------------------------------------------------------------------------------------------------


def test_a_try_says_that_something_changes_and_not_what(host: Host, playbook: Playbook) -> None:
    run = playbook(ROTATE, {"gateway_credentials": credentials("canary-tried-Kp9sD4vN")}, ["--check", "--diff", "-vvv"])
    assert run.status == 0, run.output
    assert run.changed["gw"] >= 1
    assert "canary" not in run.output
    assert "canary-first" in host.file(f"{DECRYPTED}/credentials.orders-db.yaml").content_string


def test_a_new_password_reaches_the_gateway_without_a_restart(host: Host, playbook: Playbook) -> None:
    process, before = pid(host), loaded(host)
    blobs = host.check_output(f"sha256sum {BLOBS}/credentials.reports-db.yaml.cred {BLOBS}/tls.*")
    run = playbook(ROTATE, {"gateway_credentials": credentials("canary-second-Rt6gH1yM")}, ["--diff", "-vvv"])
    assert run.status == 0, run.output
    assert "canary" not in run.output
    assert pid(host) == process
    assert loaded(host) > before
    assert "canary-second-Rt6gH1yM" in host.file("/etc/lockgate/credentials/orders-db.yaml").content_string
    assert host.check_output(f"sha256sum {BLOBS}/credentials.reports-db.yaml.cred {BLOBS}/tls.*") == blobs
    assert on_disk(host, "canary-second-Rt6gH1yM") == ""
    assert playbook(ROTATE, {"gateway_credentials": credentials("canary-second-Rt6gH1yM")}).changed == {"gw": 0}


def test_a_credential_that_nothing_names_any_more_is_taken_away(host: Host, playbook: Playbook) -> None:
    only = {"gateway_credentials": {"orders-db": credentials("canary-second-Rt6gH1yM")["orders-db"]}}
    playbook.changes(**only)
    for path in (f"{BLOBS}/credentials.reports-db.yaml.cred", f"{DECRYPTED}/credentials.reports-db.yaml",
                 "/etc/lockgate/credentials/reports-db.yaml"):
        assert not host.file(path).exists
    assert host.run("lockgate ready").rc == 0
    assert playbook.changes(**only).changed == {"gw": 0}


def test_a_new_certificate(host: Host, lab: Lab, playbook: Playbook) -> None:
    """The listeners' key changes, the audit key does not: its signatures go on."""
    before, process = presented(lab), pid(host)
    audit = host.file(f"{DECRYPTED}/tls.audit_ed25519_key").content_string
    run = playbook(ROTATE, {"gateway_credentials": credentials("canary-second-Rt6gH1yM"), "gateway_credentials_renew": ["tls"]}, ["-vvv"])
    assert run.status == 0, run.output
    assert "PRIVATE KEY" not in run.output
    assert pid(host) != process
    assert presented(lab) != before
    assert presented(lab) == host.file("/var/lib/lockgate-tls/gateway.crt").content_string.strip()
    assert host.file(f"{DECRYPTED}/tls.audit_ed25519_key").content_string == audit
    assert host.run("lockgate ready").rc == 0
    assert host.run("lockgate audit verify").rc == 0


def test_a_name_that_is_a_path_is_refused(host: Host, playbook: Playbook) -> None:
    run = playbook(ROTATE, {"gateway_credentials": {"../../../etc/x": {"kind": "password", "password": "canary-path-Lw2cJ5zQ"}}}, ["-vvv"])
    assert run.status != 0
    assert "a credential's name is letters" in " ".join(run.output.split())
    assert "canary" not in run.output
    assert not host.file("/etc/x.yaml.cred").exists


def test_after_a_reboot_everything_is_there_again(host: Host, lab: Lab) -> None:
    lab.run("reboot", "gw")
    end = time.monotonic() + 60
    while host.run("lockgate ready").rc and time.monotonic() < end:
        time.sleep(0.5)
    assert host.run("lockgate ready").rc == 0
    assert "canary-second-Rt6gH1yM" in host.file("/etc/lockgate/credentials/orders-db.yaml").content_string


def test_a_host_that_cannot_open_its_audit_key_is_told_to_nobody_else(host: Host, playbook: Playbook) -> None:
    """The host's key is another one: credentials are written anew from the inventory, the audit key is not replaced in silence."""
    secret = "/var/lib/systemd/credential.secret"
    host.check_output(f"mv {secret} {secret}.kept")
    run = playbook("", {"gateway_credentials": credentials("canary-second-Rt6gH1yM")})
    assert run.status != 0
    assert "cannot be decrypted on this host" in " ".join(run.output.split())
    host.check_output(f"mv -f {secret}.kept {secret}")
    playbook.changes(gateway_credentials=credentials("canary-second-Rt6gH1yM"))
