# SPDX-License-Identifier: Apache-2.0
"""``schema pull`` against a real server; what it saved answers ``explain`` with the server gone."""

from __future__ import annotations

import json
from pathlib import Path

from gateway.testing.appliance import Appliance
from tests.peers.postgres import PostgresServer, make_corpus_database


def test_a_pulled_schema_explains_offline(tmp_path: Path) -> None:
    appliance = Appliance(tmp_path)
    with PostgresServer() as server:
        make_corpus_database(server)
        server.execute("create table public.invoices(id int primary key, iban text)", "orders")
        appliance.prepare(server.address, "pull_app")
        server.create_role("pull_app", appliance.password, "")
        said = appliance.json("schema", "pull", "orders-db", "--json")
        assert said["database"] == "orders"
    document = json.loads((appliance.folder / "policy/schemas/orders-db.json").read_text())
    assert any(entry["name"] == "invoices" for entry in document["relations"])
    assert "pull_app" not in json.dumps(document) and appliance.password not in json.dumps(document)
    answer = appliance.json("explain", "--identity", "ci-bot", "--resource", "orders-db", "--json", "select iban from invoices")
    assert answer["effect"] == "allow"
    masked = appliance.json("explain", "--identity", "ci-bot", "--resource", "orders-db", "--json", "select ssn as x from customers")
    assert list(masked["masks"]) == ["x"]


def test_what_cannot_be_pulled_says_why(tmp_path: Path) -> None:
    appliance = Appliance(tmp_path)
    appliance.prepare("127.0.0.1:1", "pull_app")
    def wrong(*words: str) -> str:
        return str(appliance.json("schema", "pull", *words, "--json", expect=2)["error"])

    assert "reached" in wrong("orders-db") or "target" in wrong("orders-db")
    assert "orders-db" in wrong("nothing")
    assert "it offers: orders" in wrong("orders-db", "--database", "other")
