# SPDX-License-Identifier: Apache-2.0
"""The gateway's AppArmor profile: what it has to name, and what it must not. Each row says which code of whom opens the file.

The kernel's own answer is asked by ``tests/vm`` and the parser's by ``molecule/gateway``: here is why a rule is there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from jinja2 import Environment

TEMPLATE = Path(__file__).parents[3] / "roles/gateway/templates/etc/apparmor.d/lockgate.j2"
VARIABLES = {"@{run}": "/{var/,}run", "@{PROC}": "/proc", "@{sys}": "/sys", "@{multiarch}": "*-linux-gnu*", "@{pid}": "[0-9]*"}
NEEDED = {
    # getaddrinfo(3), whatever nsswitch.conf says
    "/etc/nsswitch.conf": "r", "/etc/hosts": "r", "/etc/host.conf": "r", "/etc/resolv.conf": "r", "/etc/gai.conf": "r",
    "/etc/services": "r",
    "/run/systemd/resolve/resolv.conf": "r", "/run/systemd/resolve/stub-resolv.conf": "r", "/run/resolvconf/resolv.conf": "r",
    "/run/NetworkManager/resolv.conf": "r", "/run/systemd/resolve/io.systemd.Resolve": "rw",
    "/usr/lib/x86_64-linux-gnu/libnss_dns.so.2": "mr", "/usr/lib/aarch64-linux-gnu/libnss_resolve.so.2": "mr",
    "/etc/passwd": "r", "/etc/group": "r",
    # OpenSSL, for a webhook or a key set without a bundle of its own; a link in certs/ leads to either of the other two
    "/etc/ssl/openssl.cnf": "r", "/etc/ssl/certs/ca-certificates.crt": "r", "/etc/ssl/certs/": "r",
    "/usr/share/ca-certificates/mozilla/ISRG_Root_X1.crt": "r", "/usr/local/share/ca-certificates/plant.crt": "r",
    "/usr/lib/x86_64-linux-gnu/ossl-modules/legacy.so": "mr", "/etc/mime.types": "r",
    # zoneinfo for windows in rules; setlocale(3) and strerror(3) where the host has another language
    "/usr/share/zoneinfo/Europe/Vienna": "r", "/etc/localtime": "r", "/usr/lib/locale/C.utf8/LC_CTYPE": "r", "/etc/locale.alias": "r",
    "/usr/share/locale/de/LC_MESSAGES/libc.mo": "r",
    # policy, trust (known_hosts too), TLS and SSH keys in memory, credentials
    "/var/lib/lockgate-config/releases/0123456789abcdef/trust/known_hosts": "r", "/run/lockgate-credentials/tls.ssh_host_ed25519_key": "r",
    "/run/lockgate-credentials/credentials.web-1.key": "r",
    # the log, recordings, the index with what SQLite puts aside for it, verdicts
    "/var/lib/lockgate/audit/1.db-shm": "rwk", "/var/lib/lockgate/recordings/1": "rwk", "/var/lib/lockgate/index/index.db": "rwk",
    "/var/tmp/etilqs_0a1b2c3d": "rw", "/tmp/etilqs_0a1b2c3d": "rw", "/tmp/juun5ux4": "rw", "/tmp/tmpdh4lsa0t": "rw",
    "/run/lockgate/serving.json": "rwk",
    # Python, workers and the process for long texts
    "/usr/bin/python3.13": "mrix", "/opt/lockgate/releases/0.1.0/lib/python3.13/site-packages/uvloop/loop.abi3.so": "mr",
    "/proc/4711/attr/apparmor/current": "r", "/run/systemd/notify": "w",
}  # fmt: skip
REFUSED = {
    "/etc/shadow": "r", "/root/.ssh/id_ed25519": "r", "/etc/ssl/private/host.key": "r", "/etc/ssh/ssh_host_ed25519_key": "r",
    "/home/ops/.ssh/config": "r", "/nonexistent/.ssh/known_hosts": "r", "/var/lib/lockgate-credentials/tls.gateway.key.cred": "r",
    "/var/lib/lockgate-config/releases/0123456789abcdef/gateway.yaml": "w", "/var/lib/lockgate-console/audit/1.db": "w",
    "/opt/lockgate/releases/0.1.0/bin/lockgate": "w", "/proc/1/environ": "r", "/proc/4711/mem": "r", "/proc/sys/kernel/core_pattern": "w",
    "/run/dbus/system_bus_socket": "rw", "/run/systemd/private": "rw", "/tmp/a-program": "rw", "/usr/bin/dash": "ix",
    "/usr/sbin/ldconfig": "ix", "/usr/bin/x86_64-linux-gnu-gcc-12": "ix",
    "/usr/bin/ssh": "ix", "/dev/mem": "r", "/dev/ptmx": "rw",
}  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """A line about a file: its pattern and what it gives."""

    pattern: re.Pattern[str]
    gives: frozenset[str]


def rendered(abi4: bool) -> str:
    text = TEMPLATE.read_text()
    about = {"ansible_managed": "made by a test", "__gateway_abi": {"stat": {"exists": abi4}}}
    environment = Environment(trim_blocks=True, keep_trailing_newline=True)
    environment.filters["ternary"] = lambda value, yes, no: yes if value else no
    return environment.from_string(text).render(about)


def parts() -> tuple[str, str]:
    """The lines of the gateway's profile, and of the one inside."""
    text = rendered(abi4=True)
    before, _, rest = text.partition("  profile sandboxed ")
    inner, _, after = rest.partition("\n  }\n")
    return before + after, inner


def rules(text: str) -> Iterator[Rule]:
    for line in text.splitlines():
        found = re.fullmatch(r" +(owner )?([/@][^ ]*) ([a-z]+),", line)
        if found is not None:
            yield Rule(expression(found[2]), frozenset(found[3].replace("ix", "i")))


def expression(pattern: str) -> re.Pattern[str]:
    """A pattern of apparmor.d(5) as a regular expression."""
    for name, value in VARIABLES.items():
        pattern = pattern.replace(name, value)
    assert "@{" not in pattern, pattern
    words = {"**": ".*", "*": "[^/]*", "?": "[^/]", "{": "(?:", "}": ")", ",": "|"}
    return re.compile("".join(words.get(part) or (part if part.startswith("[") else re.escape(part))
                              for part in re.findall(r"\*\*|\[[^]]*\]|.", pattern)))


def given(path: str, text: str) -> frozenset[str]:
    return frozenset[str]().union(*(rule.gives for rule in rules(text) if rule.pattern.fullmatch(path)))


@pytest.mark.parametrize("path", NEEDED)
def test_what_the_gateway_opens_is_named(path: str) -> None:
    assert frozenset(NEEDED[path].replace("ix", "i")) <= given(path, parts()[0])


@pytest.mark.parametrize("path", REFUSED)
def test_what_it_has_no_business_with_is_not(path: str) -> None:
    for part in parts():
        assert not frozenset(REFUSED[path].replace("ix", "i")) <= given(path, part)


@pytest.mark.parametrize("path", ["/etc/hosts", "/etc/resolv.conf", "/var/lib/lockgate/audit/1.db", "/tmp/etilqs_0a1b2c3d",
                                  "/run/lockgate-credentials/tls.gateway.key", "/run/systemd/resolve/io.systemd.Resolve"])
def test_the_process_for_long_texts_has_less(path: str) -> None:
    assert given(path, parts()[1]) == frozenset()


def test_both_families_for_streams_and_names_and_nothing_else() -> None:
    outer, inner = parts()
    assert set(re.findall(r"^ +network (.*),$", outer, re.M)) == {"inet stream", "inet6 stream", "inet dgram", "inet6 dgram"}
    assert re.findall(r"^ +network ", inner, re.M) == []
    assert set(re.findall(r"audit deny (network .*),", inner)) == {"network inet", "network inet6"}


def test_no_program_but_its_own_python_is_run() -> None:
    outer, inner = parts()
    runs = [line.strip() for line in outer.splitlines() if re.search(r"^ +[^#]*[ rwmk](?:[ipcuPCU]x|x),", line)]
    assert runs == ["/usr/bin/python3.[0-9]* mrix,", "deny /usr/sbin/ldconfig x,", "deny /usr/bin/{,*-}{gcc,cc,ld}{,-*,.*} x,"]
    assert "ix," not in inner


def test_each_suite_gets_the_rules_that_its_parser_knows() -> None:
    assert "abi <abi/3.0>," in rendered(abi4=False) and "abi <abi/4.0>," in rendered(abi4=True)
    assert len(re.findall(r"flags=\(attach_disconnected\)", rendered(abi4=True))) == 2, "neither complains only"
