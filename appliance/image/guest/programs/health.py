#!/usr/bin/python3 -I
# SPDX-License-Identifier: Apache-2.0
"""Whether this boot is good enough to be kept.

health              exit status 0 when it is: then systemd-boot stops counting and this image is the one to boot from now on
health go-back      restart into the other image if this one is on trial, has not been found good, and there is another
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

UNITS = ("systemd-journald.service", "nftables.service", "ssh.service", "lockgate-site.service")
CONFIGURED = Path("/etc/lockgate/gateway.yaml")
TRIAL = Path("/sys/firmware/efi/efivars/LoaderBootCountPath-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f")
"""There when systemd-boot counted this boot: the entry's path on the EFI system partition, in UTF-16 after four bytes of attributes."""

SYSTEM_PARTITION = Path("/boot")
PATIENCE = 120
_COUNTED = re.compile(r"^(?P<name>.+?)(\+(?P<left>\d+)(-\d+)?)?\.efi$")


def problems() -> list[str]:
    """What is wrong, a line each."""
    found = [f"{unit} is not running" for unit in UNITS if not active(unit)]
    if not re.search(
        r"^\s*chain input \{[^}]*policy drop;",
        said("/usr/sbin/nft", "list", "chain", "inet", "lockgate", "input"),
        re.MULTILINE | re.DOTALL,
    ):
        found.append("the firewall does not drop what comes in unasked")
    if CONFIGURED.exists():
        found += gateway_problems()
    return found


def gateway_problems() -> list[str]:
    end = time.monotonic() + PATIENCE
    while not active("lockgate.service"):
        if time.monotonic() > end:
            return ["lockgate.service is not running"]
        time.sleep(2)
    return []


def active(unit: str) -> bool:
    return said("/usr/bin/systemctl", "is-active", unit).strip() == "active"


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def trial() -> str | None:
    """The file name of the entry on trial; None when this boot is not one."""
    try:
        path = TRIAL.read_bytes()[4:].decode("utf-16-le").rstrip("\0")
    except OSError:
        return None
    return path.replace("\\", "/").rsplit("/", 1)[-1]


def alternatives(entry: str, folder: Path) -> list[str]:
    """Other images in ``folder`` that systemd-boot would still try."""
    own = _COUNTED.match(entry)
    names = [found for path in sorted(folder.glob("*.efi")) if (found := _COUNTED.match(path.name))]
    return [found[0] for found in names if own and found["name"] != own["name"] and found["left"] != "0"]


def go_back() -> int:
    entry = trial()
    if entry is None or active("boot-complete.target"):
        return 0
    others = alternatives(entry, SYSTEM_PARTITION / "EFI/Linux")
    if not others:
        print(f"{entry} is not healthy, and there is no other image to go back to", file=sys.stderr)
        return 0
    print(f"{entry} is not healthy: restarting; {', '.join(others)} is there to go back to", file=sys.stderr)
    return subprocess.run(["/usr/bin/systemctl", "reboot"], check=False).returncode


def main() -> int:
    if sys.argv[1:] == ["go-back"]:
        return go_back()
    if sys.argv[1:]:
        sys.exit(__doc__)
    found = problems()
    print("\n".join(found) or "healthy")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
