# SPDX-License-Identifier: Apache-2.0
"""tools/review: what is said of a gateway's folder before and after a change. Rendering itself is tried with the example inventory."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from gateway.config.draft import Draft, read_credentials
from gateway.credentials.credential import KINDS
from tools import review

EXAMPLE = review.ROOT / "inventories/example/segments/plant-a"
SETTINGS = """name: gw-a-1
segment: plant-a
state: /var/lib/lockgate
listeners:
  postgres: {address: "0.0.0.0:5432", tls: {certificate: tls/gateway.crt, key: tls/gateway.key}}
audit: {checkpoint: {key: tls/audit_ed25519_key}}
"""


@pytest.fixture
def before(tmp_path: Path) -> Path:
    folder = tmp_path / "before"
    for part in ("policy", "trust"):
        shutil.copytree(EXAMPLE / part, folder / part)
    (folder / "credentials").mkdir()
    (folder / "gateway.yaml").write_text(SETTINGS)
    (folder / "credentials.json").write_text(json.dumps({"orders-db": "password"}))
    review.stand_in(folder)
    return folder


@pytest.fixture
def after(before: Path, tmp_path: Path) -> Path:
    shutil.copytree(before, tmp_path / "after")
    return tmp_path / "after"


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_nothing_changes(before: Path, after: Path) -> None:
    found = review.ask(after, before, True)
    assert found.wrong == () and found.changes == () and not found.wider
    assert found.facts[0] == "16 passed, 0 failed"
    assert "No decision" in review.markdown(review.Review({"plant-a/gw-a-1": found}, against="main"))


def test_a_wider_grant_is_marked(before: Path, after: Path) -> None:
    edit(after / "policy/grants/reporting.yaml", "rows: 1000000", "rows: 2000000")
    found = review.ask(after, before, True)
    assert found.wider and any("session rows" in line for line in found.changes)
    assert "**More would be possible than before.**" in review.markdown(review.Review({"plant-a/gw-a-1": found}, against="main"))


def test_a_narrower_grant_is_not(before: Path, after: Path) -> None:
    edit(after / "policy/grants/reporting.yaml", "rows: 1000000", "rows: 10")
    found = review.ask(after, before, True)
    assert found.changes and not found.wider


def test_a_target_that_moves_opens_one_hole_and_closes_one(before: Path, after: Path) -> None:
    edit(after / "policy/resources.yaml", "192.0.2.50:5432", "192.0.2.51:5432")
    changes = review.ask(after, before, True).changes
    assert "WIDER  opens     out 192.0.2.51:5432 (resource orders-db)" in changes
    assert "       closes    out 192.0.2.50:5432 (resource orders-db)" in changes


def test_a_target_with_a_name_hides_no_other_hole(before: Path, after: Path) -> None:
    """`lockgate network` ends with 1 then, and says all the same what it knows."""
    edit(after / "policy/resources.yaml", "192.0.2.50:5432", "db.example:5432")
    more = 'name: more, protocol: postgres, address: "203.0.113.66:5432", database: x, tls: {mode: require}, credential: orders-db'
    (after / "policy/more.yaml").write_text(f"resources: [{{{more}}}]")
    found = [line for line in review.ask(after, before, True).changes if "opens" in line or "closes" in line]
    assert found == ["WIDER  opens     out 203.0.113.66:5432 (resource more)", "WIDER  opens     out db.example:5432 (resource orders-db)",
                     "       closes    out 192.0.2.50:5432 (resource orders-db)"]


def test_what_cannot_be_compared_is_wider(before: Path, after: Path) -> None:
    (before / "policy/grants/reporting.yaml").write_text("grants: 7\n")
    found = review.ask(after, before, True)
    assert found.wider and found.wrong == ()
    assert "WIDER  for all that is known: decisions cannot be compared:" in found.changes
    assert "WIDER  opens     in 0.0.0.0:5432 (postgres)" in found.changes


def test_settings_are_shown_line_by_line(before: Path, after: Path) -> None:
    (after / "gateway.yaml").write_text(SETTINGS + "limits: {drain: 5s}\n")
    assert "+limits: {drain: 5s}" in review.ask(after, before, True).changes


def test_a_folder_that_is_refused(before: Path, after: Path) -> None:
    edit(after / "policy/grants/reporting.yaml", "masks: [customer-data]", "masks: [nobody]")
    found = review.ask(after, before, True)
    assert any(line.startswith("policy/grants/reporting.yaml:") and "nobody" in line for line in found.wrong)
    assert review.Review({"x": found}).wrong


def test_a_case_that_fails(before: Path, after: Path) -> None:
    edit(after / "policy/tests/orders.yaml", 'sql: "delete from orders", effect: approve', 'sql: "delete from orders", effect: allow')
    found = review.ask(after, before, True)
    assert any("delete from orders" in line for line in found.wrong)


def test_a_revocation_is_shown_and_stops_nothing(before: Path, after: Path) -> None:
    (after / "policy/revoked.yaml").write_text("revoked: [{identity: ci-bot}]\n")
    found = review.ask(after, before, True)
    assert found.wrong == () and found.revoked and not found.wider
    assert {line.split()[1] for line in found.revoked} == {"ci-bot"} and found.facts[0].endswith(f"{len(found.revoked)} revoked")
    text = review.markdown(review.Review({"plant-a/gw-a-1": found}, against="main"))
    assert "(REVOKED: it does not hold, and stops nothing; HELD: no rule denies it):\n\n```text\nREVOKED ci-bot on orders-db: " in text
    assert "not revoked -> revoked" in text and len(found.changes) == 2, "who is revoked, and not one by one what that denies"


def test_a_revocation_for_a_day_hides_no_wider_grant(before: Path, after: Path) -> None:
    (after / "policy/revoked.yaml").write_text('revoked: [{identity: reporting, until: "2999-01-01T00:00:00Z"}]\n')
    edit(after / "policy/grants/reporting.yaml", "relations: [public.orders, public.customers]", 'relations: ["public.*"]')
    edit(after / "policy/grants/reporting.yaml", 'verbs: [select], relations: ["public', 'verbs: [select, insert], relations: ["public')
    found = review.ask(after, before, True)
    assert found.wider and "WIDER  decision  reporting on orders-db: insert public.orders: deny -> allow" in found.changes
    assert found.revoked == ("HELD    reporting on orders-db: insert into orders values (1): no rule denies it, the identity is revoked",)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_stand_in_is_what_its_kind_has_to_be(tmp_path: Path, kind: str) -> None:
    """Read by the gateway as it reads the real ones."""
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials/one.yaml").write_text(json.dumps(review.credential(kind)))
    draft = Draft(tmp_path)
    read_credentials(draft)
    assert [document.problems for document in draft.documents] == [[]]
    assert draft.credentials["one"].kind == kind


SSH = """resources:
  - {name: web-1, protocol: ssh, address: "192.0.2.60:22", logins: [deploy, backup], host_keys: trust/known_hosts, credential: web-1,
     credentials: {backup: web-1-backup}}
"""


def test_an_ssh_target_and_listener(before: Path, after: Path, tmp_path: Path) -> None:
    """Keys are made up, logins are not, and a target that nobody knows is refused as it would be on the gateway."""
    (after / "gateway.yaml").write_text(SETTINGS.replace(
        "audit:", '  ssh: {address: "0.0.0.0:2222", host_keys: [tls/ssh_host_ed25519_key], user_ca: tls/ssh_user_ca}\naudit:'))
    (after / "policy/web.yaml").write_text(SSH)
    (after / "credentials.json").write_text(json.dumps({"orders-db": "password", "web-1": "ssh-key", "web-1-backup": "password"}))
    review.stand_in(after)
    assert json.loads((after / "credentials/web-1-backup.yaml").read_text())["username"] == "backup"
    assert any("known_hosts" in line for line in review.ask(after, before, True).wrong)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "host")], check=True)
    (after / "trust/known_hosts").write_text(f"192.0.2.60 {(tmp_path / 'host.pub').read_text()}")
    found = review.ask(after, before, True)
    assert found.wrong == ()
    assert {"WIDER  opens     in 0.0.0.0:2222 (ssh)", "WIDER  opens     out 192.0.2.60:22 (resource web-1)"} <= set(found.changes)


@pytest.mark.parametrize(("kept", "said"), [("trust/deep/er/known_hosts", "there is none at trust/deep/er/known_hosts"),
                                            ("policy/known_hosts", "there is none at policy/known_hosts")])
def test_what_init_would_make_up_is_missing_as_it_is_on_the_gateway(after: Path, kept: str, said: str) -> None:
    (after / "policy/web.yaml").write_text(SSH.replace("trust/known_hosts", kept))
    (after / "credentials.json").write_text(json.dumps({"orders-db": "password", "web-1": "ssh-key", "web-1-backup": "ssh-key"}))
    review.stand_in(after)
    assert any(line.endswith(said) for line in review.ask(after, None, False).wrong)
    assert not (after / kept).exists()


def test_a_key_of_a_mask_that_the_inventory_does_not_give_is_missing(after: Path) -> None:
    edit(after / "policy/masks.yaml", "public.customers.ssn: redact ", "public.customers.ssn: {hash: join-key} ")
    (after / "credentials.json").write_text(json.dumps({"orders-db": "password"}))
    review.stand_in(after)
    assert any("join-key" in line for line in review.ask(after, None, False).wrong)


def test_the_state_of_the_gateway_is_nothing_that_is_touched_here(after: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o755)
    (after / "gateway.yaml").write_text(SETTINGS.replace("/var/lib/lockgate", str(state)))
    shutil.rmtree(after / "tls")
    (after / "credentials.json").write_text(json.dumps({"orders-db": "password"}))
    review.stand_in(after)
    assert state.stat().st_mode & 0o777 == 0o755 and sorted(path.name for path in (after / "tls").iterdir()) == [
        "audit_ed25519_key", "ca.crt", "gateway.crt", "gateway.key"]


def test_a_new_gateway_is_more_than_before(after: Path) -> None:
    assert review.ask(after, None, True).wider
    assert not review.ask(after, None, False).wider


def test_gateways_of_which_the_same_is_said_share_a_section() -> None:
    same = review.Finding(facts=("1 passed, 0 failed",))
    text = review.markdown(review.Review({"a/1": same, "a/2": same, "b/1": review.Finding()}, gone=("b/2",), against="main"))
    assert "## a/1, a/2" in text and "## b/1" in text and "## b/2\n\nThis gateway is no longer" in text


def test_a_name_in_the_report_cannot_end_its_block() -> None:
    text = review.fenced(["before", "````", "after"])
    assert text.startswith("`````text\n") and text.endswith("\n`````")


def test_nothing_of_the_change_is_markup_in_the_report() -> None:
    """What folds, hides or links would be a reviewer's blind spot; only the report's own words are outside of blocks."""
    hostile = "<details>\n<!-- [x](https://example.org) ```"
    one = review.Finding(wrong=(hostile,), revoked=(hostile,), changes=(hostile,), wider=True, facts=(hostile,))
    text = review.markdown(review.Review({f"a/{hostile}": one}, gone=(f"b/{hostile}",), against="main"))
    inside, outside = False, []
    for line in text.splitlines():
        if line.strip("`") in ("", "text") and line.startswith("````"):
            inside = not inside
        elif not inside:
            outside.append(line)
    assert not inside and "<" not in "".join(outside) and "`main`" in text
    assert text.count("<details>") == 4


def test_who_reviews_needs_no_vault_password(tmp_path: Path) -> None:
    inventory = tmp_path / "plants"
    shutil.copytree(review.ROOT / "inventories/example", inventory)
    vault = inventory / "group_vars/segment_plant_a/vault.yml"
    vault.write_text("$ANSIBLE_VAULT;1.1;AES256\n00\n")
    out = tmp_path / "out"
    tmp_path.chmod(0o777)  # as a runner's checkout may be, or one that was made with a umask of 002
    found = review.look(inventory, "", out)
    assert "plant-a/gw-a-1" in found.findings and not found.wrong
    assert (out / "after/plant-a/gw-a-1/gateway.yaml").is_file()
    assert vault.exists() and sorted(path.name for path in tmp_path.iterdir()) == ["out", "plants"]


def test_who_reviews_needs_no_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example inventory becomes root on the gateways (`ansible_become`), and may say how they are reached: rendering does neither."""
    inventory = tmp_path / "plants"
    shutil.copytree(review.ROOT / "inventories/example", inventory)
    edit(inventory / "hosts.yml", "ansible_host: 192.0.2.11", "ansible_host: 192.0.2.11, ansible_connection: ssh")
    away = tmp_path / "bin"
    away.mkdir()
    (away / "sudo").write_text(f"#!/bin/sh\ntouch {tmp_path}/asked\nexit 1\n")
    (away / "sudo").chmod(0o755)
    monkeypatch.setenv("PATH", f"{away}:/usr/bin:/bin")
    monkeypatch.setenv("ANSIBLE_BECOME_ALLOW_SAME_USER", "true")
    assert "plant-a/gw-a-1" in review.render(inventory, tmp_path / "out")
    assert not (tmp_path / "asked").exists()
