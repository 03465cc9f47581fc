# SPDX-License-Identifier: Apache-2.0
"""A small Django project, as a team would have it: run by its own commands in a process of its own."""
