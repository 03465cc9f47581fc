# SPDX-License-Identifier: Apache-2.0
"""The evidence: an append-only log that can be checked by whoever holds the gateway's public key.

A *record* is one JSON object, and its exact bytes are one *leaf* of an RFC 6962 tree. Records are committed in *batches*, a row
of a SQLite *file* each (``state/audit/NNNNNN.db``, one a day or 256 MiB). A *checkpoint* is a record that carries a C2SP signed
note over the tree of all records before it; an *anchor* is such a note kept elsewhere.

Writing: ``record`` (bytes of a record) · ``template`` (many that are alike) · ``tree`` · ``note`` and ``checkpoint`` (signatures) ·
``files`` (the SQLite files) · ``journal`` (records in, durable rows out) · ``writer`` (the one thread that writes) · ``turns`` (what it
does batch after batch) · ``inbox`` (between it and the event loop) · ``log`` (its face there) · ``recover`` (after a stop or crash) ·
``standing`` (what is open, for orphans) · ``space`` (reserve, limits, retention). ``_record`` is the compiled form of what every record
passes and of the turns, ``_files`` of how a batch is committed.
Reading, which never writes: ``reader`` (rows, export, head) · ``chain`` (the checks) · ``verify`` · ``place`` (where a gateway keeps it).
``docs/audit.md`` has the format byte by byte.
"""
