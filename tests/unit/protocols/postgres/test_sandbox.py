# SPDX-License-Identifier: Apache-2.0
"""Long texts are parsed by a process of their own: what kills it is a refusal of that text alone."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gateway.protocols.postgres import sandboxed
from gateway.protocols.postgres.sandbox import Sandbox
from gateway.protocols.postgres.sql.analyze import analyze
from gateway.protocols.postgres.sql.parse import DEFAULT_LIMIT, checked
from gateway.protocols.postgres.statement import SqlFault
from tests.unit.protocols.postgres.sql.shop import CATALOG, CONTEXT

LIMIT = 1 << 20
LONG = "select id from customers where id in (" + ", ".join(map(str, range(20_000))) + ")"
SUMS = "select " + "1+" * 500_000 + "1"


def within(work: Callable[[Sandbox], Awaitable[None]]) -> None:
    async def run() -> None:
        apart = Sandbox()
        try:
            await work(apart)
        finally:
            await apart.close()

    asyncio.run(run())


async def refused(apart: Sandbox, text: str) -> str:
    with pytest.raises(SqlFault) as caught:
        await apart.parse(text.encode())
    return caught.value.code


def test_a_long_text_is_understood_as_a_short_one_is() -> None:
    async def work(apart: Sandbox) -> None:
        assert len(LONG) > DEFAULT_LIMIT
        (statement,) = analyze(LONG, CONTEXT, CATALOG, LIMIT, await apart.parse(checked(LONG, LIMIT)))
        assert statement.verb == "select" and statement.end == len(LONG) and len(statement.literals) == 20_000

    within(work)


def test_a_parser_that_dies_takes_one_text_with_it() -> None:
    async def work(apart: Sandbox) -> None:
        assert len(SUMS) <= sandboxed.MOST_TEXT
        first = asyncio.create_task(refused(apart, SUMS))
        beside = asyncio.create_task(apart.parse(LONG.encode()))
        assert await first == "54001"
        assert (await beside).startswith(b'{"version"')
        assert await refused(apart, "select " + "(" * 100_000) == "54001"
        assert (await apart.parse(b"select 1")).startswith(b'{"version"')

    within(work)


def test_what_the_parser_survives_may_still_be_too_deep() -> None:
    async def work(apart: Sandbox) -> None:
        text = "select 1" + " union all select 1" * 17_000
        assert len(text) > 300_000
        with pytest.raises(SqlFault) as caught:
            analyze(text, CONTEXT, CATALOG, LIMIT, await apart.parse(text.encode()))
        assert caught.value.code == "54001"

    within(work)


def test_the_event_loop_goes_on_meanwhile() -> None:
    async def work(apart: Sandbox) -> None:
        parsing = asyncio.create_task(refused(apart, SUMS))
        turns = 0
        while not parsing.done():
            turns += 1
            await asyncio.sleep(0)
        assert turns > 3 and await parsing == "54001"

    within(work)


def test_one_that_answers_nothing_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(apart: Sandbox) -> None:
        monkeypatch.setattr("gateway.protocols.postgres.sandbox.PATIENCE", 0.0)
        assert await refused(apart, "select 1") == "54001"
        monkeypatch.setattr("gateway.protocols.postgres.sandbox.PATIENCE", 20.0)
        assert (await apart.parse(b"select 1")).startswith(b'{"version"')

    within(work)


def test_faults_are_the_parsers_own() -> None:
    async def work(apart: Sandbox) -> None:
        assert await refused(apart, "selec 1") == "42601"
        assert await refused(apart, "x" * (sandboxed.MOST_TEXT + 1)) == "54001"

    within(work)


def test_an_answer_that_is_too_large_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandboxed, "MOST_ANSWER", 100)
    assert sandboxed.answered(b"select 1")[0] == b"E"
    assert sandboxed.answered(b"selec 1")[0] == b"E"


def test_the_process_serves_until_its_input_ends() -> None:
    asked = b"\0\0\0\x08select 1" + b"\x7f\xff\xff\xffrest"
    done = subprocess.run([sys.executable, "-m", sandboxed.__name__], input=asked, capture_output=True, timeout=120, check=True)
    size = int.from_bytes(done.stdout[1:5])
    assert done.stdout[:1] == b"J"
    assert len(done.stdout) == 5 + size


def test_a_long_text_is_never_parsed_here() -> None:
    with pytest.raises(SqlFault) as caught:
        analyze(LONG, CONTEXT, CATALOG, LIMIT)
    assert caught.value.code == "54001"


@pytest.mark.parametrize(("held", "then"), [
    ("lockgate (enforce)\n", "stack lockgate//sandboxed"), ("unconfined\n", "unconfined\n"), ("docker-default (enforce)\n",) * 2,
    ("lockgate-other (enforce)\n",) * 2,
])  # fmt: skip
def test_where_the_gateway_is_confined_the_process_is_held_to_less(tmp_path: Path, held: str, then: str) -> None:
    label = tmp_path / "current"
    label.write_text(held)
    sandboxed.confine(label)
    assert label.read_text() == then


def test_a_kernel_without_apparmor_confines_nothing(tmp_path: Path) -> None:
    sandboxed.confine(tmp_path / "current")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_confined_parses_nothing(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        sandboxed.confine(tmp_path)


def test_the_gateways_profile_lets_it_be_held_to_that() -> None:
    profile = Path(__file__).parents[4] / "roles/gateway/templates/etc/apparmor.d/lockgate.j2"
    assert f"  change_profile -> &{sandboxed.PROFILE},\n" in profile.read_text()
