# SPDX-License-Identifier: Apache-2.0
"""What all sessions on one database share: how old its catalog may be."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.protocols.postgres import targets
from gateway.protocols.postgres.catalog.model import BuiltinCatalog, Catalog, Objects
from gateway.protocols.postgres.targets import SharedTarget


class Far:
    """A target whose catalog is another one each time it is looked at."""

    def __init__(self) -> None:
        self.looks = 0

    async def query(self, sql: str, **_: Any) -> list[tuple[str]]:
        self.looks += 1
        return [(str(self.looks),)]


async def builtin_of(connection: Far) -> BuiltinCatalog:
    return BuiltinCatalog(150000, Objects())


async def load_catalog(ask: Any, builtin: BuiltinCatalog, database: str, before: Catalog | None, *, every_schema: bool) -> Catalog:
    return Catalog(str(int(before.epoch) + 1 if before else 1), 150000, database, builtin)


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> Far:
    monkeypatch.setattr(targets, "builtin_of", builtin_of)
    monkeypatch.setattr(targets, "load_catalog", load_catalog)
    return Far()


async def test_what_a_session_has_changed_nobody_goes_by_any_more(far: Far) -> None:
    async def connect() -> Any:
        return far

    shared = SharedTarget(connect, "orders", 3600.0)
    assert shared.fresh() is None
    first = await shared.catalog()
    assert await shared.catalog() is first is shared.fresh()
    assert far.looks == 1
    shared.changed()
    assert shared.fresh() is None
    second = await shared.catalog()
    assert second is not first
    assert shared.fresh() is second is await shared.catalog()
    assert far.looks == 2
