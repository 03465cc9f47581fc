# SPDX-License-Identifier: Apache-2.0
"""What a session's names hold is bounded: texts and parameters together, by limits.message."""

from __future__ import annotations

from pathlib import Path

from gateway.config.schema import Limits
from gateway.protocols.postgres import messages
from tests.unit.protocols.postgres.talk import errors, make_room, talking


async def test_portals_and_statements_are_weighed(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path), limits=Limits(message=4096)) as talk:
        await talk.run(messages.Parse("one", "select id from orders where id::text = $1"))
        answers = []
        for number in range(4):
            bind = messages.Bind(f"p{number}", "one", (0,), (b"x" * 2000,))
            answers += await talk.say(bind, messages.Flush())
        assert errors(answers) == ["53400"]
        await talk.say(messages.Sync())
        assert errors(await talk.run(messages.Bind("", "one", (0,), (b"x" * 2000,)))) == [], "they went with their transaction"


async def test_texts_of_statements_are_weighed(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path), limits=Limits(message=4096)) as talk:
        text = "select id from orders where id = 1 /* " + "x" * 1500 + " */"
        answers = [errors(await talk.run(messages.Parse(f"s{number}", text))) for number in range(5)]
        assert answers == [[], [], [], ["53400"], ["53400"]]
        await talk.run(messages.Close("S", "s0"), messages.Close("S", "s1"))
        assert errors(await talk.run(messages.Parse("again", text))) == []
