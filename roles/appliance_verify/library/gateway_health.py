#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Looks whether the gateway on this host works as it should, and changes nothing. Each check gives what is wrong, in words."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: gateway_health
short_description: What is wrong with the gateway on this host
description: [Readiness, policy, clock, certificates, disk, units, listening sockets and the audit log. Reads only.]
author: [Lockgate maintainers]
options:
  command: {description: The program., type: list, elements: str, default: [/usr/local/bin/lockgate]}
  config: {description: The gateway's folder., type: path, default: /etc/lockgate}
  policy: {description: The digest that the policy has to have. Empty does not compare., type: str, default: ""}
  now: {description: "The controller's time, in seconds since 1970. 0 does not compare.", type: float, default: 0}
  clock_seconds: {description: How far the clocks may differ., type: float, default: 30}
  synchronised:
    description: Whether the clock has to be synchronised; in a container, whether one of the host's time servers has to agree with it.
    type: bool
    default: true
  certificate_days: {description: How long the listeners' certificates have to be good at least., type: int, default: 21}
  free: {description: "Least free share of each of these file systems, in percent.", type: dict, default: {}}
  ports: {description: "What may listen beside the gateway, as tcp/22.", type: list, elements: str, default: []}
  units: {description: Units that have to be active., type: list, elements: str, default: [lockgate.service]}
  anchor: {description: Signed notes that the audit log has to agree with., type: str, default: ""}
  skip: {description: Checks that are left out., type: list, elements: str, default: []}
"""
EXAMPLES = r"""
- name: Look
  gateway_health: {policy: "sha256:…"}
"""
RETURN = r"""
problems: {description: What is wrong., type: list, returned: always}
checks: {description: "By check: what was seen.", type: dict, returned: always}
"""
PLAIN = {"LC_ALL": "C.UTF-8", "PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "SYSTEMD_PAGER": ""}
_STEPS = (2_000, 50_000, 1_000_000, 2**62)
Given = dict[str, Any]
Found = tuple[Any, list[str]]


class Failed(Exception):
    """A check could not look. In words for the operator."""


def call(*words: str, accept: tuple[int, ...] = (0,), fds: tuple[int, ...] = ()) -> str:
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, env=PLAIN, pass_fds=fds)
    if done.returncode not in accept:
        raise Failed(f"{' '.join(words[:4])}: exit status {done.returncode}: {(done.stderr or done.stdout).strip()[-1000:]}")
    return done.stdout


def lockgate(given: Given, *words: str, accept: tuple[int, ...] = (0,), fds: tuple[int, ...] = ()) -> str:
    verbs = 2 if words[0] == "audit" else 1
    return call(*given["command"], *words[:verbs], "--config", given["config"], *words[verbs:], accept=accept, fds=fds)


def folder(given: Given) -> Given:
    """What ``lockgate check`` says of the folder. Raises ``Failed``."""
    document: Given = json.loads(lockgate(given, "check", "--json", accept=(0, 2)))
    if not document["valid"]:
        raise Failed(f"the folder is not valid: {document['error'][:1000]}")
    return document


# --- the checks ---

def units(given: Given) -> Found:
    listed = call("systemctl", "list-units", "--state=failed", "--plain", "--no-legend", "--full")
    failed = [line.split()[0] for line in listed.splitlines()]
    states = {unit: call("systemctl", "is-active", unit, accept=(0, 3, 4)).strip() for unit in given["units"]}
    wrong = [f"{unit} failed" for unit in failed] + [f"{unit} is {state}" for unit, state in states.items() if state != "active"]
    return {"failed": failed, **states}, wrong


def ready(given: Given) -> Found:
    address = folder(given)["listeners"].get("console")
    if address is None:
        return None, ["the gateway has no console, nobody can ask whether it is ready"]
    status, said = ask(local(address), certificate(given), "/readyz")
    return said, [] if status == 200 else [f"/readyz answers {status}: {said[:200]}"]


def policy(given: Given) -> Found:
    """Three that have to be one: what the inventory holds, what is in the folder, and what is in force."""
    there, live = folder(given)["policy"], in_force(given)
    wrong = []
    if given["policy"] and there != given["policy"]:
        wrong.append(f"the folder holds another policy than the inventory: {there}, not {given['policy']}")
    if live != there:
        wrong.append(f"the policy in force is {live or 'unknown'}, the folder holds {there}: reload, and look why it was not")
    return {"folder": there, "in force": live}, wrong


def clock(given: Given) -> Found:
    behind = round(given["now"] - time.time(), 1) if given["now"] else 0.0
    wrong = []
    if abs(behind) > given["clock_seconds"]:
        wrong.append(f"the clock is {abs(behind):g} s {'behind' if behind > 0 else 'ahead of'} the controller's")
    if contained():
        heard, problems = servers(given)
        return {"behind": behind, "servers": heard}, wrong + (problems if given["synchronised"] else [])
    synchronised = call("timedatectl", "show", "--property", "NTPSynchronized", "--value").strip()
    if given["synchronised"] and synchronised != "yes":
        wrong.append("the clock is not synchronised")
    return {"behind": behind, "synchronised": synchronised}, wrong


def servers(given: Given) -> tuple[dict[str, str], list[str]]:
    """A container's clock is its machine's, and it sets none: what its own time servers say of it. One that agrees is enough."""
    named = re.findall(r"(?m)^NTP=(.*)$", call("systemd-analyze", "cat-config", "systemd/timesyncd.conf"))
    heard = {server: told(server) for server in (named[-1].split() if named else [])}
    if any(isinstance(one, float) and abs(one) <= given["clock_seconds"] for one in heard.values()):
        problems = []
    else:
        problems = ["the clock is the machine's, and no time server of this host agrees with it: "
                    + ("; ".join(f"{server}: {said(one)}" for server, one in heard.items()) or "none is named")]
    return {server: said(one) for server, one in heard.items()}, problems


def certificates(given: Given) -> Found:
    """What the console shows, and how long it is good."""
    address = folder(given)["listeners"].get("console")
    if address is None:
        return None, []
    path = certificate(given)
    try:
        shown = peer(local(address), path)
    except ssl.SSLCertVerificationError as error:
        return None, [f"the certificate in {path} is not the one that is served, or not good now: {error.verify_message}"]
    days = int((ssl.cert_time_to_seconds(shown["notAfter"]) - time.time()) // 86_400)
    return {"days": days, "until": shown["notAfter"]}, [f"the certificate ends in {days} days"] if days < given["certificate_days"] else []


def disk(given: Given) -> Found:
    wanted = {path: float(least) for path, least in given["free"].items() if Path(path).exists()}
    found = {path: round(100 * (usage := shutil.disk_usage(path)).free / usage.total, 1) for path in wanted}
    return found, [f"{path} has {free:g} % free, {wanted[path]:g} % are wanted" for path, free in found.items() if free < wanted[path]]


def listeners(given: Given) -> Found:
    """Open ports are the gateway's and those that are named, and the gateway's are open."""
    wanted = {f"tcp/{address.rpartition(':')[2]}": name for name, address in folder(given)["listeners"].items()}
    found = sorted(set(sockets(call("ss", "-Hlntu"))))
    open_ = {f"{kind}/{port}" for kind, _, port in found}
    outside = sorted({f"{kind}/{port}" for kind, address, port in found if not loopback(address)} - set(wanted) - set(given["ports"]))
    wrong = [f"{port} listens and is nobody's" for port in outside]
    wrong += [f"{port} ({name}) does not listen" for port, name in wanted.items() if port not in open_]
    return [f"{kind} {address}:{port}" for kind, address, port in found], wrong


def audit(given: Given) -> Found:
    note = os.memfd_create("anchor", 0)
    try:
        os.write(note, given["anchor"].encode())
        words = ["--anchor", f"/proc/self/fd/{note}"] if given["anchor"] else []
        document = json.loads(lockgate(given, "audit", "verify", "--json", *words, accept=(0, 1, 2), fds=(note,)))
    finally:
        os.close(note)
    if "verdict" not in document:  # it could not begin: such as with an anchor that none of its keys signed
        raise Failed(f"audit verify gave no verdict: {document.get('error', '')}")
    seen = {"verdict": document["verdict"], "origins": document["origins"]}
    if document["verdict"] == "intact":
        return seen, []
    what = [f"{one['origin']}:{one['seq']} {one['what']}" for one in document["findings"]] + document["incomplete"]
    return seen, [f"the audit log is {document['verdict']}: {'; '.join(what)[:1000]}"]


CHECKS: dict[str, Callable[[Given], Found]] = {
    "units": units, "ready": ready, "policy": policy, "clock": clock, "certificates": certificates, "disk": disk, "listeners": listeners,
    "audit": audit}


# --- what they ask ---

def contained() -> bool:
    return subprocess.run(["systemd-detect-virt", "--container", "--quiet"], check=False, env=PLAIN).returncode == 0


def told(server: str, port: int = 123, seconds: float = 3.0) -> float | str:
    """How far an NTP server's time is ahead of this host's, in seconds; or, in words, why it does not say (RFC 5905, section 14)."""
    nonce = os.urandom(8)
    try:
        family, kind, _, _, place = socket.getaddrinfo(server, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as asked:
            asked.settimeout(seconds)
            asked.connect(place)
            sent = time.time()
            asked.send(struct.pack("!B39x8s", 4 << 3 | 3, nonce))
            answer, came = asked.recv(512), time.time()
    except OSError as error:
        return str(error) or type(error).__name__
    if len(answer) < 48 or answer[0] & 7 != 4 or answer[24:32] != nonce:
        return "no answer to this question"
    if answer[0] >> 6 == 3 or not 0 < answer[1] < 16:
        return "it is not synchronised itself"
    received, transmitted = (float(whole - 2_208_988_800 + part / 2**32) for whole, part in struct.iter_unpack("!II", answer[32:48]))
    return ((received - sent) + (transmitted - came)) / 2


def said(one: float | str) -> str:
    return f"{one:+.3f} s" if isinstance(one, float) else one


def certificate(given: Given) -> str:
    """The chain that the console's listener serves: ``tls/gateway.crt`` unless gateway.yaml names another."""
    text = (Path(given["config"]) / "gateway.yaml").read_text(encoding="utf-8")
    named = re.search(r"(?ms)(?:^\s+|\blisteners:[^\n]*)\bconsole:.*?certificate:\s*[\"']?([^\s\"',}]+)", text)
    return str(Path(given["config"]) / (named[1] if named else "tls/gateway.crt"))


def local(address: str) -> tuple[str, int]:
    """Where this host reaches a listener of its own."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), int(port)  # noqa: S104


def pinned(path: str) -> ssl.SSLContext:
    """Trusts the certificate in the folder itself, whoever signed it and whatever names it has."""
    context = ssl.create_default_context(cafile=path)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.check_hostname = False
    return context


def ask(address: tuple[str, int], path: str, what: str) -> tuple[int, str]:
    try:
        connection = http.client.HTTPSConnection(*address, timeout=10, context=pinned(path))
        connection.request("GET", what)
        answer = connection.getresponse()
        return answer.status, answer.read(65_536).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise Failed(f"the console at {address[0]}:{address[1]} cannot be asked: {error}") from None


def peer(address: tuple[str, int], path: str) -> dict[str, Any]:
    with socket.create_connection(address, 10) as plain, pinned(path).wrap_socket(plain) as secured:
        return dict(secured.getpeercert() or {})


def in_force(given: Given) -> str:
    """The digest of the newest record that says which policy was loaded."""
    notes = [json.loads(line) for line in lockgate(given, "audit", "head", "--json").splitlines()]
    sizes = {note["origin"]: int(note["note"].split("\n")[1]) for note in notes}
    for step in _STEPS:
        after = [word for origin, size in sizes.items() for word in ("--since", f"{origin}:{max(size - step, 0)}")]
        if digest := newest_digest(given, after):
            return digest
        if step >= max(sizes.values(), default=0):
            break
    return ""


def newest_digest(given: Given, after: list[str]) -> str:
    found = ""
    command = [*given["command"], "audit", "export", "--config", given["config"], *after]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=PLAIN) as export:
        assert export.stdout is not None
        for line in export.stdout:
            if b'"kind":"policy.loaded"' in line:
                found = str(json.loads(line).get("policy", ""))
    return found


def sockets(text: str) -> Iterator[tuple[str, str, str]]:
    """(tcp or udp, address, port) of each line of ``ss -Hlntu``."""
    for line in text.splitlines():
        kind, _, _, _, here, *_ = line.split()
        address, _, port = here.rpartition(":")
        yield kind, address.partition("%")[0].strip("[]"), port


def loopback(address: str) -> bool:
    return address.startswith("127.") or address in ("::1", "::ffff:127.0.0.1")


def main() -> None:
    module = AnsibleModule(supports_check_mode=True, argument_spec={
        "command": {"type": "list", "elements": "str", "default": ["/usr/local/bin/lockgate"]},
        "config": {"type": "path", "default": "/etc/lockgate"},
        "policy": {"type": "str", "default": ""},
        "now": {"type": "float", "default": 0},
        "clock_seconds": {"type": "float", "default": 30},
        "synchronised": {"type": "bool", "default": True},
        "certificate_days": {"type": "int", "default": 21},
        "free": {"type": "dict", "default": {}},
        "ports": {"type": "list", "elements": "str", "default": []},
        "units": {"type": "list", "elements": "str", "default": ["lockgate.service"]},
        "anchor": {"type": "str", "default": ""},
        "skip": {"type": "list", "elements": "str", "default": []},
    })
    seen: dict[str, Any] = {}
    problems: list[str] = []
    for name, check in CHECKS.items():
        if name in module.params["skip"]:
            continue
        try:
            seen[name], wrong = check(module.params)
        except (Failed, OSError, ValueError, KeyError, TypeError) as error:
            seen[name], wrong = None, [str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}"]
        problems += [f"{name}: {one}" for one in wrong]
    module.exit_json(changed=False, problems=problems, checks=seen)


if __name__ == "__main__":
    main()
