# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config import speaks
from gateway.config.address import split_address
from gateway.config.load import load_folder
from gateway.network.plan import callers, destinations, doors
from tests.unit.cli.demo_folder import make_demo


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    return make_demo(tmp_path)


def edit(path: Path, change: Any) -> None:
    document = yaml.safe_load(path.read_text())
    change(document)
    path.write_text(yaml.safe_dump(document))


def with_sources(document: dict[str, Any]) -> None:
    document["identities"][1]["sources"] = ["10.2.0.0/16"]


def test_listeners_and_resources(etc: Path) -> None:
    folder = load_folder(etc)
    assert [(door.name, door.port, door.loopback) for door in doors(folder)] == [("postgres", 15432, True), ("console", 19443, True)]
    assert [(to.purpose, to.name, to.host, to.port) for to in destinations(folder)] == [("resource", "orders-db", "127.0.0.1", 5432)]


def test_every_server_of_a_cluster(etc: Path) -> None:
    edit(etc / "policy" / "resources.yaml", lambda document: document["resources"][0].update(address=["127.0.0.1:5432", "[::1]:5433"]))
    assert [(to.name, to.host, to.port) for to in destinations(load_folder(etc))] == [
        ("orders-db", "127.0.0.1", 5432), ("orders-db", "::1", 5433)]


def test_keys_and_the_webhook_are_destinations_too(etc: Path) -> None:
    def fetch(document: dict[str, Any]) -> None:
        del document["issuers"][0]["jwks"]
        document["issuers"][0]["jwks_url"] = "https://ci.example/keys"

    edit(etc / "policy" / "identities.yaml", fetch)
    edit(etc / "gateway.yaml", lambda document: document.update(notify={"webhook": {"url": "https://[fd00::9]:8443/hook"}}))
    found = destinations(load_folder(etc))
    assert [(to.purpose, to.name, to.host, to.port) for to in found[1:]] == [
        ("keys", "ci", "ci.example", 443), ("webhook", "webhook", "fd00::9", 8443)]


def test_every_protocol_says_where_its_resources_are() -> None:
    for found in speaks.every():
        assert callable(found.destinations), found.protocol


def test_callers_are_the_sources_where_everybody_has_some(etc: Path) -> None:
    assert callers(load_folder(etc), ()).why == "identity reporting has no sources"
    edit(etc / "policy" / "identities.yaml", with_sources)
    assert callers(load_folder(etc), ()).networks == tuple(map(ip_network, ("10.2.0.0/16", "127.0.0.0/8", "::1/128")))


def test_a_group_in_a_claim_has_no_sources(etc: Path) -> None:
    edit(etc / "policy" / "identities.yaml", with_sources)
    edit(etc / "policy" / "grants" / "ci-bot.yaml", lambda document: document["grants"][0].update(to=["group:robots"]))
    assert callers(load_folder(etc), ()).why == "a grant names a group that tokens of issuer staff may carry"


def test_people_at_a_console_that_others_reach_have_no_sources(etc: Path) -> None:
    edit(etc / "policy" / "identities.yaml", with_sources)
    edit(etc / "gateway.yaml", lambda document: document["listeners"]["console"].update(address="0.0.0.0:19443"))
    assert callers(load_folder(etc), ()).why == "people come to the console from anywhere"


def test_what_the_operator_says_counts(etc: Path) -> None:
    told = [ip_network("10.9.0.0/16"), ip_network("10.9.0.0/16"), ip_network("10.8.0.0/16")]
    assert callers(load_folder(etc), told).networks == (ip_network("10.8.0.0/16"), ip_network("10.9.0.0/16"))


@pytest.mark.parametrize("scope", ["} ; flush ruleset ; #", "eth0\n", "", "a" * 16, "x y"])
def test_the_scope_of_an_address_is_the_name_of_an_interface(scope: str) -> None:
    assert split_address("[fe80::1%eth0.5]:5432") == ("fe80::1%eth0.5", 5432)
    with pytest.raises(ValueError, match="expected HOST:PORT"):
        split_address(f"[fe80::1%{scope}]:5432")
