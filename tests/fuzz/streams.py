# SPDX-License-Identifier: Apache-2.0
"""``masking/stream.py``: one output for every way to cut a stream, no secret in it, also where time runs out anywhere."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.masking.detect import NAMES
from gateway.masking.model import MaskSet
from gateway.masking.rules import REDACT
from gateway.masking.spotters import LIMIT
from gateway.masking.stream import Plan, StreamMasker

SECRETS = (b"correct-horse-battery", b"horsefly", b"aaaa")
PLAN = Plan(SECRETS, MaskSet(detect={**dict.fromkeys(NAMES, REDACT), "employee": REDACT}, patterns={"employee": "EMP-[0-9]{6}"}))


def any_stream(data: bytes) -> None:
    """The first byte says how the rest is cut, the second after which pieces time runs out."""
    if len(data) < 2:
        return
    size, every, stream = data[0] % 29 + 1, data[1] % 5 + 1, data[2:]
    parts = [stream[at:at + size] for at in range(0, len(stream), size)]
    whole = _masked([stream], 0)
    assert _masked(parts, 0) == whole
    for shown in (whole, _masked(parts, every)):
        assert not any(secret in shown for secret in SECRETS)


def _masked(parts: list[bytes], every: int) -> bytes:
    masker = StreamMasker(PLAN, 0.02)
    out = []
    for turn, part in enumerate(parts, 1):
        out.append(masker.feed(part))
        if every and turn % every == 0:
            out.append(masker.due())
        assert len(masker._text) < 3 * LIMIT
    return b"".join([*out, masker.end()])


def stream_seeds() -> Iterable[bytes]:
    for head in (b"\x00\x00", b"\x06\x01"):
        yield head + b"x correct-horse-battery, AKIAIOSFODNN7EXAMPLE 4111 1111 1111 1111 EMP-123456\n"
        yield head + b"-----BEGIN OPENSSH PRIVATE KEY-----\r\nQUJD\r\n-----END OPENSSH PRIVATE KEY-----\r\n$ "
        yield head + b"eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJyb2JvdCJ9.c2ln horsehorsefly aaaaaa d4111111111111111e0123456789abcdef"
