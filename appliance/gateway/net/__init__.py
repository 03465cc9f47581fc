# SPDX-License-Identifier: Apache-2.0
"""Byte streams with back-pressure, in clear and in TLS, the sockets under them, and servers that own their connections' tasks."""
