# SPDX-License-Identifier: Apache-2.0
"""The Terraform modules under both programs, and applied to a real libvirtd."""
