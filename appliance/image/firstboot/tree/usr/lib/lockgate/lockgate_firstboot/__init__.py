# SPDX-License-Identifier: Apache-2.0
"""First boot: from what a gateway is told to what it is. Standard library alone; it runs before the network, and once.

``told`` checks what it is told (name, addresses, who manages it), ``segment`` the first policy; both are pure and take nothing that they do
not know. ``etc`` turns what was told into files. ``sources`` finds it (systemd credentials, a config drive), ``store`` keeps it, ``policy``
puts the first policy in force, ``main`` is the program. Nothing told is ever run by a shell or taken for a template.
"""
