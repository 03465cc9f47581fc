# SPDX-License-Identifier: Apache-2.0
"""Commands that go past a filter elsewhere are refused under the example's rules; everyday ones pass under the rules that the docs give."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.cli import main
from gateway.config.load import Folder, load_folder
from gateway.masking.model import MaskSet
from gateway.policy.policy import Policy, compile_policy
from gateway.policy.question import Answer, answer, identity_of, reader_of, resource_of
from gateway.protocols.ssh.operations import compile_matcher
from gateway.protocols.ssh.understand import exec_request

ROOT = Path(__file__).parents[4]
CORPUS = ROOT / "tests" / "corpus" / "ssh"
EXAMPLE = ROOT / "appliance" / "gateway" / "config" / "demo-ssh"


def lines(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (CORPUS / name).read_text().splitlines()]


REFUSED = lines("refused.jsonl")
EVERYDAY = lines("everyday.jsonl")


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> tuple[Folder, Policy]:
    etc = tmp_path_factory.mktemp("ssh") / "etc"
    main(["init", str(etc), "--demo"])
    shutil.copytree(EXAMPLE, etc, dirs_exist_ok=True, copy_function=shutil.copyfile)
    main(["init", str(etc)])
    folder = load_folder(etc)
    return folder, compile_policy(folder)


def asked(example: tuple[Folder, Policy], text: str) -> Answer:
    folder, policy = example
    reader = reader_of(folder, resource_of(folder, "web-1"))
    assert reader is not None
    return answer(policy, identity_of(folder, "ci-bot"), "web-1", reader.read(text, MaskSet()), time.time())


def given(case: dict[str, str]) -> str:
    """Bytes reach the policy as the data path decodes them (PEP 383)."""
    return case["text"] if "text" in case else bytes.fromhex(case["hex"]).decode("utf-8", "surrogateescape")


def test_there_are_enough() -> None:
    assert len(REFUSED) >= 150
    assert len({given(case) for case in REFUSED}) == len(REFUSED)
    assert len(EVERYDAY) >= 60


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: f"{case['class']}: {given(case)!r}")
def test_what_goes_past_filters_is_refused_t49(example: tuple[Folder, Policy], case: dict[str, str]) -> None:
    assert asked(example, given(case)).effect == "deny"


ALLOWED = [
    "uptime", " uptime ", "'uptime'", "up\\time", "uptime;", "uptime; uptime", "uptime && ls /srv/billing",
    "cat /srv/billing/a | cat /srv/billing/b", "ls /srv/billing/", "cat /srv/billing/a' '/etc/shadow", "cat '/srv/billing/a'\"'\"'; id'",
    "cat \"/srv/billing/a b\"", "scp -t /srv/billing", "scp -r -f /srv/billing/logs",
    "rsync --server -rtpe.iLsfxCIvu --delete . /srv/billing/", "rsync --server --sender -re.LsfxC . /srv/billing/"]


@pytest.mark.parametrize("text", ALLOWED)
def test_what_the_example_allows_passes(example: tuple[Folder, Policy], text: str) -> None:
    assert asked(example, text).effect == "allow"


@pytest.mark.parametrize("text", ["reboot", "reboot -f", "/sbin/reboot", "shutdown -h now", "uptime; reboot", "/usr/sbin/shutdown +5"])
def test_what_needs_a_vote_asks_for_it(example: tuple[Folder, Policy], text: str) -> None:
    assert asked(example, text).approvals == ("one-dba",)


# --- the rules of docs/ssh-policy.md ---


def documented() -> dict[str, Any]:
    """Every rule that the page gives, by its name."""
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "ssh-policy.md").read_text(), re.DOTALL)
    rules = [rule for block in blocks for rule in (yaml.safe_load(block) or {}).get("rules", ())]
    assert len({rule["name"] for rule in rules}) == len(rules)
    return {rule["name"]: rule for rule in rules}


RULES = documented()


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule["name"])
def test_the_documented_rules_can_be_compiled(rule: dict[str, Any]) -> None:
    [effect] = {"allow", "approve", "deny"} & set(rule)
    compile_matcher(rule[effect]["ssh"], effect)


@pytest.mark.parametrize("case", EVERYDAY, ids=lambda case: f"{case['rule']}: {case['text']}")
def test_everyday_commands_pass(case: dict[str, str]) -> None:
    rule = RULES[case["rule"]]
    [effect] = {"allow", "approve"} & set(rule)
    matcher = compile_matcher(rule[effect]["ssh"], effect)
    understood = exec_request(case["text"], pty=False)
    assert not understood.refusal
    assert [one for one in understood.operations if not matcher(one)] == []


def test_every_documented_rule_is_tried() -> None:
    assert {case["rule"] for case in EVERYDAY} | {"files", "tunnel", "never", "its files", "release", "prompt"} == set(RULES)


@pytest.mark.parametrize("case", [case for case in REFUSED if "text" in case and case["class"] in (
    "list", "substitution", "redirection", "newline and control", "assignment", "word of the shell", "scp and rsync", "alias")],
    ids=lambda case: repr(case["text"]))
def test_the_documented_rules_let_no_evasion_pass_t49(case: dict[str, str]) -> None:
    """All of them together, but for the one that is any command. What is left is what these rules allow by name."""
    matchers = [compile_matcher(rule["allow"]["ssh"], "allow") for name, rule in RULES.items() if "allow" in rule and name != "ansible"]
    understood = exec_request(case["text"], pty=False)
    assert understood.refusal or any(not any(matcher(one) for matcher in matchers) for one in understood.operations)
