# SPDX-License-Identifier: Apache-2.0
"""SSH 2 (RFC 4251 to 4254, OpenSSH's PROTOCOL), both roles, on asyncssh.

::

    client                    gateway                                       target
      │ key exchange ───────────▶│ listener: our host key, strict, no CBC      │
      │ [LOGIN@]RESOURCE, token ▶│ authenticate, session.start on disk         │
      │◀── let in ───────────────│                                             │
      │ session: env, pty, exec ▶│ program: what it would do                   │
      │   (stdin stays with the  │ desk: govern() ── held? a line on stderr    │
      │    caller until then)    │ command.begin on disk                       │
      │                          │ towards: pinned host key, our credential ──▶│
      │                          │ the same request ──────────────────────────▶│
      │ stdin ──────────────────▶│ relay: still allowed? ─────────────────────▶│
      │◀─────────────────────────│ relay: mask, record, count ◀── stdout, err ─│
      │◀── exit status, then EOF │ command.end                                 │
      │ direct-tcpip, -R, … ────▶│ forwards: decided by destination ──────────▶│

One connection is one session; every channel, forward and file on it is decided by itself. ``listener`` lets callers in (``door`` reads
the user name, ``authority`` certificates), ``connection`` is what is changed of asyncssh, ``session`` owns what runs and says how it ends
(``ending``), ``channel`` serves commands, shells and subsystems, ``desk`` asks ``govern()``, ``relay`` moves bytes and ``pipes`` those
that are read message by message (``sftp/``, ``scp_proxy``, ``rsync``), ``forwards`` joins forwarded connections, ``towards`` and
``upstream`` are the way to targets (``target_key`` signs for them), ``restricted`` is a shell of the gateway's own. Pure: ``lineedit``,
``words``, ``patterns``, ``paths``, ``understand``, ``transfers`` and ``program`` (what a request would do), ``operations`` (the matcher),
``door``, ``authority``, ``target_key``.

Refused: CBC, SHA-1, compression, GSSAPI, host-based login, keys that are not certificates of the gateway's own, network tunnels (``-w``),
subsystems without a rule, commands that cannot be understood and have no rule with their exact text.
"""

from __future__ import annotations

from gateway.protocols.ssh import optional

optional.without()
