# SPDX-License-Identifier: Apache-2.0
"""When a boot on trial goes back, and when it has nowhere to go."""

from __future__ import annotations

from pathlib import Path
from subprocess import CompletedProcess

import pytest

from image.guest.programs import health


def entries(folder: Path, *names: str) -> Path:
    linux = folder / "EFI/Linux"
    linux.mkdir(parents=True)
    for name in names:
        (linux / name).touch()
    return linux


@pytest.mark.parametrize(("others", "expected"), [
    (["lockgate_0.1.0.1.efi"], ["lockgate_0.1.0.1.efi"]),
    (["lockgate_0.1.0.1+2-1.efi"], ["lockgate_0.1.0.1+2-1.efi"]),
    (["lockgate_0.1.0.1+0-3.efi"], []),
    ([], []),
])  # fmt: skip
def test_where_there_is_to_go(tmp_path: Path, others: list[str], expected: list[str]) -> None:
    linux = entries(tmp_path, "lockgate_0.1.0.2+2-1.efi", *others)
    assert health.alternatives("lockgate_0.1.0.2+2-1.efi", linux) == expected


def test_the_entry_on_trial_is_read_from_the_boot_loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variable = tmp_path / "LoaderBootCountPath"
    monkeypatch.setattr(health, "TRIAL", variable)
    assert health.trial() is None
    variable.write_bytes(b"\x06\0\0\0" + "\\EFI\\Linux\\lockgate_0.1.0.2+2-1.efi\0".encode("utf-16-le"))
    assert health.trial() == "lockgate_0.1.0.2+2-1.efi"


@pytest.mark.parametrize(("on_trial", "complete", "other", "restarts"), [
    (True, False, True, True), (True, False, False, False), (True, True, True, False), (False, False, True, False),
])  # fmt: skip
def test_it_goes_back_only_on_trial_unhealthy_and_with_another_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_trial: bool, complete: bool, other: bool, restarts: bool
) -> None:
    entries(tmp_path, "lockgate_0.1.0.2+2-1.efi", *(["lockgate_0.1.0.1.efi"] if other else []))
    called: list[list[str]] = []

    def run(command: list[str], **_: bool) -> CompletedProcess[str]:
        called.append(command)
        return CompletedProcess(command, 0)

    monkeypatch.setattr(health, "SYSTEM_PARTITION", tmp_path)
    monkeypatch.setattr(health, "trial", lambda: "lockgate_0.1.0.2+2-1.efi" if on_trial else None)
    monkeypatch.setattr(health, "active", lambda unit: complete)
    monkeypatch.setattr("subprocess.run", run)
    assert health.go_back() == 0
    assert called == ([["/usr/bin/systemctl", "reboot"]] if restarts else [])
