# SPDX-License-Identifier: Apache-2.0
"""Signed notes, the keys that sign them, and checkpoints with their chain of one-time keys."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from gateway.audit.checkpoint import ONCE, Signer, parse_checkpoint
from gateway.audit.note import (
    NoteError,
    key_hash,
    load_private_key,
    load_public_key,
    parse_note,
    parse_notes,
    raw_public,
    signature_line,
    verified,
)
from gateway.audit.tree import Tree, leaf_hash
from gateway.errors import ConfigError
from tests.unit.audit.log_folder import KEY, ORIGIN, PUBLIC

TIME = "2026-11-22T02:13:44.184378Z"


def note(size: int = 3) -> str:
    tree = Tree()
    for number in range(size):
        tree.append(leaf_hash(b"%d" % number))
    return Signer(ORIGIN, KEY).sign(tree, TIME)


def test_the_example_of_the_c2sp_specification() -> None:
    """signed-note.md: PeterNeumann's key and note."""
    public = base64.b64decode("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")[1:]
    assert key_hash("PeterNeumann", public).hex() == "c74f20a3"
    text = ("If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n"
            "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n")
    assert verified(parse_note(text), "PeterNeumann", public)
    assert not verified(parse_note(text.replace("answer", "ANSWER")), "PeterNeumann", public)


def test_a_checkpoint_is_signed_by_both_keys() -> None:
    parsed = parse_note(note())
    checkpoint = parse_checkpoint(parsed)
    assert (checkpoint.origin, checkpoint.size, checkpoint.time) == (ORIGIN, 3, TIME)
    assert verified(parsed, ORIGIN, PUBLIC)
    assert checkpoint.reset is not None
    assert verified(parsed, ORIGIN + ONCE, checkpoint.reset)
    assert checkpoint.text() == parsed.text


def test_each_one_time_key_signs_once() -> None:
    signer, tree = Signer(ORIGIN, KEY), Tree()
    first = parse_checkpoint(parse_note(signer.sign(tree, TIME)))
    again = parse_checkpoint(parse_note(signer.sign(tree, TIME)))
    assert first == again, "not committed yet: the same keys"
    signer.committed()
    second = parse_note(signer.sign(tree, TIME))
    assert verified(second, ORIGIN + ONCE, first.next)
    assert parse_checkpoint(second).reset is None
    assert parse_checkpoint(second).next != first.next


@pytest.mark.parametrize("broken", [
    "", "\n", "text only\n", "a\n\nnot a signature\n", "a\n\n— name !!!\n", "a\n\n— name AAAA\n", "a\n\n— name\n", "a\n\n— name AAAAAAAA",
    "x" * 70_000 + "\n\n— n AAAAAAAA\n",
])
def test_what_is_no_note(broken: str) -> None:
    with pytest.raises(NoteError):
        parse_note(broken)


@pytest.mark.parametrize(("old", "new"), [
    ("\n3\n", "\n03\n"), ("\n3\n", "\n-3\n"), ("\n3\n", "\nthree\n"), ("time 2026", "time 26"), ("next ", "last "), (ORIGIN + "\n3", "\n3"),
    ("\ntime", "\nextra line\ntime"),
])
def test_what_is_no_checkpoint(old: str, new: str) -> None:
    with pytest.raises(NoteError):
        parse_checkpoint(parse_note(note().replace(old, new, 1)))


def test_several_notes_in_a_file() -> None:
    both = parse_notes(note(3) + "\n" + note(4).replace("\n", "\r\n"))
    assert [parse_checkpoint(one).size for one in both] == [3, 4]
    with pytest.raises(NoteError):
        parse_notes("\n\n")


def test_a_signature_of_another_name_or_key_does_not_count() -> None:
    other = Ed25519PrivateKey.generate()
    parsed = parse_note("text\n\n" + signature_line("text\n", "name", other))
    assert not verified(parsed, "name", PUBLIC)
    assert not verified(parsed, "another", raw_public(other.public_key()))
    assert verified(parsed, "name", raw_public(other.public_key()))


def test_keys_are_read_in_every_usual_form(tmp_path: Path) -> None:
    public: Ed25519PublicKey = KEY.public_key()
    raw = b"\x01" + PUBLIC
    forms = {
        "private": KEY.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption()),
        "openssh": public.public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH) + b" audit@plant-a-1\n",
        "pem": public.public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo),
        "verifier": f"{ORIGIN}+{key_hash(ORIGIN, PUBLIC).hex()}+{base64.b64encode(raw).decode()}\n".encode(),
    }
    for name, data in forms.items():
        (tmp_path / name).write_bytes(data)
        assert load_public_key(tmp_path / name) == PUBLIC, name
    assert raw_public(load_private_key(tmp_path / "private").public_key()) == PUBLIC


def test_other_keys_are_refused_without_showing_them(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(generate_private_key(SECP256R1()).private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption()))
    for load in (load_private_key, load_public_key):
        with pytest.raises(ConfigError, match="Ed25519"):
            load(path)
    path.write_text("correct horse battery staple")
    with pytest.raises(ConfigError) as caught:
        load_public_key(path)
    assert "horse" not in str(caught.value)
    with pytest.raises(ConfigError, match="No such file"):
        load_public_key(tmp_path / "none")
