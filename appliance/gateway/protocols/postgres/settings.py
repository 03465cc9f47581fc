# SPDX-License-Identifier: Apache-2.0
"""The configuration keys that PostgreSQL brings: its resource, its listener, its test cases, its credential kinds."""

from __future__ import annotations

import json
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from gateway.config.address import is_loopback, split_address
from gateway.config.quantities import Duration
from gateway.config.schema import Listener, Resource, Rule, TestCase
from gateway.config.speaks import Place, Settings
from gateway.config.values import Address, Keys
from gateway.errors import ConfigError


def _database(value: str) -> str:
    if not 1 <= len(value.encode()) <= 63 or "\0" in value:
        raise ValueError("expected the name of a database: 1 to 63 bytes")
    return value


Database = Annotated[str, AfterValidator(_database)]


class CatalogSpec(Keys):
    """How fresh the gateway's picture of the target's catalog has to be."""

    max_age: Duration = Field(default=1.0, description="Longest time between two looks at it; 0 looks before every statement.")


class PostgresResource(Resource):
    """A PostgreSQL server and the databases of it that are offered."""

    address: Address = Field(description="HOST:PORT.")
    database: Database | None = Field(default=None, description="The one database offered. Either this or `databases`.")
    databases: tuple[Database, ...] = Field(
        default=(), description="Several; `dbname` is then RESOURCE/DATABASE, and RESOURCE alone the first.")
    catalog: CatalogSpec = Field(default_factory=CatalogSpec, description="How fresh the picture of its catalog has to be.")

    @property
    def place(self) -> tuple[str, int]:
        """Host and port."""
        return split_address(self.address)

    @property
    def offered(self) -> tuple[str, ...]:
        """The databases a caller may choose from; the first is the default."""
        return self.databases or (self.database or self.name,)

    @model_validator(mode="after")
    def _databases(self) -> PostgresResource:
        if (self.database is None) == (not self.databases):
            raise ValueError("expected either `database: NAME` or `databases: [NAME, …]`")
        if len(set(self.databases)) != len(self.databases):
            raise ValueError("expected each of `databases` once")
        return self

    @model_validator(mode="after")
    def _plaintext_only_to_loopback(self) -> PostgresResource:
        if self.tls.mode == "disable" and not is_loopback(self.place[0]):
            raise ValueError("expected `tls: {mode: verify-full}`: `disable` is for targets on loopback only")
        return self


class PostgresCase(TestCase):
    """What a statement would meet."""

    sql: str = Field(description="The statement's text.")
    database: Database | None = Field(default=None, description="Out of the resource's `databases`; the first otherwise.")


def known_columns(schema: bytes) -> frozenset[str]:
    """Every column of a pulled catalog, as masks write it. Raises ``ConfigError``."""
    from gateway.protocols.postgres.catalog.offline import from_json

    try:
        catalog = from_json(json.loads(schema))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise ConfigError("not a pulled catalog") from None
    relations = catalog.user.relations
    return frozenset(f"{relation.schema}.{relation.name}.{column.name}" for relation in relations for column in relation.columns)


COUNTED = frozenset({"insert", "update", "delete", "merge"})
"""Verbs whose affected rows ``max_rows`` bounds."""


def rule_problem(rule: Rule) -> str | None:
    """A ``max_rows`` that would bound nothing."""
    named = rule.matcher[1].get("verbs")
    if rule.max_rows is not None and isinstance(named, list) and not COUNTED & set(map(str, named)):
        return f"expected `max_rows` only where `verbs` has one of {', '.join(sorted(COUNTED))}"
    return None


def destinations(resource: PostgresResource) -> tuple[Place, ...]:
    """Sessions, the catalog's reader and cancel requests all go to the one address."""
    return (resource.place,)


SETTINGS = Settings(
    protocol="postgres", listener=Listener, resource=PostgresResource, case=PostgresCase, test="sql",
    credentials=frozenset({"password", "ephemeral-role"}), later=frozenset({"certificate"}),
    destinations=destinations, columns=known_columns, rule_problem=rule_problem,
)
