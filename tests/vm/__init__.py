# SPDX-License-Identifier: Apache-2.0
"""The image booted under emulation: what a container cannot show. Needs root; `-m short` boots once, `-m full` several times."""
