# SPDX-License-Identifier: Apache-2.0
"""Break glass: a root shell on the appliance's own console that works without network, identity provider and gateway, and never silently.

Nouns: a *person* logs in on a *terminal* of the machine itself as the account ``breakglass`` and gives name and *reason* (``front``).
The *recorder* (``recorder``, root, one process a session, behind a UNIX socket) takes the terminal over, puts ``break-glass.begin`` into
the *console log* (``log``: the format of the gateway's own log, but an origin, folder, key and reserve of its own), tells everybody
(``alert``), and only then starts a shell on a pseudo terminal (``shell``). What is typed and shown passes through it (``relay``) as
*events* (``events``), on disk first. The gateway, where it runs, *watches* the console log (``watch``).

``settings`` has the bounds, ``request`` what is asked over the socket, ``terminal`` which terminals are local, ``transcript`` reads a
session back. ``docs/decisions/0017-break-glass.md`` says why it is built so.
"""
