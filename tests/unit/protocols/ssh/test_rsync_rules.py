# SPDX-License-Identifier: Apache-2.0
"""rsync's filter rules: those that would make the target read a file are refused, however the bytes arrive (T50)."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Refused
from gateway.protocols.ssh.rsync_rules import RsyncRules

VERSION = (31).to_bytes(4, "little")
PULL = "rsync --server --sender -re.iLsfxCIvu . /srv/app/"
PLAIN, NEGOTIATES = b"\x7f", b"\x81\xff"
SUMS, PACKS = b"\x04md5 ", b"\x81\x02" + b"z" * 258


def rule(text: bytes) -> bytes:
    return len(text).to_bytes(4, "little") + text


def framed(*pieces: bytes) -> bytes:
    return b"".join(len(piece).to_bytes(3, "little") + b"\x07" + piece for piece in pieces)


END = rule(b"")


def passed(caller: bytes, *, command: str = PULL, flags: bytes = PLAIN, step: int = 1 << 20) -> bytes:
    rules = RsyncRules(shlex.split(command))
    target = VERSION + flags + b"anything else"
    out = b"".join(rules.from_caller(caller[at:at + step]) for at in range(0, len(caller), step))
    return out + b"".join(rules.from_target(target[at:at + step]) for at in range(0, len(target), step))


@pytest.mark.parametrize("step", [1, 3, 1 << 20])
@pytest.mark.parametrize(("command", "flags", "caller"), [
    (PULL, PLAIN, VERSION + END),
    (PULL, PLAIN, VERSION + rule(b"- *.o") + rule(b"+,! x y") + rule(b"!") + rule(b"P_keep") + rule(b"-/ /srv") + END + b"files"),
    (PULL, NEGOTIATES, VERSION + SUMS + framed(rule(b"- a")[:3], rule(b"- a")[3:] + END) + b"\x01\0\0\x09m"),
    (PULL.replace("-r", "-zr"), NEGOTIATES, VERSION + SUMS + PACKS + END),
    (PULL.replace("-r", "-zr"), PLAIN, VERSION + END),
    (PULL.replace(" .", " --checksum-choice=md5 ."), NEGOTIATES, VERSION + framed(END) + b": etc"),
    (PULL.replace(" .", " --new-compress ."), NEGOTIATES, VERSION + SUMS + END),
    ("rsync --server -re.iLsfxCIvu . /srv/app/", PLAIN, b"anything: no rules are read"),
    ("rsync --server -re.iLsfxCIvu --delete-missing-args . /srv/app/", PLAIN, b"anything"),
    ("rsync --server -re.iLsfxCIvu --delete . /srv/app/", PLAIN, VERSION + framed(rule(b"- .git") + END)),
])
def test_what_clients_send_passes(command: str, flags: bytes, caller: bytes, step: int) -> None:
    assert passed(caller, command=command, flags=flags, step=step) == caller


@pytest.mark.parametrize("step", [1, 1 << 20])
@pytest.mark.parametrize("text", [
    b". /etc/shadow", b".- /etc/shadow", b": ../../etc/shadow", b":n- link", b"merge /etc/shadow", b"dir-merge .x", b": /.rsync-filter",
    b":C", b"-C", b"exclude x", b" . x", b"\n. x"])
@pytest.mark.parametrize("command", [PULL, "rsync --server -re.iLsfxCIvu --delete-excluded . /srv/app/",
                                     "rsync --server -mre.iLsfxCIvu . /srv/app/"])
def test_a_rule_that_reads_a_file_is_refused_and_nothing_of_it_passes_t50(command: str, text: bytes, step: int) -> None:
    for wire in (rule(text) + END, framed(rule(text) + END), framed(*(bytes((byte,)) for byte in rule(b"- x") + rule(text) + END))):
        rules = RsyncRules(shlex.split(command))
        assert rules.from_target(VERSION + PLAIN) == b""
        out = b""
        with pytest.raises(Refused):
            for at in range(0, len(VERSION + wire), step):
                out += rules.from_caller((VERSION + wire)[at:at + step])
        assert out in (b"", VERSION)
        assert not rules.done


@pytest.mark.parametrize(("command", "flags", "caller"), [
    (PULL, PLAIN, (29).to_bytes(4, "little") + END),                                    # other rules, another form
    (PULL.replace("e.iLsfxCIvu", "e.iLsfxCIVu"), PLAIN, VERSION + END),                 # flags of one byte
    (PULL.replace("-r", "-zzr"), NEGOTIATES, VERSION),
    (PULL.replace(" .", " --compress-level=3 ."), NEGOTIATES, VERSION),
    (PULL.replace(" .", " --checksum-choice=auto ."), NEGOTIATES, VERSION),
    (PULL, PLAIN, VERSION + b"\xff\xff\xff\x06"), (PULL, PLAIN, VERSION + b"\x01\0\0\x09m"),
    (PULL, PLAIN, VERSION + framed(b"\x05") + b"\x01\0\0\x09m"), (PULL, b"\xff", VERSION + END),
    (PULL, PLAIN, VERSION + rule(b"- " + b"x" * 1000) * 1100),
])
def test_what_cannot_be_followed_is_refused(command: str, flags: bytes, caller: bytes) -> None:
    with pytest.raises(Refused):
        passed(caller, command=command, flags=flags)


def test_nothing_but_the_version_passes_before_the_target_has_spoken() -> None:
    rules = RsyncRules(shlex.split(PULL))
    assert rules.from_caller(VERSION + rule(b"- x") + END + b"more") == VERSION
    assert rules.from_target(VERSION[:2]) == rules.from_target(VERSION[2:]) == b""
    assert rules.from_target(PLAIN) == rule(b"- x") + END + b"more"
    assert rules.from_caller(b"later") == b"later"


@given(st.binary(max_size=200), st.integers(1, 9), st.sampled_from([PLAIN, NEGOTIATES]))
def test_the_same_passes_however_it_arrives(tail: bytes, step: int, flags: bytes) -> None:
    def outcome(size: int) -> bytes | str:
        try:
            return passed(VERSION + tail, flags=flags, step=size)
        except Refused as no:
            return str(no)

    assert outcome(step) == outcome(1 << 20)
