#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Compares the key sets that issuers publish with those pinned in a segment's folder, and writes the new ones there for review."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
import signal
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: issuer_keys
short_description: Fetch issuers' key sets and compare them with the pinned ones
description: [Runs on the controller. Writes files of trust/ in the inventory, nothing else; never commits, never applies.]
author: [Lockgate maintainers]
options:
  folder: {description: The segment's folder in the inventory., type: path, required: true}
  sources: {description: "By issuer: url of the key set and ca, where discovery does not find them.", type: dict, default: {}}
  ca: {description: CA bundle for issuers that name none. Empty is the system's., type: path, default: ""}
  today: {description: Today., type: str, required: true}
  previous_days: {description: How long a key that is no longer published stays., type: int, default: 1}
  seconds: {description: How long one address may take., type: int, default: 15}
"""
EXAMPLES = r"""
- name: Compare
  issuer_keys: {folder: inventories/example/segments/plant-a, today: "2026-11-22"}
"""
RETURN = r"""
issuers: {description: "By issuer: status, url, and the keys that came, went, stay for a while or stayed.", type: dict, returned: always}
"""
SET_BYTES = 262_144
SET_KEYS = 64
RSA_BITS = 2048
_WORD = re.compile(r"[A-Za-z0-9_.:+-]{1,64}")
_PRIVATE = ("d", "p", "q", "dp", "dq", "qi", "oth", "k")
_MEMBERS = {"RSA": ("e", "kty", "n"), "EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x")}
_CURVES = {"P-256": 32, "P-384": 48, "P-521": 66, "secp256k1": 32, "Ed25519": 32}
_KEPT = ("kty", "use", "key_ops", "alg", "kid", "crv", "n", "e", "x", "y")
Key = dict[str, Any]


class Refused(Exception):
    """What an issuer publishes, or a file pins, must not be believed."""


class Unreachable(Exception):
    """From here, now."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """All of it in so many seconds, however the other side spreads its answer. Raises ``TimeoutError``; main thread only."""
    def over(*_: object) -> None:
        raise TimeoutError(f"no whole answer in {seconds} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def fetch(url: str, ca: str, seconds: int) -> bytes:
    """At most ``SET_BYTES`` over verified TLS in ``seconds``, redirects not followed. Raises ``Refused`` or ``Unreachable``."""
    if urlsplit(url).scheme != "https":
        raise Refused(f"{url}: keys are fetched over https only")
    context = ssl.create_default_context(cafile=ca or None)
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _NoRedirect)
    request = urllib.request.Request(url, headers={"Accept": "application/json", "User-Agent": "lockgate-jwks"})  # noqa: S310
    try:
        with within(seconds), opener.open(request, timeout=seconds) as answer:
            data: bytes = answer.read(SET_BYTES + 1)
    except urllib.error.HTTPError as error:
        with error:
            raise Refused(f"{url}: answered with status {error.code}") from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLError):
            raise Refused(f"{url}: {reason}") from None
        raise Unreachable(f"{url}: {reason}") from None
    if len(data) > SET_BYTES:
        raise Refused(f"{url}: more than {SET_BYTES} bytes")
    return data


def discovered(issuer: str, ca: str, seconds: int) -> str:
    """Where OpenID Connect discovery says the keys are. Raises ``Refused`` or ``Unreachable``."""
    url = issuer.rstrip("/") + "/.well-known/openid-configuration"
    document = loaded(fetch(url, ca, seconds), url)
    if document.get("issuer") != issuer:
        raise Refused(f"{url}: says that it is {str(document.get('issuer'))[:200]!r}, not {issuer!r}")
    if not isinstance(document.get("jwks_uri"), str):
        raise Refused(f"{url}: has no jwks_uri")
    return str(document["jwks_uri"])


def loaded(data: bytes, where: str) -> dict[str, Any]:
    """A JSON object without twice the same name. Raises ``Refused``."""
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) != len(pairs):
            raise ValueError("a name is there twice")
        return dict(pairs)

    try:
        document = json.loads(data, object_pairs_hook=once)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise Refused(f"{where}: expected a JSON object")
    return document


def keys_in(data: bytes, where: str) -> list[Key]:
    """The keys for signatures, with the members that matter. Raises ``Refused`` for a set that a gateway would refuse."""
    entries = loaded(data, where).get("keys")
    if not isinstance(entries, list) or len(entries) > SET_KEYS:
        raise Refused(f"{where}: expected `keys`, a list of at most {SET_KEYS}")
    keys = [key for number, entry in enumerate(entries, 1) if (key := _key(entry, f"{where}: key {number}"))]
    if not keys:
        raise Refused(f"{where}: no key for signatures")
    named = [(key["kid"], key.get("alg")) for key in keys if "kid" in key]
    if len(set(named)) != len(named):
        raise Refused(f"{where}: two keys have one kid")
    return keys


def _key(entry: Any, where: str) -> Key | None:
    """``None`` for a key that is not for signatures or of a kind that gateways do not use."""
    if not isinstance(entry, dict) or not isinstance(entry.get("kty"), str):
        raise Refused(f"{where}: expected an object with a string `kty`")
    if entry["kty"] == "oct":
        raise Refused(f"{where}: a symmetric key")
    if any(name in entry for name in _PRIVATE):
        raise Refused(f"{where}: a private key")
    if not isinstance(entry.get("kid", "x"), str) or not entry.get("kid", "x"):
        raise Refused(f"{where}: kid must be a string that is not empty")
    if not all(_WORD.fullmatch(str(entry.get(name, "x"))) for name in ("alg", "crv", "use")):
        raise Refused(f"{where}: alg, crv or use is no word")  # people compare keys line by line: nothing adds a line
    operations = entry.get("key_ops", ["verify"])
    if entry["kty"] not in _MEMBERS or entry.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return None
    if entry["kty"] != "RSA" and entry.get("crv") not in _CURVES:
        return None
    _strong(entry, where)
    return {name: entry[name] for name in (*_KEPT, "retired") if name in entry}


def _strong(entry: Key, where: str) -> None:
    numbers = {name: _bytes(entry.get(name), f"{where}: {name}") for name in _MEMBERS[entry["kty"]] if name not in ("kty", "crv")}
    if entry["kty"] == "RSA":
        bits, exponent = int.from_bytes(numbers["n"]).bit_length(), int.from_bytes(numbers["e"])
        if bits < RSA_BITS or exponent < 3 or not exponent & 1:
            raise Refused(f"{where}: RSA with {bits} bits and exponent {exponent}; at least {RSA_BITS} bits and an odd exponent are needed")
    elif any(len(number) != _CURVES[entry["crv"]] for number in numbers.values()):
        raise Refused(f"{where}: not a point of {entry['crv']}")


def _bytes(value: Any, where: str) -> bytes:
    try:
        return base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise Refused(f"{where}: expected base64url") from None


def thumbprint(key: Key) -> str:
    """RFC 7638, SHA-256, hexadecimal."""
    members = {name: key[name] for name in _MEMBERS[key["kty"]]}
    return hashlib.sha256(json.dumps(members, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def merged(published: list[Key], pinned: list[Key], today: str, previous_days: int) -> list[Key]:
    """What to pin: all that is published (current, next, whatever the issuer still shows), and for a while what it no longer shows.

    The day a key was first missed stands in it as ``retired``. A key whose kid now names another is dropped at once.
    """
    new = [{name: value for name, value in key.items() if name != "retired"} for key in published]
    known, names = {thumbprint(key) for key in new}, {key["kid"] for key in new if "kid" in key}
    for key in pinned:
        since = key.get("retired", today)
        if thumbprint(key) in known or key.get("kid") in names or _days(since, today) >= previous_days:
            continue
        new.append({**key, "retired": since})
    return new


def _days(since: Any, today: str) -> int:
    try:
        return (date.fromisoformat(today) - date.fromisoformat(str(since))).days
    except ValueError:
        return 2**31


def line(key: Key) -> str:
    """One key as people compare it."""
    what = " ".join([key["kty"], *([str(key["crv"])] if "crv" in key else []), *([str(key["alg"])] if "alg" in key else [])])
    since = f"  no longer published since {key['retired']}" if "retired" in key else ""
    return f"{thumbprint(key)}  {what}  kid {json.dumps(key.get('kid', ''))}{since}"


def issuers_in(folder: Path) -> list[dict[str, Any]]:
    """Those with a pinned key set. Raises ``Refused``."""
    found = []
    for path in sorted((folder / "policy").rglob("*.yaml")):
        if path.relative_to(folder / "policy").parts[0] in ("tests", "schemas"):
            continue
        try:
            document = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise Refused(f"{path}: cannot be read ({type(error).__name__})") from None
        found += [issuer for issuer in (document or {}).get("issuers") or [] if issuer.get("jwks")]
    return found


def pinned_file(folder: Path, name: str) -> Path:
    """A path under trust/, and really there. Raises ``Refused``."""
    path, trust = folder / name, (folder / "trust").resolve()
    if path.is_symlink() or trust not in path.resolve().parents:
        raise Refused(f"{name}: pinned keys are files under trust/")
    return path


def written(path: Path, keys: list[Key]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps({"keys": keys}, indent=2) + "\n", encoding="utf-8")
    partial.chmod(0o644)
    partial.replace(path)


def compared(issuer: dict[str, Any], given: dict[str, Any], write: bool) -> dict[str, Any]:
    """One issuer. Raises ``Refused`` or ``Unreachable``."""
    source = given["sources"].get(issuer["name"], {})
    ca, seconds = source.get("ca") or given["ca"], given["seconds"]
    path = pinned_file(Path(given["folder"]), str(issuer["jwks"]))
    url = source.get("url") or discovered(str(issuer["issuer"]), ca, seconds)
    published = keys_in(fetch(url, ca, seconds), url)
    pinned = keys_in(path.read_bytes(), str(path)) if path.exists() else []
    new = merged(published, pinned, given["today"], given["previous_days"])
    before, after = [line(key) for key in pinned], [line(key) for key in new]
    old, now = {thumbprint(key) for key in pinned}, {thumbprint(key) for key in new}
    changed = sorted(before) != sorted(after)
    if changed and write:
        written(path, new)
    return {"status": "changed" if changed else "same", "url": url, "file": str(issuer["jwks"]), "came": sorted(now - old),
            "went": sorted(old - now), "before": before, "after": after}


def main() -> None:
    module = AnsibleModule(supports_check_mode=True, argument_spec={
        "folder": {"type": "path", "required": True},
        "sources": {"type": "dict", "default": {}},
        "ca": {"type": "path", "default": ""},
        "today": {"type": "str", "required": True},
        "previous_days": {"type": "int", "default": 1},
        "seconds": {"type": "int", "default": 15},
    })
    seen: dict[str, dict[str, Any]] = {}
    os.umask(0o022)
    try:
        issuers = issuers_in(Path(module.params["folder"]))
    except Refused as wrong:
        module.fail_json(msg=str(wrong))
    for issuer in issuers:
        try:
            seen[issuer["name"]] = compared(issuer, module.params, not module.check_mode)
        except Unreachable as wrong:
            seen[issuer["name"]] = {"status": "unreachable", "why": str(wrong)}
        except (Refused, OSError) as wrong:
            seen[issuer["name"]] = {"status": "refused", "why": str(wrong)}
    diff = [{"before_header": one["file"], "after_header": one["file"], "before": "".join(f"{key}\n" for key in one["before"]),
             "after": "".join(f"{key}\n" for key in one["after"])} for one in seen.values() if one["status"] == "changed"]
    module.exit_json(changed=bool(diff), issuers=seen, diff=diff)


if __name__ == "__main__":
    main()
