# SPDX-License-Identifier: Apache-2.0
"""What every ring of tests shares: Hypothesis settings without deadlines (machines differ), and a SIGTERM that tidies up as Ctrl-C does:
the servers that the tests started must not stay."""

from __future__ import annotations

import os
import signal

from hypothesis import HealthCheck, settings

signal.signal(signal.SIGTERM, signal.default_int_handler)
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", deadline=None, max_examples=2000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
