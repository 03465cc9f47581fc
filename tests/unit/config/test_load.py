# SPDX-License-Identifier: Apache-2.0
"""The folder as a whole: what is merged, and every refusal of contract section 1 with its file, line and key."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.config import fresh
from gateway.config.document import read_document
from gateway.config.load import load_folder
from gateway.config.problem import InvalidFolder
from gateway.errors import ConfigError
from gateway.protocols.postgres.settings import PostgresResource
from gateway.testing.certificates import Authority, Pair
from tests.unit.config.folder import NOW, Demo

GATEWAY, CI_BOT, MASKS = "gateway.yaml", "policy/grants/ci-bot.yaml", "policy/masks.yaml"
IDENTITIES, RESOURCES, APPROVALS = "policy/identities.yaml", "policy/resources.yaml", "policy/approvals.yaml"


def test_a_folder_that_nobody_lets_us_look_into(demo: Demo) -> None:
    """Said as every problem is, not as a traceback: root passes by modes, so it steps down for the moment."""
    outside = demo.path.parent
    mode, user = outside.stat().st_mode, os.geteuid()
    outside.chmod(0)
    if user == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(InvalidFolder, match=r"expected a folder that can be read: .*: Permission denied"):
            load_folder(demo.path)
    finally:
        os.seteuid(user)
        outside.chmod(mode)


def test_the_example(demo: Demo) -> None:
    folder = demo.load()
    assert folder.gateway.name == "plant-a-1"
    assert folder.gateway.limits.message == 64 * 2**20
    assert folder.gateway.limits.operations_per_identity == 100000
    assert [issuer.name for issuer in folder.policy.issuers] == ["ci", "staff"]
    assert folder.policy.issuers[0].session == 8 * 3600
    assert folder.policy.issuers[1].session == "token"
    assert {grant.name for grant in folder.policy.grants} == {"ci works on orders", "reporting reads orders"}
    [resource] = folder.policy.resources
    assert isinstance(resource, PostgresResource)
    assert resource.offered == ("orders",)
    assert resource.place == ("127.0.0.1", 5432)
    assert folder.credentials["orders-db"].password.reveal() == "REPLACED-BY-THE-RENDERER"
    assert len(folder.tests) == 16
    assert folder.key_sets.keys() == {"ci", "staff"}
    assert folder.warnings == ()
    assert folder.where("grants", "ci works on orders") == f"{CI_BOT}:2"
    assert folder.where("grants", "nobody") == ""
    assert folder.state == demo.path.parent / "state"


def test_serving_ignores_the_tests(demo: Demo) -> None:
    demo.write("policy/tests/broken.yaml", "tests: 3\n")
    assert demo.load(need_tests=False).tests == ()
    assert len(demo.problems()) == 1


def test_the_order_of_files_means_nothing(demo: Demo) -> None:
    before = demo.load().policy
    for path in demo.path.glob("policy/**/*.yaml"):
        if "tests" not in path.parts:
            shutil.move(path, path.with_name(f"{'zz' if path.name < 'm' else 'aa'}-{path.name}"))
    after = demo.load().policy
    assert {grant.name: grant for grant in after.grants} == {grant.name: grant for grant in before.grants}


def test_the_digest_is_that_of_policy_and_trust(demo: Demo) -> None:
    first = demo.load().digest
    demo.write("policy/tests/more.yaml", "tests: []\n").write("README.md", "hello\n").replace(GATEWAY, "10000", "9999")
    assert demo.load().digest == first
    demo.write("trust/more.pem", "x")
    second = demo.load().digest
    assert second != first
    demo.replace(CI_BOT, "8h", "7h")
    assert demo.load().digest not in (first, second)
    assert second.startswith("sha256:")


def test_all_problems_are_listed(demo: Demo) -> None:
    demo.replace(GATEWAY, "handshake: 10s", "handshake: ten").replace(CI_BOT, "targets: [orders-db]", "targets: [orders]")
    demo.replace(APPROVALS, "count: 1", "count: 0").write("policy/broken.yaml", "grants: [\n")
    problems = demo.problems()
    assert list(dict.fromkeys(problem.split(":")[0] for problem in problems)) == [GATEWAY, APPROVALS, "policy/broken.yaml", CI_BOT]
    assert problems[0] == "gateway.yaml:12: limits.handshake: expected a duration such as 500ms, 30s, 15m, 8h or 30d"


def test_an_error_is_a_config_error_with_every_line(demo: Demo) -> None:
    demo.replace(GATEWAY, "name: plant-a-1", "nam: plant-a-1")
    with pytest.raises(ConfigError) as caught:
        demo.load()
    assert str(caught.value).splitlines() == demo.problems()
    assert len(demo.problems()) == 2


REFUSED = {
    "unknown key at the top": (
        GATEWAY,
        "segment:",
        "segmant:",
        "gateway.yaml:2: segmant: expected one of audit, console, limits, listeners, "
        "name, notify, segment, state, workers; there is no key 'segmant', did you mean 'segment'?",
    ),
    "unknown key inside": (GATEWAY, "handshake:", "handshakes:", "gateway.yaml:12: limits.handshakes: expected one of"),
    "unknown key in a list": (CI_BOT, "targets:", "target:", f"{CI_BOT}:4: grants[0].target: expected one of"),
    "unknown list": (MASKS, "masks:", "mask:", f"{MASKS}:1: mask: expected one of"),
    "unknown key of a resource": (RESOURCES, "database:", "dbname:", f"{RESOURCES}:5: resources[0].dbname: expected one of"),
    "unknown key of tls": (RESOURCES, "mode:", "modus:", f"{RESOURCES}:6: resources[0].tls.modus: expected one of ca, mode"),
    "missing key": (
        RESOURCES,
        "    credential: orders-db\n",
        "",
        f"{RESOURCES}:2: resources[0].credential: expected this key, which is missing",
    ),
    "number instead of text": (GATEWAY, "name: plant-a-1", "name: 1", "gateway.yaml:1: name: expected text (write it in quotes)"),
    "bool instead of text in match": (
        IDENTITIES,
        'ref_protected: "true"',
        "ref_protected: true",
        f"{IDENTITIES}:24: identities[0].match.ref_protected: expected text (write it in quotes)",
    ),
    "text instead of number": (
        GATEWAY,
        "connections: 10000",
        'connections: "10000"',
        "gateway.yaml:10: limits.connections: expected a whole number",
    ),
    "text instead of bool": (IDENTITIES, "people: true", "people: yes", f"{IDENTITIES}:17: issuers[1].people: expected true or false"),
    "text instead of list": (CI_BOT, "to: [ci-bot]", "to: ci-bot", f"{CI_BOT}:3: grants[0].to: expected a list"),
    "list instead of mapping": (
        GATEWAY,
        "console:\n  read: [group:security, group:dba]   # sessions, replay, audit\n  metrics: loopback\n",
        "console: []\n",
        "gateway.yaml:16: console: expected a mapping",
    ),
    "unknown word": (GATEWAY, "durability: effects", "durability: effect", "did you mean 'effects'?"),
    "algorithm none": (IDENTITIES, "[ES256, RS256]", "[none]", f"{IDENTITIES}:6: issuers[0].algorithms[0]: expected 'ES256'"),
    "symmetric algorithm": (IDENTITIES, "[ES256, RS256]", "[ES256, HS256]", f"{IDENTITIES}:6: issuers[0].algorithms[1]: expected 'ES256'"),
    "no algorithm": (IDENTITIES, "[ES256, RS256]", "[]", f"{IDENTITIES}:6: issuers[0].algorithms: expected at least one entry"),
    "no key source": (IDENTITIES, "    jwks: trust/ci.jwks.json", "#", f"{IDENTITIES}:2: issuers[0]: expected either `jwks: FILE`"),
    "two key sources": (
        IDENTITIES,
        "    max_lifetime: 1h",
        "    jwks_url: https://x.example/k\n    max_lifetime: 1h",
        f"{IDENTITIES}:2: issuers[0]: expected either",
    ),
    "plain jwks_url": (IDENTITIES, "jwks: trust/ci.jwks.json", "jwks_url: http://ci.example/k", "expected an https:// address"),
    "leeway too wide": (IDENTITIES, "leeway: 30s", "leeway: 1h", "issuers[0].leeway: expected at most 300"),
    "match of nothing": (IDENTITIES, 'match: {sub: "service:reporting"}', "match: {}", "identities[1].match: expected at least one entry"),
    "bad network": (IDENTITIES, "127.0.0.0/8", "127.0.0.1/8", "identities[0].sources[0]: expected a network"),
    "text behind a network (T69)": (
        IDENTITIES,
        "127.0.0.0/8",
        '"fe80::%x\\nUser=root\\nExecStartPre=+nft flush ruleset\\n#/64"',
        "identities[0].sources[0]: expected a network",
    ),
    "unknown issuer": (
        IDENTITIES,
        "    issuer: ci\n",
        "    issuer: cii\n",
        "identities[0].issuer: expected the name of an issuer; there is no 'cii', did you mean 'ci'?",
    ),
    "unknown identity": (CI_BOT, "to: [ci-bot]", "to: [ci-bod]", f"{CI_BOT}:3: grants[0].to[0]: expected the name of an identity"),
    "unknown resource": (
        CI_BOT,
        "targets: [orders-db]",
        "targets: [orders]",
        f"{CI_BOT}:4: grants[0].targets[0]: expected the name of a resource; there is no 'orders', did you mean 'orders-db'?",
    ),
    "unknown approval": (CI_BOT, "by: one-dba", "by: two-dba", "grants[0].rules[4].by: expected the name of an approval"),
    "unknown mask set": (CI_BOT, "masks: [customer-data]", "masks: [customers]", "grants[0].masks[0]: expected the name of a mask set"),
    "unknown credential": (
        RESOURCES,
        "credential: orders-db",
        "credential: orders",
        "resources[0].credential: expected a credential; there is no credentials/orders.yaml, did you mean 'orders-db'?",
    ),
    "kind of subject": (CI_BOT, "to: [ci-bot]", "to: [role:x]", "grants[0].to[0]: expected NAME or group:NAME"),
    "to nobody": (CI_BOT, "to: [ci-bot]", "to: []", "grants[0].to: expected at least one entry"),
    "window over": (
        CI_BOT,
        "until: 2036-01-01",
        "until: 2026-01-02",
        f"{CI_BOT}:5: grants[0].when.until: expected a window that is not over yet",
    ),
    "window backwards": (CI_BOT, "from: 2026-01-01", "from: 2037-01-01", "grants[0].when: expected `from` to be earlier than `until`"),
    "moment without offset": (
        CI_BOT,
        "2026-01-01T00:00:00Z",
        "2026-01-01",
        "grants[0].when.from: expected a date and time with its offset",
    ),
    "quorum of zero": (APPROVALS, "count: 1", "count: 0", f"{APPROVALS}:3: approvals[0].all_of[0].count: expected at least 1"),
    "quorum of nobody": (APPROVALS, "[{group: dba, count: 1}]", "[]", f"{APPROVALS}:3: approvals[0].all_of: expected at least one entry"),
    "negative quorum": (APPROVALS, "count: 1", "count: -1", "approvals[0].all_of[0].count: expected at least 1"),
    "group twice": (APPROVALS, "{group: security, count: 1}", "{group: dba}", "approvals[1].all_of[1].group: expected each group once"),
    "no expiry": (APPROVALS, "expires: 15m", "expires: 0s", "approvals[0].expires: expected more than 0"),
    "matcher of another protocol": (
        CI_BOT,
        "deny: {sql: {functions",
        "deny: {http: {functions",
        "grants[0].rules[7].deny.http: expected the matcher of a protocol",
    ),
    "matcher of another protocol than the resource's": (
        CI_BOT,
        "deny: {sql: {functions",
        "deny: {ssh: {functions",
        "grants[0].rules[7].deny.ssh: expected the matcher `sql`: resource 'orders-db' speaks postgres",
    ),
    "unknown verb": (
        CI_BOT,
        "[drop-table, truncate]",
        "[drop-tabel, truncate]",
        f"{CI_BOT}:14: grants[0].rules[5].approve.sql.verbs: expected verbs of the published table; there is no 'drop-tabel', "
        "did you mean 'drop-table'?",
    ),
    "unknown key of a matcher": (
        CI_BOT,
        "where: missing",
        "were: missing",
        "grants[0].rules[4].approve.sql: unknown key 'were': expected one of verbs",
    ),
    "relation without schema": (
        CI_BOT,
        'relations: ["public.*"]}}, by',
        "relations: [orders]}}, by",
        "rules[5].approve.sql.relations: expected schema.relation",
    ),
    "matcher that is no mapping": (
        CI_BOT,
        "deny: {sql: {functions:",
        "deny: {sql: [1], x: {functions:",
        "grants[0].rules[7].deny.sql: expected a mapping",
    ),
    "no effect": (CI_BOT, "{name: data, allow:", "{name: data, alow:", "grants[0].rules[0]"),
    "two effects": (CI_BOT, "{name: data, allow:", "{name: data, deny: {sql: {}}, allow:", "grants[0].rules[0]: expected exactly one of"),
    "approve without by": (CI_BOT, ", by: one-dba", "", "grants[0].rules[4]: expected `by: APPROVAL` with `approve`"),
    "by without approve": (
        CI_BOT,
        'relations: ["public.*"]}}}\n',
        'relations: ["public.*"]}}, by: one-dba}\n',
        "grants[0].rules[0]: expected `by: APPROVAL`",
    ),
    "max_rows on a deny": (
        CI_BOT,
        "{name: never, deny:",
        "{name: never, max_rows: 3, deny:",
        "grants[0].rules[6]: expected `max_rows` only with `allow`",
    ),
    "rule named twice": (
        CI_BOT,
        "name: never-functions",
        "name: never",
        "grants[0]: expected each rule of a grant to have a name of its own",
    ),
    "slash in a name": (CI_BOT, "name: ci works on orders", "name: ci/works", "grants[0].name: expected a name"),
    "strange resource name": (RESOURCES, "name: orders-db", "name: orders/db", "resources[0].name: expected a name of letters"),
    "masks of a column without schema": (MASKS, "public.customers.ssn", "customers.ssn", "expected SCHEMA.RELATION.COLUMN"),
    "unknown mask": (MASKS, "ssn: redact", "ssn: hide", "expected redact, null, email, {keep_last: N}, {keep_first: N}"),
    "negative mask": (MASKS, "{keep_last: 4}", "{keep_last: -4}", "expected redact, null, email"),
    "unknown detector": (MASKS, "jwt: redact", "jwd: redact", "did you mean 'jwt'?"),
    "protocol not spoken": (
        RESOURCES,
        "protocol: postgres",
        "protocol: http",
        f"{RESOURCES}:3: resources[0].protocol: expected one of postgres, ssh: this gateway does not speak 'http'",
    ),
    "target address": (RESOURCES, "127.0.0.1:5432", "127.0.0.1", "resources[0].address: expected HOST:PORT"),
    "plaintext to a target elsewhere": (RESOURCES, "127.0.0.1:5432", "10.0.0.5:5432", "resources[0]: expected `tls: {mode: verify-full}`"),
    "database and databases": (
        RESOURCES,
        "database: orders",
        "database: orders\n    databases: [a]",
        "resources[0]: expected either `database: NAME`",
    ),
    "no database": (RESOURCES, "    database: orders", "#", "resources[0]: expected either `database: NAME`"),
    "missing ca": (RESOURCES, "mode: disable", "mode: disable, ca: trust/no.pem", "resources[0].tls.ca: expected a file"),
    "listener of another protocol": (
        GATEWAY,
        "  console:",
        '  http: {address: "127.0.0.1:1"}\n  console:',
        "gateway.yaml:7: listeners.http: expected one of console, postgres, ssh; there is no key 'http': this gateway does not speak",
    ),
    "listener address": (GATEWAY, "127.0.0.1:15432", "15432", "gateway.yaml:6: listeners.postgres.address: expected HOST:PORT"),
    "two listeners on one port": (
        GATEWAY,
        "127.0.0.1:19443",
        "0.0.0.0:15432",
        "gateway.yaml:7: listeners.console.address: expected an address of its own",
    ),
    "no certificate file": (
        GATEWAY,
        "certificate: tls/gateway.crt",
        "certificate: tls/no.crt",
        "gateway.yaml:6: listeners.postgres.tls.certificate: expected a file",
    ),
    "no key file": (GATEWAY, "key: tls/gateway.key", "key: tls/no.key", "gateway.yaml:6: listeners.postgres.tls.key: expected a file"),
    "key of another certificate": (
        GATEWAY,
        "key: tls/gateway.key",
        "key: tls/ca.key",
        "gateway.yaml:6: listeners.postgres.tls.key: expected the key of the certificate",
    ),
    "certificate as key": (GATEWAY, "key: tls/gateway.key", "key: tls/gateway.crt", "expected an unencrypted PKCS 8 PEM key"),
    "audit key of another kind": (
        GATEWAY,
        "key: tls/audit_ed25519_key",
        "key: tls/gateway.key",
        "gateway.yaml:23: audit.checkpoint.key: expected an OpenSSH Ed25519",
    ),
    "no audit key": (GATEWAY, "key: tls/audit_ed25519_key", "key: tls/none", "audit.checkpoint.key: expected a file"),
    "state inside": (GATEWAY, "state: ../state", "state: state", "gateway.yaml:3: state: expected a folder outside of this one"),
    "state is the folder": (GATEWAY, "state: ../state", "state: .", "gateway.yaml:3: state: expected a folder outside of this one"),
    "size of a message": (GATEWAY, "message: 64MiB", "message: 2GiB", "limits.message: expected at most"),
    "no connections": (GATEWAY, "connections: 10000", "connections: 0", "limits.connections: expected at least 1"),
    "anchor": (CI_BOT, "to: [ci-bot]", "to: &x [ci-bot]", f"{CI_BOT}:3: grants[0].to: expected no anchor"),
    "duplicate key": (
        CI_BOT,
        "    to: [ci-bot]\n",
        "    to: [ci-bot]\n    to: [reporting]\n",
        f"{CI_BOT}:4: grants[0].to: expected each key once",
    ),
    "webhook in clear": (
        GATEWAY,
        "audit:\n",
        'notify: {webhook: {url: "http://x.example/"}}\naudit:\n',
        "notify.webhook.url: expected an https:// address",
    ),
    "webhook secret": (
        GATEWAY,
        "audit:\n",
        'notify: {webhook: {url: "https://x.example/", secret: orders-db}}\naudit:\n',
        "notify.webhook.secret: expected a credential of kind bearer",
    ),
    "ended test resource": (
        "policy/tests/orders.yaml",
        "resource: orders-db",
        "resource: web-1",
        "tests[0].resource: expected the name of a resource",
    ),
    "test of another protocol": (
        "policy/tests/orders.yaml",
        'sql: "select id, name from customers"',
        "ssh: {exec: uptime}",
        "tests[0].ssh: expected one of",
    ),
    "test of an unknown rule": (
        "policy/tests/orders.yaml",
        "rules: [never]",
        "rules: [newer]",
        "tests[6].rules: expected RULE or GRANT/RULE",
    ),
    "test of an unknown effect": (
        "policy/tests/orders.yaml",
        "effect: allow",
        "effect: unknown",
        "tests[0].effect: expected 'allow', 'approve' or 'deny'",
    ),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_refused(case: str, demo: Demo) -> None:
    file, old, new, wanted = REFUSED[case]
    problems = demo.replace(file, old, new).problems()
    assert any(wanted in problem for problem in problems), problems
    assert all("expected" in problem for problem in problems)


def test_plaintext_listener_on_anything_but_loopback(demo: Demo) -> None:
    tls = ", tls: {certificate: tls/gateway.crt, key: tls/gateway.key}}"
    demo.replace(GATEWAY, f'"127.0.0.1:15432"{tls}', '"127.0.0.1:15432"}')
    assert demo.problems() == []
    demo.replace(GATEWAY, '"127.0.0.1:15432"', '"0.0.0.0:15432"')
    assert demo.only_problem().startswith("gateway.yaml:6: listeners.postgres: expected `tls: {certificate, key}`")


def test_names_that_occur_twice(demo: Demo) -> None:
    demo.write("policy/zz.yaml", demo.file(RESOURCES).read_text())
    assert (
        demo.only_problem()
        == f"policy/zz.yaml:2: resources[0].name: expected a name of its own; 'orders-db' already stands at {RESOURCES}:2"
    )


def test_two_issuers_that_one_token_would_fit(demo: Demo) -> None:
    demo.write(
        "policy/more.yaml",
        "issuers:\n  - {name: b, issuer: 'https://ci.plant-a.example', audience: lockgate/plant-a, "
        "jwks: trust/ci.jwks.json, algorithms: [ES256]}\n",
    )
    assert "expected another issuer or audience than" in demo.only_problem()


def test_a_group_that_nobody_can_be_in(demo: Demo) -> None:
    demo.replace(CI_BOT, "to: [ci-bot]", 'to: ["group:unheard-of"]')
    assert demo.problems() == [], "an issuer with groups_claim may bring any group"
    demo.replace(IDENTITIES, "    groups_claim: groups\n", "")
    problems = demo.problems()
    assert f"{CI_BOT}:3: grants[0].to[0]: expected a group that somebody can be in" in problems[-1]
    assert any("approvals[0].all_of[0].group: expected a group that people can be in" in problem for problem in problems)
    assert any("console.read[0]: expected a group that people can be in" in problem for problem in problems)


def test_approvals_without_people(demo: Demo) -> None:
    demo.replace(IDENTITIES, "    people: true", "    people: false")
    assert any("approvals[0]: expected an issuer with `people: true`" in problem for problem in demo.problems())


@pytest.mark.parametrize(
    "keys", ['{"keys": []}', "{}", "[]", "not json", "", '{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}', '{"keys": [3]}']
)
def test_key_sets(keys: str, demo: Demo) -> None:
    demo.write("trust/ci.jwks.json", keys)
    assert demo.only_problem().startswith(f"{IDENTITIES}:5: issuers[0].jwks: expected a")


def test_private_keys_do_not_belong_into_trust(demo: Demo) -> None:
    private = fresh.signing_key()
    demo.write("trust/ci.jwks.json", json.dumps({"keys": [private]}))
    problem = demo.only_problem()
    assert "private" in problem
    assert private["d"] not in problem


def test_a_key_set_for_another_algorithm(demo: Demo) -> None:
    demo.replace(IDENTITIES, "[ES256, RS256]", "[RS256]")
    assert "issuers[0].jwks: expected a key for RS256" in demo.only_problem()


@pytest.mark.parametrize(
    ("entry", "wanted"),
    [
        ("{token_id: abc}", None),
        ("{issuer: ci, subject: x}", None),
        ("{issuer: 'https://ci.plant-a.example', subject: x}", None),
        ("{identity: ci-bot, until: 2030-01-01T00:00:00Z}", None),
        ("{person: dana}", None),
        ("{key_id: k}", None),
        ("{certificate: '0123'}", None),
        ("{identity: nobody}", "revoked[0].identity: expected the name of an identity"),
        ("{issuer: cx, subject: x}", "revoked[0].issuer: expected the name of"),
        ("{issuer: ci}", "revoked[0]: expected one of"),
        ("{}", "revoked[0]: expected one of"),
        ("{token_id: a, person: b}", "revoked[0]: expected one of"),
        ("{serial: 3}", "revoked[0].serial: expected one of"),
        ("{token_id: 3}", "revoked[0].token_id: expected text"),
    ],
)
def test_revoked(entry: str, wanted: str | None, demo: Demo) -> None:
    demo.write("policy/revoked.yaml", f"revoked:\n  - {entry}\n")
    problems = demo.problems()
    assert problems == [] if wanted is None else wanted in problems[0]


def test_max_rows_may_stand_inside_the_matcher(demo: Demo) -> None:
    demo.replace(CI_BOT, "[select, insert, update, delete], relations", "[insert, update, delete], max_rows: 10, relations")
    rule = demo.load().policy.grants[0].rules[0]
    assert rule.max_rows == 10
    assert rule.allow is not None
    assert "max_rows" not in rule.allow["sql"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("kind: password\nusername: a\n", "credentials/orders-db.yaml:1: password: expected this key"),
        (
            "kind: password\nusername: a\npassword: hunter2-secret\npasword: hunter2-secret\n",
            "credentials/orders-db.yaml:4: pasword: expected one of",
        ),
        (
            "kind: password\nusername: a\npassword: 12345\n",
            "credentials/orders-db.yaml:3: password: expected text that is not empty (numbers in quotes)",
        ),
        ("kind: password\nusername: a\npassword: ''\n", "password: expected text that is not empty"),
        ("kind: password\nusername: a\npassword: [hunter2-secret]\n", "password: expected text"),
        (
            "kind: service-account\ncertificate: x\n",
            "credentials/orders-db.yaml:1: kind: expected one of password, certificate, ephemeral-role, ssh-key, ssh-ca, bearer, mask-key: "
            "kind 'service-account' is not supported yet",
        ),
        ("kind: certificate\nusername: a\ncertificate: x\n", "credentials/orders-db.yaml:1: private_key: expected this key"),
        ("kind: ssh-key\nprivate_key: '-----BEGIN hunter2-secret'\n", "private_key: expected an OpenSSH private key"),
        ("kind: ssh-ca\nprivate_key: credentials/none\n", "private_key: expected a file, but there is none"),
        ("kind: ssh-ca\nprivate_key: credentials/none\nlifetime: 25h\n", "lifetime: expected a duration of at most a day"),
        ("kind: ssh-ca\nprivate_key: credentials/none\nprincipals: []\n", "principals: expected a list of 1 to 64 names"),
        ("kind: ephemeral-role\nusername: a\npassword: hunter2-secret\n", "credentials/orders-db.yaml:1: member_of: expected this key"),
        ("kind: magic\n", "kind: expected one of password, certificate, ephemeral-role, ssh-key"),
        (
            "kind: bearer\ntoken: hunter2-secret\n",
            "expected a credential of kind certificate or ephemeral-role or password; 'orders-db' is bearer",
        ),
        ("", "kind: expected kind"),
        ("- hunter2-secret\n", "kind: expected kind"),
        (
            "kind: password\nusername: a\npassword: hunter2-secret\npassword: hunter2-secret\n",
            "credentials/orders-db.yaml:4: password: expected each key once",
        ),
        ('kind: password\nusername: a\npassword: "hunter2-secret\n', "expected YAML"),
        ("kind: password\nusername: a\npassword: &hunter2-secret b\n", "expected no anchor"),
    ],
)
def test_credentials(text: str, wanted: str, demo: Demo) -> None:
    problem = demo.write("credentials/orders-db.yaml", text).only_problem()
    assert wanted in problem
    assert "hunter2-secret" not in problem


PKI = """\
issuers:
  - {name: plant-pki, kind: certificate, ca: trust/robots.pem}
identities:
  - {name: deploy-bot, issuer: plant-pki, match: {uri: "spiffe://plant-a/deploy/*"}}
"""


@pytest.fixture
def pki(demo: Demo, tmp_path: Path) -> Demo:
    (tmp_path / "robots").mkdir()
    shutil.copyfile(Authority(tmp_path / "robots").ca, demo.file("trust/robots.pem"))
    return demo.write("policy/pki.yaml", PKI)


def test_an_issuer_of_certificates(pki: Demo) -> None:
    folder = pki.load()
    assert [issuer.name for issuer in folder.policy.issuers] == ["ci", "staff"]
    [issuer] = folder.authorities
    assert (issuer.name, issuer.max_lifetime, issuer.session) == ("plant-pki", 7 * 86400, "certificate")
    assert len(folder.bundles["plant-pki"]) == 1
    before = folder.digest
    pki.file("trust/robots.pem").write_text(pki.file("trust/robots.pem").read_text() + "\n")
    assert pki.load().digest != before, "what is trusted is part of the policy"


@pytest.mark.parametrize(("old", "new", "wanted"), [
    ("uri:", "urn:", "policy/pki.yaml:4: identities[0].match.urn: expected one of address, cn, dns, email, issuer, serial, subject, uri"),
    ("plant-pki, match", "plant-pkj, match", "identities[0].issuer: expected the name of an issuer; there is no 'plant-pkj', did you mean"),
    ("name: plant-pki", "name: ci", "expected a name of its own; 'ci' already stands at"),
    ("trust/robots.pem", "tls/gateway.crt", "issuers[0].ca: expected certificates of authorities alone"),
    ("trust/robots.pem", "trust/ci.jwks.json", "issuers[0].ca: expected one or more PEM certificates"),
    ("trust/robots.pem", "trust/no.pem", "issuers[0].ca: expected a file"),
    ("kind: certificate", "kind: certificates", "issuers[0].kind: expected 'token'"),
    ("ca: trust", "jwks: x, ca: trust", "issuers[0].jwks: expected one of ca, kind, max_lifetime, name, session; there is no key 'jwks'"),
    ("robots.pem}", "robots.pem, session: token}", "issuers[0].session: expected `certificate` or a duration"),
])
def test_issuers_of_certificates_that_are_wrong(pki: Demo, old: str, new: str, wanted: str) -> None:
    problems = pki.replace("policy/pki.yaml", old, new).problems()
    assert any(wanted in problem for problem in problems), problems


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    folder = tmp_path / "client"
    folder.mkdir()
    return Authority(folder).issue("app")


def certificate_file(certificate: str, key: str) -> str:
    return json.dumps({"kind": "certificate", "username": "app", "certificate": certificate, "private_key": key})


def test_a_certificate_for_the_target(demo: Demo, pair: Pair) -> None:
    """In the file itself or beside it; what is kept is the same."""
    demo.replace(RESOURCES, "tls: {mode: disable}", "tls: {mode: verify-ca}")
    certificate, key = pair.certificate.read_text(), pair.key.read_text()
    inside = demo.write("credentials/orders-db.yaml", certificate_file(certificate, key)).load().credentials["orders-db"]
    demo.write("credentials/orders-db.crt", certificate).write("credentials/orders-db.key", key)
    demo.write("credentials/orders-db.yaml", certificate_file("credentials/orders-db.crt", "credentials/orders-db.key"))
    beside = demo.load().credentials["orders-db"]
    assert inside == beside and beside.certificate == certificate
    assert [secret.reveal() for secret in beside.secrets()] == [key]
    assert key.splitlines()[1] not in repr(beside)


@pytest.mark.parametrize(("certificate", "key", "wanted"), [
    ("CERTIFICATE", "tls/gateway.key", "private_key: expected PEM text, or the path of a file in credentials/"),
    ("CERTIFICATE", "../client/server.key", "private_key: expected PEM text, or the path of a file in credentials/"),
    ("CERTIFICATE", "credentials/no.key", "private_key: expected a file, but there is none"),
    ("CERTIFICATE", "-----BEGIN PRIVATE KEY-----\nhunter2-secret\n-----END PRIVATE KEY-----\n", "private_key: expected a PKCS 8 PEM key"),
    ("CERTIFICATE", "-----BEGIN EC PRIVATE KEY-----\nhunter2-secret\n", "private_key: expected an unencrypted PKCS 8 PEM key"),
    ("CERTIFICATE", "OTHER", "private_key: expected the key of the certificate above"),
    ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "KEY", "certificate: expected one or more PEM certificates"),
    ("KEY", "KEY", "certificate: expected one or more PEM certificates"),
])
def test_certificates_that_are_none(demo: Demo, pair: Pair, certificate: str, key: str, wanted: str) -> None:
    demo.replace(RESOURCES, "tls: {mode: disable}", "tls: {mode: verify-ca}")
    texts = {"CERTIFICATE": pair.certificate.read_text(), "KEY": pair.key.read_text(), "OTHER": demo.file("tls/gateway.key").read_text()}
    demo.write("credentials/orders-db.yaml", certificate_file(texts.get(certificate, certificate), texts.get(key, key)))
    problem = demo.only_problem()
    assert problem.startswith("credentials/orders-db.yaml:1: ") and wanted in problem
    assert "hunter2" not in problem and texts["KEY"].splitlines()[1] not in problem


def test_a_certificate_without_tls_is_shown_to_nobody(demo: Demo, pair: Pair) -> None:
    demo.write("credentials/orders-db.yaml", certificate_file(pair.certificate.read_text(), pair.key.read_text()))
    assert "resources[0].credential: expected TLS to a target that is shown a certificate" in demo.only_problem()


def test_a_key_beside_that_others_may_read(demo: Demo, pair: Pair) -> None:
    demo.replace(RESOURCES, "tls: {mode: disable}", "tls: {mode: verify-ca}")
    demo.write("credentials/orders-db.crt", pair.certificate.read_text()).write("credentials/orders-db.key", pair.key.read_text())
    demo.write("credentials/orders-db.yaml", certificate_file("credentials/orders-db.crt", "credentials/orders-db.key"))
    for name in ("orders-db.crt", "orders-db.yaml"):
        demo.file(f"credentials/{name}").chmod(0o600)
    demo.file("credentials/orders-db.key").chmod(0o644)
    assert "credentials/orders-db.key" in demo.only_problem(check_modes=True)


def test_files_that_would_have_no_effect(demo: Demo) -> None:
    demo.write("policy/deny.yml", "grants: []\n")
    assert demo.only_problem() == "policy/deny.yml: expected a name that ends in .yaml: a .yml file has no effect"


def test_linked_folders_in_policy(demo: Demo, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    demo.file("policy/more").symlink_to(tmp_path / "elsewhere")
    assert demo.only_problem() == "policy/more: expected a folder, not a link"


def test_lists_that_are_empty_or_absent(demo: Demo) -> None:
    demo.write("policy/empty.yaml", "").write("policy/null.yaml", "grants:\n").write("policy/comment.yaml", "# nothing\n")
    assert demo.problems() == []


def test_a_policy_file_that_is_a_list(demo: Demo) -> None:
    assert "policy/x.yaml:1: expected a mapping with issuers" in demo.write("policy/x.yaml", "- a\n").only_problem()


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InvalidFolder, match=r"there is no gateway\.yaml in"):
        load_folder(tmp_path)


def test_an_encrypted_key(demo: Demo) -> None:
    demo.write("tls/gateway.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
    assert all("expected an unencrypted PKCS 8 PEM key" in problem for problem in demo.problems())
    assert len(demo.problems()) == 2


def test_protocols_of_later_are_refused_clearly(demo: Demo) -> None:
    """The contract's further example holds keys of protocols that this gateway does not speak yet."""
    source = Path(__file__).parents[4] / "shared" / "contract" / "example-http-kubernetes"
    if source.is_dir():
        shutil.copytree(source, demo.path, dirs_exist_ok=True, copy_function=shutil.copyfile)
        problems = demo.problems()
        assert any("this gateway does not speak" in problem for problem in problems)


def test_warnings(demo: Demo) -> None:
    demo.replace(MASKS, "public.customers.ssn", "public.customers.snn")
    demo.write("credentials/unused.yaml", "kind: password\nusername: a\npassword: b\n")
    demo.write("policy/revoked.yaml", "revoked:\n  - {token_id: a, until: 2026-01-01T00:00:00Z}\n")
    demo.write("policy/more.yaml", "masks:\n  - {name: spare}\n")
    warnings = [str(warning) for warning in demo.load().warnings]
    assert warnings == [
        "credentials/unused.yaml: no resource uses this credential",
        f'{MASKS}:4: masks[0].columns."public.customers.snn": orders-db has no such column, as its schema file says, '
        "did you mean 'public.customers.ssn'?",
        "policy/more.yaml:2: masks[0].name: no grant names 'spare'",
        "policy/revoked.yaml:2: revoked[0]: this entry has ended and revokes nothing any more",
    ]


def test_a_schema_file_that_is_none(demo: Demo) -> None:
    demo.write("policy/schemas/orders-db.json", "[]")
    assert [
        "policy/schemas/orders-db.json: not what `lockgate schema pull` writes" in str(warning) for warning in demo.load().warnings
    ] == [True]


def test_nothing_is_written(demo: Demo) -> None:
    before = {path: path.stat().st_mtime_ns for path in demo.path.rglob("*")}
    load_folder(demo.path, check_modes=False, now=NOW)
    assert {path: path.stat().st_mtime_ns for path in demo.path.rglob("*")} == before


@pytest.mark.parametrize("name", ["policy", "credentials", "policy/tests"])
def test_what_cannot_be_read_is_not_left_out(name: str, demo: Demo) -> None:
    shutil.rmtree(demo.file(name))
    demo.file(name).write_text("")
    assert any("expected what can be read: Not a directory" in problem for problem in demo.problems())


def test_names_that_would_change_a_terminal(demo: Demo) -> None:
    demo.write("policy/\x1b[2J.yaml", 'grants: [{"\\e[31m": 1}]\n')
    assert all(problem.isprintable() for problem in demo.problems())
    assert demo.problems()


def test_max_rows_that_bounds_nothing(demo: Demo) -> None:
    demo.replace(CI_BOT, "{name: catalog, allow:", "{name: catalog, max_rows: 5, allow:")
    assert (
        "grants[0].rules[1].max_rows: expected `max_rows` only where `verbs` has one of delete, insert, merge, update"
        in demo.only_problem()
    )


_ANY: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.just([])
    | st.just({})
    | st.just(["x", 1])
    | st.just({"sql": 3})
)
_FILES = (GATEWAY, CI_BOT, MASKS, IDENTITIES, RESOURCES, APPROVALS, "policy/tests/orders.yaml", "credentials/orders-db.yaml")


def _places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, part in inner for place in _places(part, (*at, key)))]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(file=st.sampled_from(_FILES), data=st.data())
def test_whatever_stands_anywhere_it_is_valid_or_explained(file: str, data: st.DataObject, demo: Demo) -> None:
    """One value of one file replaced by any other: never another exception, and every problem says what was expected."""
    before = demo.file(file).read_text()
    top = {"top": read_document(file, before.encode()).value}
    place = ("top", *data.draw(st.sampled_from(_places(top["top"]))))
    holder: Any = top
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = data.draw(_ANY)
    try:
        demo.write(file, json.dumps(top["top"], ensure_ascii=False))
    except UnicodeEncodeError:
        return
    try:
        assert all("expected" in problem for problem in demo.problems())
    finally:
        demo.write(file, before)


def test_a_folder_behind_a_link_is_read_from_one_place(demo: Demo, tmp_path: Path) -> None:
    """What a link to it is switched to meanwhile is read by the next reload, not by this one."""
    link = tmp_path / "current"
    link.symlink_to(demo.path)
    folder = load_folder(link, now=NOW)
    assert (folder.path, folder.named) == (demo.path.resolve(), link)
    assert folder.resolve("trust") == demo.path.resolve() / "trust"


def test_a_link_that_others_can_change_is_refused(demo: Demo, tmp_path: Path) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    (open_to_all / "current").symlink_to(demo.path)
    open_to_all.chmod(0o777)
    with pytest.raises(InvalidFolder, match="not to be writable by others"):
        load_folder(open_to_all / "current", now=NOW)
