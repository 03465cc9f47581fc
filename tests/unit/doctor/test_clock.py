# SPDX-License-Identifier: Apache-2.0
"""The clock, against what the kernel, the floor and the log say."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.audit.log import AuditLog
from gateway.config.schema import AuditConfig
from gateway.doctor import clock
from gateway.doctor.clock import Time
from gateway.doctor.finding import examined

NOW = 1_800_000_000.0


@pytest.mark.parametrize(("time_", "wanted"), [
    (Time(NOW, NOW - 9, NOW - 5, True, 0.02), []),
    (Time(NOW, NOW + 3, NOW + 3, True, 0.02), []),
    (Time(NOW, NOW + 60, 0, True, 0.02), ["clock.behind"]),
    (Time(NOW, 0, NOW + 60, True, 0.02), ["clock.behind"]),
    (Time(NOW, 0, 0, False, 16.0), ["clock.unkept"]),
    (Time(NOW, 0, 0, True, 2.0), ["clock.inexact"]),
    (Time(NOW, 0, 0, None, 0.0), []),
])
def test_each_finding(time_: Time, wanted: list[str]) -> None:
    assert [finding.id for finding in examined(clock.CHECKS, time_)] == wanted


def test_the_kernel_is_asked() -> None:
    synchronised, error = clock.kernel_clock()
    assert synchronised in (True, False, None)
    assert 0 <= error < 1e6


def test_the_newest_record_is_found_in_a_live_log(tmp_path: Path) -> None:
    async def write() -> float:
        log = AuditLog.open(tmp_path, "gw", "seg", AuditConfig(), Ed25519PrivateKey.generate())
        await log.record("gateway.start", {})
        found = clock.last_record(tmp_path / "audit")
        await log.close()
        return found

    live = asyncio.run(write())
    assert abs(live - time.time()) < 60
    assert clock.last_record(tmp_path / "audit") >= live


def test_no_log_and_a_damaged_one(tmp_path: Path) -> None:
    assert clock.look_at(tmp_path).last == 0
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit" / "000001.db").write_bytes(b"nonsense")
    assert clock.last_record(tmp_path / "audit") == 0
