# SPDX-License-Identifier: Apache-2.0
"""Lab hosts.

base      the pristine Debian tree of a suite and a package list, built once and kept
overlay   one host's files: what the host changes over the base tree
switch    a network: a bridge in a network namespace of its own; the controller stands on it as .1
host      a booted host: a supervisor that runs systemd-nspawn on the overlay, its leader (the host's PID 1), its state file
scenario  the prefix of every name above, so that scenarios run side by side
"""
