# SPDX-License-Identifier: Apache-2.0
"""What is hidden and how: rules on text, the mask set of an identity on a resource, detectors. Pure; it knows no protocol."""
