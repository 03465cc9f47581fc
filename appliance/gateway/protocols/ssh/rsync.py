# SPDX-License-Identifier: Apache-2.0
"""scp and rsync before they start: the same actions on the paths as the target understands them. And rsync on its way.

rsync's protocol is not read beyond its filter rules (``rsync_rules``): its paths are decided before it starts, with everything below
them, and then its bytes are relayed, counted and hashed. Which files they are, and what becomes of each, is not known to the gateway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from gateway.errors import Refused
from gateway.model import Operation
from gateway.protocols.ssh.desk import Running
from gateway.protocols.ssh.files import FileDesk, Pipe
from gateway.protocols.ssh.rsync_rules import RsyncRules
from gateway.protocols.ssh.sftp.names import absolute, text_of
from gateway.protocols.ssh.sftp.questions import Questions
from gateway.protocols.ssh.sftp.transfer import Side
from gateway.protocols.ssh.transfers import FileAccess
from gateway.protocols.ssh.understand import file_request


async def located(access: FileAccess, operations: Sequence[Operation], questions: Questions, *,
                  detects: bool = False) -> tuple[Operation, ...]:
    """The operations of ``exec_request`` with the paths as the target understands them: relative ones from the login's home, and where
    links lead. To begin scp is to look at its paths (``stat``), and needs no rule: each file is decided, and held, once it is named.

    ``detects``: detectors or patterns of the policy apply. What rsync reads cannot be looked through for them.

    Raises ``Refused`` for a path that cannot be decided, ``TargetFault``.
    """
    if detects and access.kind == "rsync" and not access.sends:
        raise Refused("what rsync reads cannot be masked, and something is masked for you: use sftp or scp")
    actions = list(dict.fromkeys((one.verb, bool(one.attributes.get("tree"))) for one in operations))
    if access.kind == "scp":
        actions = [("stat", False)]
    found: list[Operation] = []
    for given in access.paths:
        path = questions.absolute(text_of(given.encode("utf-8", "surrogateescape")))
        resolved = await questions.resolve(path)
        more = {"free": True} if access.kind == "scp" else {}
        for verb, tree in actions:
            for one in file_request(verb, absolute(path, "/"), resolved=resolved):
                found.append(replace(one, attributes={**one.attributes, **more, **({"tree": True} if tree else {})}))
    return tuple(found)


async def serve_rsync(access: FileAccess, caller: Pipe, target: Pipe, desk: FileDesk, running: Running) -> None:
    """Relay an ``rsync --server`` that the target has begun until it ends, and record its end.

    Raises ``Refused`` where it may not go on, or sends what is masked; ``SessionOver``, ``AuditUnavailable``.
    """
    sent, received = Side(), Side()
    status, why = "cancelled", "the channel ended"
    try:
        await _relay(caller, target, desk, running, sent, received, RsyncRules(access.words))
        status, why = "ok", ""
    except Refused as no:
        status, why = "refused", no.code or str(no)
        raise
    finally:
        main = sent if access.sends else received
        running.finish(status, bytes=received.bytes, error=why, direction="sent" if access.sends else "received", size=main.bytes,
                       sha256=main.digest, received=sent.bytes, path=" ".join(access.paths))


async def _relay(caller: Pipe, target: Pipe, desk: FileDesk, running: Running, sent: Side, received: Side, rules: RsyncRules) -> None:
    """Both ways until the target ends; what is masked for the caller ends it."""
    try:
        async with asyncio.TaskGroup() as group:
            up = group.create_task(_up(caller, target, desk, running, sent, rules))
            await _down(caller, target, desk, running, received, rules, sent)
            up.cancel()
    except BaseExceptionGroup as problems:
        raise problems.exceptions[0] from None


async def _up(caller: Pipe, target: Pipe, desk: FileDesk, running: Running, sent: Side, rules: RsyncRules) -> None:
    while data := await caller.read():
        desk.still(running)
        _pass(rules.from_caller(data), target, sent)
        await target.drain()
    target.write_eof()


def _pass(data: bytes, target: Pipe, sent: Side) -> None:
    """To the target what may go there."""
    if data:
        sent.add(sent.bytes, data)
        target.write(data)


async def _down(caller: Pipe, target: Pipe, desk: FileDesk, running: Running, received: Side, rules: RsyncRules,
                sent: Side) -> None:
    masker = desk.masker()
    reading: asyncio.Task[bytes] | None = None
    try:
        while True:
            if reading is None:
                reading = asyncio.get_running_loop().create_task(target.read())
            done, _ = await asyncio.wait({reading}, timeout=None if masker is None else masker.holding)
            if done:
                data, reading = reading.result(), None
                received.add(received.bytes, data)
                desk.still(running)
                _pass(rules.from_target(data), target, sent)
                out = data if masker is None else masker.feed(data) if data else masker.end()
            else:
                data = b"more"
                out = masker.due()
            if masker is not None and masker.masked:
                raise Refused("what rsync sends holds what is masked for you: a file is passed as it is or not at all", "masked")
            if out:
                caller.write(out)
                await caller.drain()
            if not data:
                return
    finally:
        if reading is not None:
            reading.cancel()
