# SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gateway.audit.inbox import Inbox as Inbox
from gateway.audit.inbox import Queued
from gateway.audit.record import Encoder
from gateway.audit.template import Template as Template
from gateway.audit.template import Ticket as Ticket
from gateway.audit.turns import Turns as Turns
from gateway.recording.store import Samples

def fill_many(encoder: Encoder, entries: Sequence[object], at: int, lines: list[bytes], commands: Mapping[int, tuple[int, Any]],
              samples: Samples) -> int: ...
def follow_many(commands: dict[int, tuple[int, Mapping[str, Any]]], entries: Iterable[object]) -> list[Any]: ...
def parted(entries: Sequence[Queued]) -> tuple[list[Queued], list[Queued], list[Queued], bool]: ...
def cost_of(entries: Sequence[Queued]) -> int: ...
def choose_hash(openssl: bool) -> bool: ...
