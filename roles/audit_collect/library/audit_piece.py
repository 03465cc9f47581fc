#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Reads the audit log of the gateway on this host, through its own program, and changes nothing."""

from __future__ import annotations

import base64
import json
import os
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: audit_piece
short_description: Read the audit log of a gateway
description: [Heads, public keys, the gateway's own verdict, or the next records of the log. Reads only.]
author: [Lockgate maintainers]
options:
  read: {description: What to read., type: str, required: true, choices: [state, records]}
  command: {description: The program., type: list, elements: str, default: [/usr/local/bin/lockgate]}
  config: {description: The gateway's folder., type: path, default: /etc/lockgate}
  keys: {description: "Files of keys that sign the log; of private ones the public half is given.", type: list, elements: path, default: []}
  anchor: {description: Signed notes kept elsewhere that the log has to agree with., type: str, default: ""}
  since: {description: Last record held of each origin., type: dict, default: {}}
  limit: {description: About how many bytes of records to give., type: int, default: 8388608}
"""
EXAMPLES = r"""
- name: Read what is new
  audit_piece: {read: records, since: {plant-a-1: 1210}}
"""
RETURN = r"""
heads: {description: The newest signed note of each origin., type: dict, returned: read is state}
keys: {description: Public keys as OpenSSH writes them., type: list, returned: read is state}
verdict: {description: What `audit verify --json` said., type: dict, returned: read is state}
status: {description: "Its exit status: 0 intact, 1 tampered, 2 incomplete.", type: int, returned: read is state}
records: {description: "JSON lines, compressed with zlib, in base64.", type: str, returned: read is records}
more: {description: Whether the log goes on., type: bool, returned: read is records}
"""
PLAIN = {"LC_ALL": "C.UTF-8", "PATH": "/usr/local/bin:/usr/bin:/bin"}


class Failed(Exception):
    """In words for the operator."""


def call(words: list[str], accept: tuple[int, ...] = (0,), fds: tuple[int, ...] = ()) -> tuple[int, str]:
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, pass_fds=fds, env=PLAIN)
    if done.returncode not in accept:
        raise Failed(f"{' '.join(words)}: exit status {done.returncode}: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.returncode, done.stdout


def verdict(program: list[str], config: str, anchor: str) -> tuple[int, dict[str, Any]]:
    """Exit status and document of ``audit verify``. The anchor stays in memory: a file could be left behind."""
    words = [*program, "audit", "verify", "--config", config, "--json"]
    if not anchor:
        status, said = call(words, (0, 1, 2))
    else:
        note = os.memfd_create("anchor", 0)
        try:
            os.write(note, anchor.encode())
            status, said = call([*words, "--anchor", f"/proc/self/fd/{note}"], (0, 1, 2), (note,))
        finally:
            os.close(note)
    try:
        document = json.loads(said)
    except ValueError:
        raise Failed(f"audit verify gave no verdict (exit status {status})") from None
    if "verdict" not in document:  # it could not begin: such as with an anchor that none of its keys signed
        raise Failed(f"audit verify gave no verdict: {document.get('error', status)}")
    return status, document


def heads(program: list[str], config: str) -> dict[str, str]:
    _, said = call([*program, "audit", "head", "--config", config, "--json"])
    notes = [json.loads(line) for line in said.splitlines()]
    return {note["origin"]: note["note"] for note in notes}


def public_key(path: str) -> str:
    """``ssh-ed25519 BASE64`` of a public key file, or of an OpenSSH private key, whose public half is not encrypted. Raises ``Failed``."""
    try:
        text = Path(path).read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise Failed(f"{path}: cannot be read ({type(error).__name__})") from None
    if text.startswith("ssh-ed25519 "):
        return " ".join(text.split()[:2])
    try:
        blob = base64.b64decode("".join(text.splitlines()[1:-1]), validate=True)
        return f"ssh-ed25519 {base64.b64encode(_public_half(blob)).decode()}"
    except (ValueError, struct.error):
        raise Failed(f"{path}: expected an OpenSSH Ed25519 key") from None


def _public_half(blob: bytes) -> bytes:
    """Of the openssh-key-v1 format: magic, cipher, key derivation, its options, number of keys, public key."""
    magic = b"openssh-key-v1\0"
    if not blob.startswith(magic):
        raise ValueError("not an OpenSSH private key")
    at = len(magic)
    for _ in range(3):
        at += 4 + struct.unpack_from(">I", blob, at)[0]
    at += 4
    length = struct.unpack_from(">I", blob, at)[0]
    return blob[at + 4:at + 4 + length]


def records(program: list[str], config: str, since: dict[str, int], limit: int) -> tuple[bytes, bool]:
    """The next lines of the export, whole ones, and whether there are more. Raises ``Failed``."""
    after = [word for origin, seq in sorted(since.items()) for word in ("--since", f"{origin}:{int(seq)}")]
    words = [*program, "audit", "export", "--config", config, *after]
    found: list[bytes] = []
    size = 0
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=PLAIN) as export:
        assert export.stdout is not None and export.stderr is not None
        for line in export.stdout:
            found.append(line)
            size += len(line)
            if size >= limit:
                export.kill()
                return b"".join(found), True
        said = export.stderr.read()
        status = export.wait()
    if status != 0 or (found and not found[-1].endswith(b"\n")):
        raise Failed(f"audit export: exit status {status}: {said.decode(errors='replace').strip()[-2000:]}")
    return b"".join(found), False


def main() -> None:
    module = AnsibleModule(supports_check_mode=True, argument_spec={
        "read": {"type": "str", "required": True, "choices": ["state", "records"]},
        "command": {"type": "list", "elements": "str", "default": ["/usr/local/bin/lockgate"]},
        "config": {"type": "path", "default": "/etc/lockgate"},
        "keys": {"type": "list", "elements": "path", "default": [], "no_log": False},
        "anchor": {"type": "str", "default": ""},
        "since": {"type": "dict", "default": {}},
        "limit": {"type": "int", "default": 8388608},
    })
    given = module.params
    try:
        if given["read"] == "records":
            piece, more = records(given["command"], given["config"], given["since"], given["limit"])
            module.exit_json(changed=False, records=base64.b64encode(zlib.compress(piece, 6)).decode(), more=more)
        notes = heads(given["command"], given["config"])
        status, document = verdict(given["command"], given["config"], given["anchor"])
        public = [public_key(path) for path in given["keys"] if Path(path).exists()]
        module.exit_json(changed=False, heads=notes, status=status, verdict=document, keys=public)
    except (Failed, OSError, ValueError, KeyError) as wrong:
        module.fail_json(msg=str(wrong))


if __name__ == "__main__":
    main()
