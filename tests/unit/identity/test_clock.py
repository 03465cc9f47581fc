# SPDX-License-Identifier: Apache-2.0
"""T70: time set back revives nothing; one step forward is capped; a reset is told."""

from __future__ import annotations

from pathlib import Path

from gateway.identity.clock import Clock, keep_floor, read_floor, start_floor


class Machine:
    """Two clocks: ``pass_`` moves both, ``set`` only the wall clock."""

    def __init__(self, wall: float = 1_000_000.0) -> None:
        self.wall, self.monotonic = wall, 50.0
        self.told: list[tuple[str, float]] = []

    def pass_(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds

    def clock(self, floor: float = 0.0) -> Clock:
        return Clock(floor, wall=lambda: self.wall, monotonic=lambda: self.monotonic, tell=lambda *one: self.told.append(one),
                     step=1000.0, settle=100.0)


def test_follows_the_wall_clock() -> None:
    machine = Machine()
    clock = machine.clock()
    for _ in range(10):
        machine.pass_(7.0)
        assert clock.now() == machine.wall
    assert machine.told == []


def test_t70_set_back_revives_nothing_and_time_goes_on() -> None:
    machine = Machine()
    clock = machine.clock()
    before = clock.now()
    machine.wall -= 500.0
    assert clock.now() == before
    assert clock.behind
    machine.pass_(60.0)
    assert clock.now() == before + 60.0
    assert machine.told == [("clock.behind", -500.0)]
    machine.wall += 500.0
    assert clock.now() == before + 60.0
    assert machine.told[-1][0] == "clock.right"


def test_t70_set_back_over_a_restart(tmp_path: Path) -> None:
    machine = Machine()
    keep_floor(tmp_path / "clock", machine.clock().floor)
    machine.wall -= 5000.0
    clock = machine.clock(start_floor(read_floor(tmp_path / "clock"), None))
    assert clock.now() == 1_000_000.0
    assert clock.behind


def test_t70_one_step_forward_is_capped() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.wall += 1e9
    assert clock.now() == machine.wall
    assert clock.now() == machine.wall
    assert clock.floor == 1_001_000.0
    assert machine.told == [("clock.step", 1e9)]
    machine.wall -= 1e9
    assert clock.now() == 1_001_000.0
    machine.wall += 1e9
    clock.now()
    assert clock.floor == 1_001_000.0
    machine.pass_(100.0)
    clock.now()
    assert clock.floor == 1_002_100.0


def test_reset_is_told() -> None:
    machine = Machine()
    clock = machine.clock(floor=2_000_000.0)
    assert clock.now() == 2_000_000.0
    clock.reset()
    assert clock.now() == machine.wall
    assert ("clock.reset", -1_000_000.0) in machine.told


def test_start_floor() -> None:
    assert start_floor(None, None) == 0.0
    assert start_floor(None, 7.0) == 7.0
    assert start_floor(100.0, 150.0, step=1000.0) == 150.0
    assert start_floor(100.0, 1e9, step=1000.0) == 1100.0
    assert start_floor(100.0, 50.0) == 100.0


def test_a_broken_file_is_no_floor(tmp_path: Path) -> None:
    path = tmp_path / "clock"
    assert read_floor(path) is None
    for text in ("", "nan", "inf", "-5", "soon"):
        path.write_text(text)
        assert read_floor(path) is None


def test_t70_time_that_passed_while_nothing_ran_is_no_step() -> None:
    told: list[str] = []
    clock = Clock(1_000_000.0, wall=lambda: 1_040_000.0, monotonic=lambda: 5.0, tell=lambda kind, seconds: told.append(kind))
    assert clock.now() == clock.floor == 1_040_000.0
    assert told == []
