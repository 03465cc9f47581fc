# SPDX-License-Identifier: Apache-2.0
"""Importing what serves SSH runs no other program, and loads no library that happens to be there."""

from __future__ import annotations

import subprocess
import sys

LOADED = """
import os, subprocess, sys
def told(event, arguments):
    if event in ("subprocess.Popen", "os.posix_spawn", "os.exec", "os.fork", "os.system"):
        print("ran", event, arguments[:1], flush=True)
sys.addaudithook(told)
import gateway.protocols.ssh.listener
import asyncssh.crypto.pq, asyncssh.crypto
print(asyncssh.crypto.pq.mlkem_available, asyncssh.crypto.pq.sntrup_available)
"""


def test_no_compiler_is_asked_for_libraries() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split("\n")[:-1]) == (0, ["True False"]), done.stderr
