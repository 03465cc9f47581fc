# SPDX-License-Identifier: Apache-2.0
"""Every message: what is encoded is parsed again; every cut or stretched payload is the sender's fault, never another exception."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ClientFault, TargetFault
from gateway.protocols.postgres import messages as m

FRONTEND: Sequence[m.FrontendMessage] = [
    m.Password(b"secret\0"),
    m.Query("select 'ü'"),
    m.Parse("s", "select $1", (23, 4_000_000_000)),
    m.Parse("", ""),
    m.Bind("p", "s", (0, 1), (b"1", None), (1,)),
    m.Bind("", ""),
    m.Describe("S", "s"),
    m.Describe("P", ""),
    m.Execute("p", 5),
    m.Close("S", "s"),
    m.Sync(),
    m.Flush(),
    m.Terminate(),
    m.CopyData(b"1\t2\n"),
    m.CopyDone(),
    m.CopyFail("no"),
    m.FunctionCall(b"\0"),
]
BACKEND: Sequence[m.BackendMessage] = [
    m.Authentication(0),
    m.Authentication(10, b"SCRAM-SHA-256\0\0"),
    m.ParameterStatus("TimeZone", "UTC"),
    m.BackendKeyData(7, b"abcd"),
    m.BackendKeyData(7, b"k" * 256),
    m.NegotiateProtocolVersion(196610, ("_pq_.x",)),
    m.ReadyForQuery("T"),
    m.RowDescription(()),
    m.RowDescription((m.Field("ssn", 16385, 4, 25, -1, -1, 0), m.Field("x", 0, 0, 23, 4, -1, 1), m.Field("ctid", 16385, -1, 27, 6, -1, 0))),
    m.DataRow((b"1", None, b"")),
    m.CommandComplete("INSERT 0 5"),
    m.PARSE_COMPLETE,
    m.BIND_COMPLETE,
    m.CLOSE_COMPLETE,
    m.NO_DATA,
    m.PORTAL_SUSPENDED,
    m.EMPTY_QUERY_RESPONSE,
    m.COPY_DONE,
    m.ParameterDescription((25, 16400)),
    m.CopyResponse("G", 0, (0, 0)),
    m.CopyResponse("H", 1, ()),
    m.CopyData(b"x"),
    m.Notification(9, "channel", "payload"),
    m.ErrorResponse({"S": "FEHLER", "V": "ERROR", "C": "42P01", "M": "relation"}),
    m.ErrorResponse({"S": "NOTICE", "V": "NOTICE", "C": "00000", "M": "done"}, notice=True),
]
STARTUP: Sequence[m.StartupPacket] = [
    m.Startup({"user": "u", "database": "d", "options": "-c a=b"}),
    m.Startup({}, 2),
    m.SslRequest(),
    m.GssEncRequest(),
    m.CancelRequest(-5, b"\0\1\2\3"),
    m.CancelRequest(5, b"k" * 256),
]


@pytest.mark.parametrize("message", FRONTEND, ids=repr)
def test_frontend_messages_come_back(message: m.FrontendMessage) -> None:
    wire = message.encode()
    assert int.from_bytes(wire[1:5], "big") == len(wire) - 1
    assert m.parse_frontend(wire[0], wire[5:]) == message


@pytest.mark.parametrize("message", BACKEND, ids=repr)
def test_backend_messages_come_back(message: m.BackendMessage) -> None:
    wire = message.encode()
    assert int.from_bytes(wire[1:5], "big") == len(wire) - 1
    assert m.parse_backend(wire[0], wire[5:]) == message


@pytest.mark.parametrize("packet", STARTUP, ids=repr)
def test_startup_packets_come_back(packet: m.StartupPacket) -> None:
    wire = packet.encode()
    assert int.from_bytes(wire[:4], "big") == len(wire)
    assert m.parse_startup(wire[4:]) == packet


OPAQUE = "pdFR"


@pytest.mark.parametrize("message", [one for one in FRONTEND if chr(one.encode()[0]) not in OPAQUE], ids=repr)
def test_a_cut_or_stretched_frontend_message_is_the_callers_fault(message: m.FrontendMessage) -> None:
    payload = message.encode()[5:]
    for wrong in [payload[:end] for end in range(len(payload))] + [payload + b"\0"]:
        with pytest.raises(ClientFault):
            m.parse_frontend(message.encode()[0], wrong)


@pytest.mark.parametrize("message", [one for one in BACKEND if chr(one.encode()[0]) not in "dRK"], ids=repr)
def test_a_cut_or_stretched_backend_message_is_the_targets_fault(message: m.BackendMessage) -> None:
    payload = message.encode()[5:]
    for wrong in [payload[:end] for end in range(len(payload))] + [payload + b"\0"]:
        with pytest.raises(TargetFault):
            m.parse_backend(message.encode()[0], wrong)


@given(st.integers(0, 255), st.binary(max_size=200))
def test_random_bytes_raise_nothing_else(kind: int, payload: bytes) -> None:
    for parse, fault in ((m.parse_frontend, ClientFault), (m.parse_backend, TargetFault)):
        with suppress(fault):
            parse(kind, payload)


@given(st.binary(max_size=200))
def test_random_startup_packets_raise_nothing_else(packet: bytes) -> None:
    with suppress(ClientFault):
        m.parse_startup(packet)


def test_a_count_of_65535_values_allocates_nothing() -> None:
    with pytest.raises(ClientFault):
        m.parse_frontend(ord("B"), b"\0\0\0\0\xff\xff")


def test_a_field_of_length_minus_two() -> None:
    with pytest.raises(TargetFault):
        m.parse_backend(ord("D"), b"\0\1\xff\xff\xff\xfe")


def test_more_columns_than_postgresql_has() -> None:
    column = b"\0" * 19
    assert len(m.parse_row_description((1600).to_bytes(2, "big") + column * 1600).fields) == 1600
    with pytest.raises(TargetFault, match="columns"):
        m.parse_row_description((1665).to_bytes(2, "big") + column * 1665)


@pytest.mark.parametrize(
    "fields",
    [
        b"",
        b"SERROR\0Mx\0",
        b"SERROR\0C42P0\0Mx\0",
        b"SERROR\0C42p01\0Mx\0",
        b"C42P01\0Mx\0",
        b"SERROR\0C42P01\0",
        b"SERROR\0C42P01\0Mx\0My\0",
    ],
)
def test_an_error_without_sqlstate_severity_or_message(fields: bytes) -> None:
    with pytest.raises(TargetFault):
        m.parse_error(fields + b"\0")


def test_unknown_types_are_refused() -> None:
    assert frozenset(b"pQPBDECSHXdcfF") == m.FRONTEND_TYPES
    for kind in set(range(256)) - m.FRONTEND_TYPES:
        with pytest.raises(ClientFault):
            m.parse_frontend(kind, b"")
    for kind in set(range(256)) - m.BACKEND_TYPES:
        with pytest.raises(TargetFault):
            m.parse_backend(kind, b"")
    assert not m.BACKEND_TYPES & frozenset(b"WV")


def test_text_that_is_not_utf8() -> None:
    with pytest.raises(ClientFault) as caught:
        m.parse_frontend(ord("Q"), b"select '\x83\x5c'\0")
    assert caught.value.code == "22021"


def test_a_query_with_a_nul_inside() -> None:
    with pytest.raises(ClientFault):
        m.parse_frontend(ord("Q"), b"select 1\0; drop table t\0")


def test_a_startup_parameter_given_twice() -> None:
    body = (196608).to_bytes(4, "big") + b"user\0a\0user\0b\0\0"
    with pytest.raises(ClientFault, match="twice"):
        m.parse_startup(body)


def test_too_many_startup_parameters() -> None:
    body = (196608).to_bytes(4, "big") + b"".join(b"p%d\0x\0" % i for i in range(65)) + b"\0"
    with pytest.raises(ClientFault):
        m.parse_startup(body)


@pytest.mark.parametrize("code", [0, 131072, 196608 + 65536, 80877105])
def test_other_protocols(code: int) -> None:
    with pytest.raises(ClientFault) as caught:
        m.parse_startup(code.to_bytes(4, "big") + b"\0")
    assert caught.value.code == "0A000"


def test_secrets_are_not_in_a_repr() -> None:
    shown = repr([m.Password(b"hunter2\0"), m.BackendKeyData(1, b"hunt"), m.CancelRequest(1, b"hunt"), m.Authentication(5, b"hunt")])
    assert "hunt" not in shown


def test_own_errors_carry_no_nul() -> None:
    wire = m.error("a\0b", "42501", hint="h").encode()
    parsed = m.parse_backend(wire[0], wire[5:])
    assert isinstance(parsed, m.ErrorResponse)
    assert parsed.fields == {"S": "ERROR", "V": "ERROR", "C": "42501", "M": "a\ufffdb", "H": "h"}


@pytest.mark.parametrize(("tag", "rows"), [("INSERT 0 5", 5), ("SELECT 3", 3), ("BEGIN", 0), ("COPY 7", 7), ("", 0), ("DELETE ²", 0)])
def test_rows_of_a_tag(tag: str, rows: int) -> None:
    assert m.CommandComplete(tag).rows == rows


def test_formats_of_parameters() -> None:
    assert m.Bind("", "", (), (b"", b"")).format_of(1) == 0
    assert m.Bind("", "", (1,), (b"", b"")).format_of(1) == 1
    assert m.Bind("", "", (0, 1), (b"", b"")).format_of(1) == 1
    with pytest.raises(ClientFault):
        wire = m.Bind("", "", (0, 1, 1), (b"", b"")).encode()
        m.parse_frontend(wire[0], wire[5:])
