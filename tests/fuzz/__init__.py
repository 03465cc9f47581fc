# SPDX-License-Identifier: Apache-2.0
"""Bytes that nobody would send, and text that nobody would write.

``targets`` holds one function a place where foreign bytes come in; it must return or raise what its contract names; else it is a find.
``make fuzz`` runs each under atheris (coverage-guided, in a process of its own, FUZZ_SECONDS in all); ``make test`` runs each on its seeds.
"""
