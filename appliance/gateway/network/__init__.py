# SPDX-License-Identifier: Apache-2.0
"""What a gateway needs of the network, read from the folder that it serves, so that a firewall can be made of exactly that.

A *door* is where callers come in: one per listener. A *destination* is where the gateway connects to, and what for: a resource, an
issuer's keys, the webhook. A *reach* is a destination with its addresses, or with the problem that it has none. The *plan* is all of it.

::

    folder ── plan ──▶ doors, destinations ── resolve ──▶ reaches ──┬─ nft      elements for the sets of `table inet lockgate`
                                                                   └─ service   a drop-in for lockgate.service

Only ``resolve`` does I/O. What is written for nft and systemd is made of numbers alone, addresses and ports that were parsed as such:
a name of the policy never gets into either text.
"""
