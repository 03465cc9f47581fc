#!/usr/bin/python3 -I
# SPDX-License-Identifier: Apache-2.0
"""What a gateway is told at its first boot: name, addresses, who manages it, the first policy.

    firstboot take          listen (systemd credentials, else a config drive) if nothing was told yet; make /etc from what was told
    firstboot policy        put the first policy in force, where it is good and nothing is in force yet
    firstboot status        who this gateway was told to be
    firstboot pack FOLDER   a segment's folder (policy/, trust/) as lockgate.segment, on standard output: for a config drive
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(HERE), str(HERE.parent / "tree/usr/lib/lockgate")]
from lockgate_firstboot.main import main  # type: ignore[import-not-found]  # noqa: E402  (lies beside this program on the image)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], __doc__ or ""))
