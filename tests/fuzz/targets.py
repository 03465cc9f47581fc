# SPDX-License-Identifier: Apache-2.0
"""What is fuzzed, with the seeds to start from. A target takes bytes; an exception that leaves it, a crash or a hang is a find."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from gateway.config.document import read_document
from gateway.errors import ClientFault, TargetFault
from gateway.identity.token import TokenRefused, open_token
from gateway.protocols.postgres import messages
from gateway.protocols.postgres.codec import FrameReader, RunReader, frame
from gateway.protocols.postgres.sql.analyze import analyze
from gateway.protocols.postgres.statement import Context, SqlFault
from tests.fuzz import files, lane, masked, masks, ssh, streams, twins
from tests.unit.audit import test_record_twins

ROOT = Path(__file__).parents[2]
_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class Target:
    """One way in. ``seeds`` are inputs that get deep."""

    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]


# --- framing: however the bytes are cut, the same messages come out ---


def framing(data: bytes) -> None:
    """The first byte says where to cut the rest."""
    if not data:
        return
    cut, stream = data[0], data[1:]
    assert _frames(stream, len(stream) or 1) == _frames(stream, cut % 17 + 1)
    assert _runs(stream, len(stream) or 1) == _runs(stream, cut % 17 + 1)


def _frames(stream: bytes, step: int) -> tuple[list[tuple[int, bytes]], bool]:
    reader = FrameReader(_LIMIT)
    found: list[tuple[int, bytes]] = []
    try:
        for at in range(0, len(stream), step):
            reader.feed(stream[at:at + step])
            found.extend(reader)
    except ClientFault:
        return found, True
    assert sum(5 + len(payload) for _, payload in found) + reader.pending == len(stream)
    return found, False


def _runs(stream: bytes, step: int) -> tuple[bytes, int, bool]:
    reader = RunReader(_LIMIT)
    given, count = b"", 0
    try:
        for at in range(0, len(stream), step):
            reader.feed(stream[at:at + step])
            for _, block, messages_in in reader:
                given += block
                count += messages_in
    except TargetFault:
        assert stream.startswith(given)
        return given, count, True
    assert given + reader.remainder() == stream
    return given, count, False


def _framing_seeds() -> Iterable[bytes]:
    yield b"\x03" + frame(b"Q", b"select 1\0") + frame(b"X", b"")
    yield b"\x05" + frame(b"D", b"\0\x01\0\0\0\x01a") * 3 + frame(b"C", b"SELECT 3\0") + frame(b"Z", b"I")
    extended = ((b"P", b"\0select $1\0\0\0"), (b"B", b"\0\0\0\0\0\x01\0\0\0\x011\0\0"), (b"E", b"\0\0\0\0\0"), (b"S", b""))
    yield b"\x01" + b"".join(frame(kind, payload) for kind, payload in extended)


# --- messages: what is understood is written back as it came ---


def frontend_message(data: bytes) -> None:
    """The first byte is the message's type."""
    if data:
        _round_trip(messages.parse_frontend, data)


def backend_message(data: bytes) -> None:
    if data:
        _round_trip(messages.parse_backend, data)


def _round_trip(parse: Callable[[int, bytes], messages.Message], data: bytes) -> None:
    try:
        message = parse(data[0], data[1:])
    except (ClientFault, TargetFault):
        return
    written = message.encode()
    again = parse(written[0], written[5:])
    assert again.encode() == written


def startup_packet(data: bytes) -> None:
    try:
        packet = messages.parse_startup(data)
    except ClientFault:
        return
    assert messages.parse_startup(packet.encode()[4:]) == packet


def _startup_seeds() -> Iterable[bytes]:
    yield b"\0\x03\0\0user\0ci\0database\0orders-db\0options\0-c search_path=public\0\0"
    yield (80877103).to_bytes(4, "big")
    yield (80877102).to_bytes(4, "big") + bytes(8)


def _message_seeds(stream_seeds: Callable[[], Iterable[bytes]]) -> Iterable[bytes]:
    for stream in stream_seeds():
        reader = FrameReader(_LIMIT)
        reader.feed(stream[1:])
        for kind, payload in reader:
            yield bytes([kind]) + payload


# --- SQL: a statement or a fault with an SQLSTATE ---


def sql(data: bytes) -> None:
    text = data.decode("utf-8", "ignore").replace("\0", "")
    try:
        statements = analyze(text, Context(path=("pg_catalog", "public"), user="ci"), masked.catalog())
    except SqlFault as fault:
        assert len(fault.code) == 5
        return
    for statement in statements:
        assert 0 <= statement.start <= statement.end <= len(text)
        assert statement.operations or statement.verb == "empty"


def _sql_seeds() -> Iterable[bytes]:
    for line in (ROOT / "tests" / "corpus" / "postgres.jsonl").read_text().splitlines():
        text = json.loads(line).get("sql")
        yield from (part.encode() for part in ([text] if isinstance(text, str) else text or []))


# --- records: the compiled encoder and the pure one ---


def records(data: bytes) -> None:
    """Bytes as Hypothesis's choices."""
    for compared in (test_record_twins.test_the_same_records, test_record_twins.test_the_same_outcomes):
        compared.hypothesis.fuzz_one_input(data)    # type: ignore[attr-defined]


def _record_seeds() -> Iterable[bytes]:
    for byte in (0, 1, 7, 128, 255):
        yield bytes([byte]) * 64
        yield bytes((byte + 37 * place) % 256 for place in range(256))


# --- tokens and files ---


def token(data: bytes) -> None:
    try:
        open_token(data.decode("utf-8", "replace"))
    except TokenRefused as refused:
        assert data.decode("utf-8", "replace")[:200] not in str(refused) or len(data) < 8


def _token_seeds() -> Iterable[bytes]:
    def part(value: object) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    claims = {"iss": "https://ci", "sub": "x", "aud": ["a"], "exp": 1, "iat": 0}
    yield part({"alg": "ES256", "kid": "1"}) + b"." + part(claims) + b"." + b"A" * 86
    yield part({"alg": "none"}) + b"." + part({}) + b"."


def configuration(data: bytes) -> None:
    document = read_document("fuzz.yaml", data)
    if not document.problems:
        json.dumps(document.value)


def _configuration_seeds() -> Iterable[bytes]:
    for path in sorted((ROOT / "appliance" / "gateway" / "config" / "demo").rglob("*.yaml")):
        yield path.read_bytes()
    yield b"a: &x [1, 0x1f, .inf, ~, 'q', !!str b]\nb: *x\n? c\n: - d\n"


TARGETS = {
    "framing": Target(framing, _framing_seeds),
    "frontend": Target(frontend_message, lambda: _message_seeds(_framing_seeds)),
    "backend": Target(backend_message, lambda: _message_seeds(_framing_seeds)),
    "startup": Target(startup_packet, _startup_seeds),
    "sql": Target(sql, _sql_seeds),
    "copy": Target(masked.copy_rows, masked.copy_seeds),
    "rows": Target(masked.data_rows, masked.row_seeds),
    "copy-csv": Target(masked.copy_csv, masked.csv_seeds),
    "copy-binary": Target(masked.copy_binary, masked.binary_seeds),
    "masks": Target(masks.any_value, masks.value_seeds),
    "documents": Target(masks.documents, masks.document_seeds),
    "stream": Target(streams.any_stream, streams.stream_seeds),
    "lane": Target(lane.conversation, lane.seeds),
    "lane-bytes": Target(twins.lane_bytes, twins.lane_byte_seeds),
    "walk": Target(twins.walk, twins.walk_seeds),
    "answer": Target(twins.answer, twins.answer_seeds),
    "tree": Target(twins.tree, twins.tree_seeds),
    "kernels": Target(twins.kernels, twins.kernel_seeds),
    "candidates": Target(twins.candidates, twins.candidate_seeds),
    "records": Target(records, _record_seeds),
    "sftp-requests": Target(files.requests, files.request_seeds),
    "sftp-answers": Target(files.answers, files.answer_seeds),
    "sftp-plans": Target(files.plans, files.plan_seeds),
    "scp": Target(files.scp, files.scp_seeds),
    "ssh-words": Target(ssh.commands, ssh.command_seeds),
    "ssh-paths": Target(ssh.paths, ssh.path_seeds),
    "ssh-typed": Target(ssh.typed, ssh.typed_seeds),
    "token": Target(token, _token_seeds),
    "configuration": Target(configuration, _configuration_seeds),
}
