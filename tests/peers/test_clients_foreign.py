# SPDX-License-Identifier: Apache-2.0
"""node-postgres, the JDBC driver and Go's pgx, unchanged: what they print through the gateway is what they print without it."""

from __future__ import annotations

import difflib
from collections.abc import Callable

import pytest

from gateway.testing.postgres import PostgresServer
from tests.peers import foreign
from tests.peers.clients import direct
from tests.peers.gateway import Appliance

pytestmark = pytest.mark.usefixtures("shop_made_anew")

PROGRAMS = {"node": foreign.node, "java": foreign.java, "go": foreign.go}
MODES: dict[str, list[tuple[str, ...]]] = {
    "node": [()], "java": [(), ("preferQueryMode=simple",), ("autosave=always",)], "go": [()],
}


@pytest.mark.parametrize("which", ["system", "newest"])
@pytest.mark.parametrize(("name", "words"), [(name, words) for name, modes in MODES.items() for words in modes])
def test_everything(request: pytest.FixtureRequest, name: str, words: tuple[str, ...], which: str) -> None:
    server: PostgresServer = request.getfixturevalue("postgres" if which == "system" else "newest_postgres")
    gateway: Appliance = request.getfixturevalue("shop" if which == "system" else "newest_shop")
    command = PROGRAMS[name]()
    straight = foreign.run(command, "all", *words, environment=direct(server, "shop"))
    through = foreign.run(command, "all", *words, environment=gateway.client_variables("shop-app", "orders-db/shop"))
    differing = list(difflib.unified_diff(straight.splitlines(), through.splitlines(), "direct", "gateway", n=0, lineterm=""))
    assert not differing, "\n".join(differing[:40])
    assert len(straight) > 700


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_masked_and_refused(gateway: Appliance, program: Callable[[], list[str]]) -> None:
    said = foreign.run(program(), "masked", environment=gateway.client_variables())
    assert "Alice Archer" in said and "************1111" in said and "a***@example.com" in said
    assert "078-05-1120" not in said and "4111111111111111" not in said and "alice.secret" not in said
    assert "42501" in said
