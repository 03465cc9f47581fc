# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL protocol 3.0 and 3.2 (PostgreSQL manual, chapter "Frontend/Backend Protocol"), both roles.

::

    client                    gateway                                   target
      │ SSLRequest, TLS          │                                         │
      │ StartupMessage ─────────▶│ door: parameters, resource              │
      │ token as password ──────▶│ authenticate, session.start on disk     │
      │                          │ target: TLS, SCRAM with the credential ▶│
      │◀── ready ────────────────│                                         │
      │ Query / Parse Bind … ───▶│ frontend: compile → govern → flush ────▶│
      │◀─────────────────────────│◀─ backend: second lock, mask, count ────│
      │                          │ command.end                             │

``listener`` lets callers in, ``greeting`` is what it says before it knows them, ``towards`` opens the target, ``kept`` has connections
that a session left clean, ``session`` owns both
legs, ``frontend`` decides what goes to the target, ``backend`` masks what comes back, ``expect`` is the queue between them, ``names``
what statements and portals are called, ``bounded`` counts rows under ``max_rows``, ``pieces`` sends scripts
statement by statement, ``commands`` and ``ending`` say how commands and sessions end.
Everything else is pure: ``codec``, ``messages`` and ``runs`` (bytes), ``machine`` (who may say what when), ``sql/`` and
``catalog/`` (what a text means), ``masking``, ``typed``, ``rows``, ``copyout`` and ``scrub`` (what is hidden), ``strict`` (what may not be
used), ``door`` (startup parameters),
``recorder`` (the sample for replay).

Refused: protocols other than 3, FunctionCall, replication, GSSAPI encryption, direct TLS without ALPN, startup parameters outside of the
harmless list, COPY of masked data with a NULL that a value may look like or in another encoding, statements that cannot be understood.
"""
