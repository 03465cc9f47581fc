# SPDX-License-Identifier: Apache-2.0
"""What every ring of tests shares: Hypothesis settings without deadlines (machines differ), a SIGTERM that tidies up as Ctrl-C does (the
servers that the tests started must not stay), and a umask that no program called in this process leaves changed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

signal.signal(signal.SIGTERM, signal.default_int_handler)
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", deadline=None, max_examples=2000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)
