# SPDX-License-Identifier: Apache-2.0
"""Who may own and write the folder and what is above it, who may read keys."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.config.modes import Guard, Trusted, files, trusted
from tests.unit.config.folder import Demo

STRANGER = 54321


def guard() -> Guard:
    return Guard(Trusted(frozenset({0, os.geteuid()}), frozenset()))


def give_away(path: Path) -> Guard:
    """A guard in whose eyes ``path`` belongs to somebody else: really so for root, who alone can give files away."""
    if os.geteuid() == 0:
        os.chown(path, STRANGER, STRANGER, follow_symlinks=False)
        return guard()
    return Guard(Trusted(frozenset({0}), frozenset()))


def test_the_demo_folder(demo: Demo) -> None:
    assert demo.problems(check_modes=True) == []


@pytest.mark.parametrize("mode", [0o666, 0o664, 0o602, 0o620])
def test_a_file_that_others_can_write(mode: int, demo: Demo) -> None:
    demo.file("policy/masks.yaml").chmod(mode)
    problem = demo.only_problem(check_modes=True)
    assert problem.startswith("policy/masks.yaml: expected ")
    assert f"not to be writable by others (mode {mode:04o})" in problem


@pytest.mark.parametrize("name", ["policy", "policy/grants", "credentials", "tls", "trust", "."])
def test_a_folder_that_others_can_write(name: str, demo: Demo) -> None:
    demo.file(name).chmod(0o770)
    assert any("not to be writable by others" in problem for problem in demo.problems(check_modes=True))


def test_a_parent_that_others_can_write(demo: Demo) -> None:
    demo.path.parent.chmod(0o777)
    assert demo.problems(check_modes=True)[0].startswith(f".: expected {demo.path.parent} not to be writable by others")
    assert demo.problems(check_modes=False) == []


def test_a_sticky_parent_is_safe_when_what_follows_is_ours(demo: Demo) -> None:
    demo.path.parent.chmod(0o1777)
    assert demo.problems(check_modes=True) == []


def test_a_sticky_parent_is_not_safe_when_what_follows_is_a_strangers(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o1777)
    (tmp_path / "open" / "etc").mkdir(0o755)
    found = give_away(tmp_path / "open" / "etc").complaint(tmp_path / "open" / "etc")
    assert found is not None
    assert "belong" in found


def test_a_strangers_link_in_a_sticky_folder(tmp_path: Path) -> None:
    """The link is what an attacker can put there; where it leads to may well be ours."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o1777)
    (tmp_path / "ours").write_text("x")
    link = tmp_path / "open" / "link"
    link.symlink_to(tmp_path / "ours")
    assert guard().complaint(link) is None
    if os.geteuid() == 0:
        assert "belong" in (give_away(link).complaint(link) or "")


def test_a_strangers_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("")
    found = give_away(path).complaint(path)
    assert found is not None
    assert "to belong to" in found


def test_links_are_followed_and_their_ends_looked_at(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_text("")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "up").symlink_to("real/../link/file")
    assert guard().complaint(tmp_path / "link" / "file") is None
    assert guard().complaint(tmp_path / "up") is None
    (tmp_path / "real").chmod(0o777)
    assert "writable by others" in (guard().complaint(tmp_path / "link" / "file") or "")
    assert "writable by others" in (guard().complaint(tmp_path / "up") or "")


def test_links_that_go_round(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert "symbolic links" in (guard().complaint(tmp_path / "a") or "")


def test_a_link_to_nothing(demo: Demo) -> None:
    demo.file("trust/gone").symlink_to("nowhere")
    assert "trust/gone: expected" in demo.only_problem(check_modes=True)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("credentials/orders-db.yaml", 0o644),
        ("credentials/orders-db.yaml", 0o640),
        ("tls/gateway.key", 0o604),
        ("tls/audit_ed25519_key", 0o640),
        ("tls/ca.key", 0o644),
        ("demo/ci.jwk.json", 0o644),
        ("credentials", 0o755),
    ],
)
def test_what_others_may_not_read(name: str, mode: int, demo: Demo) -> None:
    demo.file(name).chmod(mode)
    problems = demo.problems(check_modes=True)
    assert any(problem.startswith(f"{name}: expected") and "not to be readable by others" in problem for problem in problems)


def test_keys_that_lie_elsewhere(demo: Demo) -> None:
    key = demo.path.parent / "gateway.key"
    key.write_bytes(demo.file("tls/gateway.key").read_bytes())
    key.chmod(0o644)
    demo.replace("gateway.yaml", "key: tls/gateway.key", "key: ../gateway.key")
    assert demo.only_problem(check_modes=True).startswith("gateway.yaml:6: listeners.postgres.tls.key: expected")


def test_a_state_folder_that_others_can_write(demo: Demo) -> None:
    (demo.path.parent / "state").mkdir()
    (demo.path.parent / "state").chmod(0o777)
    assert demo.only_problem(check_modes=True).startswith("gateway.yaml:3: state: expected")


def test_roots_file_may_be_readable_by_the_services_group(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("")
    path.chmod(0o640)
    info = path.stat()
    assert Guard(Trusted(frozenset({0}), frozenset())).readable(path) is not None
    shared = Guard(Trusted(frozenset({0}), frozenset({info.st_gid}))).readable(path)
    assert (shared is None) == (info.st_uid == 0)


def test_trusted_are_root_and_who_runs_this() -> None:
    assert {0, os.geteuid()} <= trusted().users
    assert 0 not in trusted().groups or os.geteuid() != 0


def test_files(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_text("")
    (tmp_path / "l").symlink_to("a")
    assert sorted(path.name for path in files(tmp_path)) == ["a", "b", "l"]
