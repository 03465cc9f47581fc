# SPDX-License-Identifier: Apache-2.0
"""Byte streams with back-pressure, servers that own their connections' tasks, and TLS contexts."""
