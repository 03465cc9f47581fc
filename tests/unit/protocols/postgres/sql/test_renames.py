# SPDX-License-Identifier: Apache-2.0
"""What takes a column from its name, or gives its rows away, is a sink of the column's values."""

from __future__ import annotations

import pytest

from tests.unit.protocols.postgres.sql.shop import SSN, one

TAKEN = """
alter table customers rename column ssn to x
alter table customers rename ssn to x
alter table customers rename to x
alter table if exists customers rename to x
alter table customers set schema alt
alter schema public rename to x
alter view customer_v rename column national_id to x
alter view customer_v rename to x
alter view customer_v set schema alt
alter materialized view kept rename to x
alter materialized view kept rename column n to x
alter index customers rename to x
alter index if exists public.customer_v rename to x
create trigger t before insert on customers for each row execute function fired()
create rule r as on insert to customers do instead nothing
""".strip().splitlines()
PARTED = [("alter table staff no inherit people", ("public", "people", "ssn")),
          ("alter table people detach partition staff", ("public", "people", "ssn")),
          ("alter table badges alter column tail drop expression", ("public", "badges", "code"))]
UNTOLD = """
alter extension hstore add table customers
alter extension hstore add function lower(int)
alter extension hstore set schema alt
alter type orders rename attribute id to x cascade
alter function looks_good(text) immutable
alter routine looks_good(text) strict stable
""".strip().splitlines()
KEPT = """
alter table customers rename column name to x
alter table customers rename constraint a to b
alter table orders rename to x
alter table orders set schema alt
alter table customers add column x text
alter table if exists nosuch rename to x
alter schema alt rename to x
alter index orders rename to x
alter function looks_good(text) strict
alter view customer_v rename column id to x
""".strip().splitlines()


@pytest.mark.parametrize("text", TAKEN)
def test_what_takes_it_is_a_sink(text: str) -> None:
    assert any(SSN in sink.flow.origins for sink in one(text).sinks)


@pytest.mark.parametrize(("text", "origin"), PARTED)
def test_a_mask_of_the_parent_is_not_left_behind(text: str, origin: tuple[str, str, str]) -> None:
    assert any(origin in sink.flow.origins for sink in one(text).sinks)


@pytest.mark.parametrize("text", UNTOLD)
def test_t30_where_it_cannot_be_told_anything_may_flow(text: str) -> None:
    assert any(sink.flow.unknown for sink in one(text).sinks)


@pytest.mark.parametrize("text", KEPT)
def test_nothing_else_is(text: str) -> None:
    assert not any(SSN in sink.flow.origins or sink.flow.unknown for sink in one(text).sinks)
