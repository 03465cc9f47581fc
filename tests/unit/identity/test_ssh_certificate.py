# SPDX-License-Identifier: Apache-2.0
"""Whom an SSH certificate names is looked at as if its token were shown now: entry, key, networks, revocation, single use."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.identity.authenticate import Authenticator
from gateway.identity.certificate import CertificateRefused
from gateway.model import Identity
from tests.unit.identity.folder import IDENTITIES, ISSUERS, NOW, make_folder, new_issuers

SUB = "project:payments/api:ref:main"
HOME = "127.0.0.1"


class Door:
    """An authenticator whose policy changes after somebody was admitted."""

    def __init__(self, root: Path, **policy: Any) -> None:
        self.root, self.issuers = root, new_issuers()
        self.now(**policy)

    def now(self, **policy: Any) -> None:
        keys = {name: one.jwks() for name, one in self.issuers.items()}
        self.authenticator = Authenticator(make_folder(self.root, policy, keys))

    def robot(self, **claims: Any) -> Identity:
        token = self.issuers["ci"].mint(SUB, now=NOW, ref_protected="true", **claims)
        return replace(self.authenticator.authenticate(token, HOME, NOW), certificate="1f")

    def person(self) -> Identity:
        token = self.issuers["staff"].mint("user:dana", now=NOW, preferred_username="dana", groups=["dba"])
        return replace(self.authenticator.authenticate(token, HOME, NOW, people=True), certificate="1f")

    def refused(self, who: Identity, source: str = HOME, now: float = NOW) -> str:
        with pytest.raises(CertificateRefused) as caught:
            self.authenticator.admit_ssh_certificate(who, source, now)
        return caught.value.reason


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path)


def test_as_if_the_token_were_shown(door: Door) -> None:
    robot, person = door.robot(), door.person()
    assert door.authenticator.admit_ssh_certificate(robot, HOME, NOW) == robot
    assert door.authenticator.admit_ssh_certificate(person, "192.0.2.1", NOW) == person
    later = door.authenticator.admit_ssh_certificate(robot, HOME, NOW + 100)     # session: 8h runs from here, as with a token
    assert later == replace(robot, session_until=NOW + 100 + 8 * 3600)
    assert door.authenticator.admit_ssh_certificate(person, HOME, NOW + 100) == person     # session: token


def test_t09_the_entry_changed_or_went(door: Door) -> None:
    robot, person = door.robot(), door.person()
    door.now(identities=[{**IDENTITIES[0], "groups": ["others"]}])
    assert door.refused(robot) == "the policy no longer has what admitted ci-bot"
    assert door.authenticator.admit_ssh_certificate(person, HOME, NOW) == person
    door.now(identities=IDENTITIES[1:])
    assert door.refused(robot) == "the policy no longer has what admitted ci-bot"
    door.now(issuers=ISSUERS[:1])
    assert door.refused(person) == "the policy no longer has what admitted dana"


def test_t11_a_person_is_no_robot_and_no_robot_a_person(door: Door) -> None:
    robot, person = door.robot(), door.person()
    for other in (replace(robot, person=True), replace(robot, name="reporting"), replace(robot, entry=""), replace(robot, issuer="staff"),
                  replace(person, person=False), replace(person, issuer="ci"), replace(person, entry=robot.entry)):
        assert door.refused(other).startswith("the policy no longer has what admitted")
    assert door.refused(replace(person, name="ci-bot")) == "person 'ci-bot' has the name of an identity"


def test_t09_the_key_that_signed_went(door: Door) -> None:
    robot = door.robot()
    door.issuers["ci"].rotate()
    door.now()
    assert door.authenticator.admit_ssh_certificate(robot, HOME, NOW) == robot      # the former key is still published
    door.issuers = new_issuers() | {"staff": door.issuers["staff"]}
    door.now()
    assert door.refused(robot) == "the key that signed for ci-bot is no longer there"


def test_from_elsewhere(door: Door) -> None:
    assert door.refused(door.robot(), "192.0.2.1") == "identity ci-bot may not come from '192.0.2.1'"


@pytest.mark.parametrize("entry", [
    {"identity": "ci-bot"}, {"issuer": "ci", "subject": SUB}, {"certificate": "31"}, {"certificate": "0x1f"}, {"certificate": "1F"}])
def test_t09_revoked(door: Door, entry: dict[str, str]) -> None:
    robot = door.robot()
    door.now(revoked=[entry])
    assert "revoked" in door.refused(robot)


def test_t09_revoked_by_token_and_key(door: Door) -> None:
    robot = door.robot()
    for entry in ({"token_id": robot.token_id}, {"key_id": robot.key_id}):
        door.now(revoked=[entry])
        assert "revoked" in door.refused(robot)


def test_t07_a_token_that_counts_once_gives_a_certificate_that_counts_once(tmp_path: Path) -> None:
    door = Door(tmp_path, issuers=[{**ISSUERS[0], "single_use": True}, ISSUERS[1]])
    robot = door.robot()
    for _ in range(2):                                                          # offered, as often as one likes
        door.authenticator.admit_ssh_certificate(robot, HOME, NOW)
    asyncio.run(door.authenticator.use_ssh_certificate(robot, NOW))
    with pytest.raises(CertificateRefused) as caught:
        asyncio.run(door.authenticator.use_ssh_certificate(robot, NOW))
    assert caught.value.reason == "it was used before, and its issuer is single_use"
    asyncio.run(door.authenticator.use_ssh_certificate(replace(robot, certificate="20"), NOW))


def test_other_certificates_count_as_often_as_they_are_shown(door: Door) -> None:
    robot = door.robot()
    for _ in range(2):
        asyncio.run(door.authenticator.use_ssh_certificate(robot, NOW))
    for nobody in (replace(robot, issuer="x"), replace(robot, certificate=None)):
        with pytest.raises(CertificateRefused):
            asyncio.run(door.authenticator.use_ssh_certificate(nobody, NOW))
