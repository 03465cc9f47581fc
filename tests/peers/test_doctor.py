# SPDX-License-Identifier: Apache-2.0
"""What the doctor sees on real servers: each right too many is one finding, the least of them none."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.config.load import Folder, load_folder
from gateway.protocols.postgres.doctor import findings
from gateway.protocols.postgres.ephemeral import Mark
from gateway.protocols.postgres.settings import PostgresResource
from gateway.testing.appliance import ORDERS_SQL, Appliance
from gateway.testing.postgres import PostgresServer, embedded_binaries, system_binaries

EVERYWHERE = "{name: data, allow: {sql: {verbs: [select, insert, update, delete], relations: [\"*.*\"]}}}"


@dataclass(slots=True)
class Patient:
    """A folder whose credential is a fresh role ``name`` with the least of rights."""

    server: PostgresServer
    appliance: Appliance
    name: str

    def do(self, sql: str) -> None:
        self.server.execute(sql.format(me=self.name), "orders")

    def folder(self) -> Folder:
        return load_folder(self.appliance.folder)

    def ids(self) -> list[str]:
        folder = self.folder()
        [resource] = folder.policy.resources
        assert isinstance(resource, PostgresResource)
        return [finding.id for finding in asyncio.run(findings(folder, resource))]

    def credential(self, **keys: object) -> None:
        found = {"kind": "ephemeral-role", "username": self.name, "password": self.appliance.password, **keys}
        (self.appliance.folder / "credentials" / "orders-db.yaml").write_text(json.dumps(found))


@pytest.fixture(scope="module", params=["system", "newest"])
def server(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    binaries = system_binaries() if request.param == "system" else embedded_binaries()
    with PostgresServer(binaries=binaries) as made:
        made.create_database("orders")
        made.execute(ORDERS_SQL.read_text(), "orders")
        made.execute("create role orders_reader nologin; grant select on public.orders to orders_reader", "orders")
        yield made


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, server: PostgresServer) -> Appliance:
    appliance = Appliance(tmp_path_factory.mktemp("doctor"))
    appliance.prepare(server.address, "nobody")
    return appliance


@pytest.fixture
def patient(tmp_path: Path, server: PostgresServer, prepared: Appliance) -> Iterator[Patient]:
    shutil.copytree(prepared.root, tmp_path / "copy")
    appliance, name = Appliance(tmp_path / "copy", password=prepared.password), f"app_{secrets.token_hex(4)}"
    appliance.rewrite("credentials/orders-db.yaml", {"nobody": name})
    server.create_role(name, appliance.password)
    server.execute(f"grant select on public.orders to {name}", "orders")
    yield Patient(server, appliance, name)
    server.execute(f"drop owned by {name} cascade; drop role {name}", "orders")


def test_the_least_of_rights_is_no_finding(patient: Patient) -> None:
    assert patient.ids() == []


@pytest.mark.parametrize(("sql", "wanted"), [
    ("alter role {me} superuser", "role.superuser"),
    ("grant postgres to {me}", "role.superuser"),
    ("grant pg_read_server_files to {me}", "role.server-files"),
    ("grant pg_write_server_files to {me}", "role.server-files"),
    ("grant pg_execute_server_program to {me}", "role.server-files"),
    ("alter role {me} replication", "role.replication"),
    ("alter role {me} createrole", "role.createrole"),
    ("alter role {me} bypassrls", "role.bypassrls"),
    ("alter role {me} createdb", "role.createdb"),
    ("grant pg_read_all_data to {me}", "role.reads-all"),
    ("grant pg_write_all_data to {me}", "role.writes-all"),
    ("grant pg_monitor to {me}", "role.statistics"),
    ("grant pg_read_all_stats to {me}", "role.statistics"),
])
def test_each_right_too_many(patient: Patient, sql: str, wanted: str) -> None:
    patient.do(sql)
    assert wanted in patient.ids()
    if wanted != "role.superuser":
        assert set(patient.ids()) == {wanted}


def test_a_group_of_a_group_counts(patient: Patient) -> None:
    patient.do("create role {me}_group nologin; grant pg_read_server_files to {me}_group; grant {me}_group to {me}")
    assert patient.ids() == ["role.server-files"]
    patient.do("drop role {me}_group")


def test_reading_everything_is_right_where_a_grant_says_so(patient: Patient) -> None:
    patient.do("grant pg_read_all_data to {me}")
    grants = patient.appliance.folder / "policy" / "grants" / "ci-bot.yaml"
    kept = [line if "name: data," not in line else f"      - {EVERYWHERE}" for line in grants.read_text().splitlines()]
    grants.write_text("\n".join(kept) + "\n")
    assert patient.ids() == []


def test_who_owns_masked_tables(patient: Patient) -> None:
    patient.do("alter table public.customers owner to {me}")
    try:
        assert patient.ids() == ["role.owner"]
    finally:
        patient.do("alter table public.customers owner to postgres")


def test_functions_that_do_more_than_sql(patient: Patient) -> None:
    available = patient.server.execute("select name from pg_available_extensions where name in ('dblink', 'adminpack')")[-1].rows
    patient.do("create function public.as_the_owner() returns int language sql security definer as 'select 1'")
    for (name,) in available:
        patient.do(f"create extension {name}")
    try:
        assert sorted(set(patient.ids())) == sorted({"role.definer", *(["role.extension"] if available else [])})
        patient.do("revoke execute on all functions in schema public from public")
        patient.do("revoke usage on foreign data wrapper dblink_fdw from public" if ("dblink",) in available else "select 1")
        assert [one for one in patient.ids() if one == "role.definer"] == []
    finally:
        patient.do("drop function public.as_the_owner()")
        for (name,) in available:
            patient.do(f"drop extension {name}")


def test_functions_in_untrusted_languages(patient: Patient) -> None:
    """Without such a language at hand: a trusted one, called untrusted."""
    patient.do("update pg_language set lanpltrusted = false where lanname = 'plpgsql'; "
               "create function public.as_the_server() returns int language plpgsql as 'begin return 1; end'")
    try:
        assert patient.ids() == ["role.untrusted"]
    finally:
        patient.do("drop function public.as_the_server(); update pg_language set lanpltrusted = true where lanname = 'plpgsql'")


def test_foreign_servers(patient: Patient) -> None:
    patient.do("create foreign data wrapper {me}_w; create server {me}_s foreign data wrapper {me}_w; "
               "grant usage on foreign server {me}_s to {me}")
    try:
        assert patient.ids() == ["role.foreign"]
    finally:
        patient.do("drop foreign data wrapper {me}_w cascade")


def test_passwords_kept_as_md5(patient: Patient) -> None:
    patient.do("alter role {me} set password_encryption = 'md5'")
    assert patient.ids() == ["password.md5"]


def test_pg_hba_where_it_may_be_seen(patient: Patient) -> None:
    hba = patient.server.folder / "d" / "pg_hba.conf"
    before = hba.read_text()
    patient.do("grant select on pg_hba_file_rules to {me}; grant execute on function pg_hba_file_rules() to {me}")
    try:
        assert patient.ids() == [], "only loopback"
        hba.write_text(before + "host all all 192.0.2.0/24 trust\nhost all all 0.0.0.0/0 scram-sha-256\n")
        assert sorted(patient.ids()) == ["hba.around", "hba.trust"]
        patient.appliance.rewrite("policy/identities.yaml", {"owner: sam": "owner: sam\n    sources: [198.51.100.0/24]"})
        hba.write_text(before + "host all all 203.0.113.0/24 scram-sha-256\n")
        assert patient.ids() == [], "no caller comes from there"
        hba.write_text(before + "host all all 192.0.2.7/32 scram-sha-256\nhost all all all reject\nhost all all all scram-sha-256\n")
        assert patient.ids() == []
    finally:
        hba.write_text(before)


def test_a_target_that_is_down(patient: Patient) -> None:
    patient.appliance.rewrite("policy/resources.yaml", {patient.server.address: "127.0.0.1:1"})
    assert patient.ids() == ["target.unreachable"]


def test_a_password_that_is_no_longer_right(patient: Patient) -> None:
    patient.do("alter role {me} password 'another'")
    assert patient.ids() == ["target.unreachable"]


# roles of sessions


def with_roles(patient: Patient, member_of: str = "orders_reader") -> None:
    """What docs/operating.md says the administrative login needs, and nothing else."""
    patient.do("revoke all on public.orders from {me}; alter role {me} createrole")
    if patient.server.version >= 16:
        patient.do(f"grant {member_of} to {{me}} with admin true, inherit false, set false")
    patient.credential(member_of=[member_of])


def known(patient: Patient) -> list[str]:
    """What is always said of a target before PostgreSQL 16."""
    return ["admin.version"] if patient.server.version < 16 else []


def test_the_least_of_rights_for_roles_of_sessions(patient: Patient) -> None:
    with_roles(patient)
    assert patient.ids() == known(patient)


@pytest.mark.parametrize(("sql", "wanted"), [
    ("alter role {me} nocreaterole", "admin.createrole"),
    ("alter role {me} superuser", "role.superuser"),
    ("alter role {me} replication", "role.replication"),
    ("grant pg_execute_server_program to {me}", "role.server-files"),
    ("grant select on public.customers to {me}", "admin.reads"),
])
def test_the_administrative_login(patient: Patient, sql: str, wanted: str) -> None:
    with_roles(patient)
    patient.do(sql)
    assert set(patient.ids()) - {"admin.version"} == {wanted}


def test_roles_that_cannot_be_granted(patient: Patient) -> None:
    with_roles(patient)
    patient.credential(member_of=["orders_reader", "no_such_role"])
    assert patient.ids() == ["admin.member-of", *known(patient)]
    if patient.server.version >= 16:
        patient.do("revoke orders_reader from {me}")
        assert sorted(patient.ids()) == ["admin.grant", "admin.member-of"]


def test_what_the_groups_of_sessions_may(patient: Patient) -> None:
    """Before 16 a session may also become its groups, and what they may become."""
    patient.do("create role {me}_group nologin createdb; grant pg_read_server_files to {me}_group")
    try:
        with_roles(patient, f"{patient.name}_group")
        wanted = {"role.server-files"} | ({"role.createdb"} if patient.server.version < 16 else set())
        assert set(patient.ids()) - {"admin.version"} == wanted
    finally:
        patient.do("drop role {me}_group")


def test_a_role_that_could_not_be_dropped(patient: Patient) -> None:
    with_roles(patient)
    mark = Mark("plant-a-1", "plant-a", "0" * 16, "a" * 32, "orders-db", "orders").text()
    role = "lockgate_plant-a-1_" + "a" * 16
    patient.server.execute(f"create role \"{role}\" login valid until '2999-01-01'; comment on role \"{role}\" is '{mark}'")
    try:
        assert "role.left" not in patient.ids(), "of a session that may be live"
        patient.server.execute(f'alter role "{role}" nologin')
        assert "role.left" in patient.ids()
    finally:
        patient.server.execute(f'drop role "{role}"')


def test_the_verb(patient: Patient) -> None:
    answer = patient.appliance.json("doctor", expect=0)
    assert answer["asked"] == ["orders-db"]
    assert answer["sync_microseconds"] > 0
    assert not [one for one in answer["findings"] if one["id"].startswith(("role.", "hba.", "target."))]
    patient.do("alter role {me} superuser")
    answer = patient.appliance.json("doctor", expect=1)
    [found] = [one for one in answer["findings"] if one["id"] == "role.superuser"]
    assert found["severity"] == "high"
    assert patient.name in found["saw"]
    assert patient.appliance.password not in json.dumps(answer)
    assert "role.superuser" not in json.dumps(patient.appliance.json("doctor", "--offline", expect=0))
    assert "no resource is named" in patient.appliance.json("doctor", "--resource", "x", expect=2)["error"]
    (patient.appliance.folder / "credentials" / "orders-db.yaml").chmod(0o644)
    patient.appliance.json("doctor", expect=2)
