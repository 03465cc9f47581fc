# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.unit.cli.demo_folder import make_demo, run

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def etc(tmp_path: Path, capsys: Capture) -> Path:
    made = make_demo(tmp_path)
    capsys.readouterr()
    return made


def add_resource(etc: Path, address: str) -> None:
    path = etc / "policy" / "resources.yaml"
    document = yaml.safe_load(path.read_text())
    document["resources"].append(
        {"name": "stats-db", "protocol": "postgres", "address": address, "database": "stats", "credential": "orders-db"})
    path.write_text(yaml.safe_dump(document))


def test_for_people(etc: Path, capsys: Capture) -> None:
    assert run("network", "--config", str(etc)) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "in   127.0.0.1:15432  postgres            loopback only"
    assert shown[2] == "out  127.0.0.1:5432   resource orders-db  127.0.0.1"
    assert shown[3].startswith("callers may come from anywhere (identity reporting has no sources): no IPAddressAllow")


def test_as_json(etc: Path, capsys: Capture) -> None:
    assert run("network", "--config", str(etc), "--json", "--client", "10.1.0.0/16") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["destinations"] == [{
        "purpose": "resource", "name": "orders-db", "host": "127.0.0.1", "port": 5432, "addresses": ["127.0.0.1"], "problem": None}]
    assert (document["clients"], document["clients_unknown"], document["problems"]) == (["10.1.0.0/16"], None, [])


def test_a_name_without_an_address_leaves_the_others_in(etc: Path, capsys: Capture) -> None:
    add_resource(etc, "db.invalid:5433")
    assert run("network", "--config", str(etc), "--format", "nft") == 1
    shown = capsys.readouterr()
    assert "add element inet lockgate targets4 { 127.0.0.1 . 5432 }\n" in shown.out
    assert "5433" not in shown.out
    assert shown.err == "lockgate: resource stats-db: has a name and no address: --resolve looks names up\n"
    assert run("network", "--config", str(etc), "--format", "nft", "--resolve") == 1
    assert "lockgate: resource stats-db: the name does not resolve (" in capsys.readouterr().err


def test_a_folder_that_serve_refuses_opens_nothing(etc: Path, tmp_path: Path, capsys: Capture) -> None:
    (etc / "policy" / "resources.yaml").write_text("resources: [{name: orders-db}]")
    where = tmp_path / "out"
    where.mkdir()
    assert run("network", "--config", str(etc), "--write", str(where)) == 2
    assert list(where.iterdir()) == []
    assert "policy/resources.yaml:1" in capsys.readouterr().out


def test_both_files_from_one_look(etc: Path, tmp_path: Path, capsys: Capture) -> None:
    add_resource(etc, "10.0.0.5:5433")
    where = tmp_path / "out"
    where.mkdir()
    words = ["--config", str(etc), "--resolve", "--client", "10.1.0.0/16", "--name-server", "10.0.0.53"]
    assert run("network", *words, "--write", str(where)) == 0
    assert capsys.readouterr().out == ""
    for name, kind in (("holes.nft", "nft"), ("service.conf", "systemd")):
        assert run("network", *words, "--format", kind) == 0
        assert (where / name).read_text() == capsys.readouterr().out
    assert sorted(path.name for path in where.iterdir()) == ["holes.nft", "names", "service.conf"]
    assert (where / "names").read_text() == ""
    assert "IPAddressAllow=10.0.0.53/32\n" in (where / "service.conf").read_text()
    assert run("network", "--config", str(etc), "--write", str(where / "missing")) == 2


def test_names_are_written_down_for_whoever_looks_them_up_again(etc: Path, tmp_path: Path) -> None:
    add_resource(etc, "db.invalid:5433")
    assert run("network", "--config", str(etc), "--write", str(tmp_path)) == 1
    assert (tmp_path / "names").read_text() == "db.invalid\n"


@pytest.mark.parametrize("option", [
    ("--client", "10.0.0.1/8"), ("--client", "fe80::1%x/128"), ("--client", "any"), ("--name-server", "dns.example"),
    ("--name-server", "fe80::1%x } ; flush ruleset")])
def test_options_are_numbers(etc: Path, option: tuple[str, str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as stopped:
        run("network", "--config", str(etc), *option)
    assert stopped.value.code == 2
    assert "expected a" in capsys.readouterr().err
