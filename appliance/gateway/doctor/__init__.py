# SPDX-License-Identifier: Apache-2.0
"""What would make this gateway pointless, or stop it soon: what ``lockgate doctor`` looks at.

A ``Check`` is a row of a published table: its id, how bad it is, what to do, and a small function that looks at a *patient* (the folder and
the machine, or what a target said of the gateway's login) and gives a ``Sign`` for each place where it found something. Together they are
a ``Finding``. ``folder``, ``clock`` and ``disk`` look at what is here; each protocol's ``doctor`` module looks at its targets.
"""

from __future__ import annotations

from gateway.doctor.finding import Check, Finding, Severity, Sign

__all__ = ["Check", "Finding", "Severity", "Sign"]
