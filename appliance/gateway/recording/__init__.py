# SPDX-License-Identifier: Apache-2.0
"""What sessions did, to be found and played back.

``store`` keeps the masked samples beside the log · ``index`` derives a searchable database from the log (may be deleted at any time) ·
``read`` answers lists, searches and one session's events from log and index · ``replay`` turns events into lines for a terminal.
"""
