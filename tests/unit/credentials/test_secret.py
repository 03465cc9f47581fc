# SPDX-License-Identifier: Apache-2.0
"""A secret shows itself to nobody who does not ask by name."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback

import orjson
import pytest

from gateway.cli.output import to_json
from gateway.credentials import Credential, Secret
from gateway.credentials.credential import credential

VALUE = "hunter2-correct-horse"


def test_it_is_given_when_asked_for() -> None:
    assert Secret(VALUE).reveal() == VALUE


@pytest.mark.parametrize(
    "shown",
    [
        repr(Secret(VALUE)),
        str(Secret(VALUE)),
        f"{Secret(VALUE)}",
        f"{Secret(VALUE)!r}",
        f"{Secret(VALUE):>40}",
        "%s %r" % (Secret(VALUE), Secret(VALUE)),  # noqa: UP031
        "{0} {0!s}".format(Secret(VALUE)),
        repr([Secret(VALUE)]),
        repr(Credential("a", "password", "u", Secret(VALUE))),
        str(vars(type(Secret(VALUE)))),
        to_json({"secret": Secret(VALUE)}),
    ],
)
def test_no_text_shows_it(shown: str) -> None:
    assert VALUE not in shown


def test_logs_and_tracebacks(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("x").warning("%s %r", Secret(VALUE), {"a": Secret(VALUE)})
    try:
        raise ValueError(Secret(VALUE))
    except ValueError as wrong:
        text = "".join(traceback.format_exception(wrong))
    assert VALUE not in caplog.text + text


def test_it_is_not_serialised() -> None:
    secret = Secret(VALUE)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="not serialised"):
            pickle.dumps(secret, protocol)
    with pytest.raises(TypeError):
        json.dumps(secret)
    with pytest.raises(TypeError):
        orjson.dumps(secret)
    with pytest.raises(TypeError):
        vars(secret)


def test_copies_are_the_same_object() -> None:
    secret = Secret(VALUE)
    assert copy.copy(secret) is secret
    assert copy.deepcopy({"a": secret})["a"] is secret


def test_comparison() -> None:
    assert Secret(VALUE) == Secret(VALUE)
    assert Secret(VALUE) != Secret(VALUE + "x")
    assert Secret(VALUE) != VALUE
    assert len({Secret(VALUE), Secret(VALUE), Secret("x")}) == 2
    assert Secret("é") == Secret("é")
    assert not Secret("")
    assert Secret("x")


def test_credentials_name_their_secrets() -> None:
    login = credential("db", {"kind": "password", "username": "app", "password": VALUE})
    assert (login.kind, login.username, login.password.reveal()) == ("password", "app", VALUE)
    assert [secret.reveal() for secret in login.secrets()] == [VALUE]
    assert [secret.reveal() for secret in credential("hook", {"kind": "bearer", "token": VALUE}).secrets()] == [VALUE]
