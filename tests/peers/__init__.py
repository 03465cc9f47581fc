# SPDX-License-Identifier: Apache-2.0
"""Real servers and unchanged clients around a real gateway process."""
