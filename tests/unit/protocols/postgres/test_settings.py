# SPDX-License-Identifier: Apache-2.0
"""The keys of a PostgreSQL resource that say where and how it is reached."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.credentials import Credential, Secret
from gateway.protocols.postgres.settings import SETTINGS, PostgresResource, destinations, resource_problem


def resource(**keys: Any) -> PostgresResource:
    return PostgresResource.model_validate({
        "name": "orders-db", "protocol": "postgres", "address": "127.0.0.1:5432", "database": "orders", "credential": "orders-db"} | keys)


def test_one_address_is_a_list_of_one() -> None:
    one = resource()
    assert (one.address, one.place, one.places) == (("127.0.0.1:5432",), ("127.0.0.1", 5432), (("127.0.0.1", 5432),))
    assert (one.target_session_attrs, one.load_balance, one.minors, one.require_auth) == ("any", "order", (0, 2), ())
    assert hash(one) == hash(resource(address=["127.0.0.1:5432"]))


def test_every_server_is_a_destination() -> None:
    """What the firewall opens is what a session may go to."""
    cluster = resource(address=["db1.example:5432", "[fd00::2]:5433"])
    assert destinations(cluster) == SETTINGS.destinations(cluster) == (("db1.example", 5432), ("fd00::2", 5433))


@pytest.mark.parametrize("version", ["3.0", 3.0])
def test_versions_as_yaml_gives_them(version: object) -> None:
    assert resource(min_protocol_version=version, max_protocol_version=version).minors == (0, 0)
    assert resource(min_protocol_version=3.2).minors == (2, 2)


PLAIN = {"tls": {"mode": "disable"}}


@pytest.mark.parametrize(("keys", "wanted"), [
    ({"address": []}, "at least 1"),
    ({"address": ["127.0.0.1:5432"] * 2}, "each address once"),
    ({"address": [f"127.0.0.1:{port}" for port in range(1, 18)]}, "at most 16"),
    ({"address": ["127.0.0.1:5432", "db"]}, "HOST:PORT"),
    ({"address": ["127.0.0.1:5432", "db.example:5432"], **PLAIN}, "`disable` is for targets on loopback only"),
    ({"target_session_attrs": "master"}, "'any', 'read-write'"),
    ({"load_balance": True}, "'order' or 'random'"),
    ({"connect_timeout": "0s"}, "greater than 0"),
    ({"channel_binding": "require", **PLAIN}, "expected TLS"),
    ({"tls": {"mode": "disable", "negotiation": "direct"}}, "expected TLS"),
    ({"require_auth": ["md5"]}, "'scram-sha-256', 'password' or 'none'"),
    ({"require_auth": ["password"], "tls": {"mode": "verify-ca"}}, "no password is sent in clear"),
    ({"require_auth": ["password", "none"], "channel_binding": "require"}, "expected scram-sha-256"),
    ({"min_protocol_version": "3.1"}, "'3.0' or '3.2'"),
    ({"min_protocol_version": "3.2", "max_protocol_version": "3.0"}, "not to be newer"),
])
def test_what_is_refused(keys: dict[str, Any], wanted: str) -> None:
    with pytest.raises(ValidationError, match=wanted):
        resource(**keys)


@pytest.mark.parametrize("attributes", ["any", "read-only", "standby", "prefer-standby"])
def test_a_role_for_each_session_needs_the_primary(attributes: str) -> None:
    """A standby cannot make one; and a role that was made a moment ago is not there yet."""
    credential = Credential("orders-db", "ephemeral-role", "admin", Secret("x"))
    both = ["127.0.0.1:5432", "127.0.0.1:5433"]
    assert resource_problem(resource(address=both, target_session_attrs=attributes), credential) is not None
    assert resource_problem(resource(address=both, target_session_attrs="primary"), credential) is None
    assert resource_problem(resource(), credential) is None
    assert resource_problem(resource(address=both), Credential("orders-db", "password", "app", Secret("x"))) is None
