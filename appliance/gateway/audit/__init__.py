# SPDX-License-Identifier: Apache-2.0
"""The evidence: an append-only log that can be checked by whoever holds the gateway's public key.

A *record* is one JSON object, and its exact bytes are one *leaf* of an RFC 6962 tree. Records are committed in *batches*, a row
of a SQLite *file* each (``state/audit/NNNNNN.db``, one a day or 256 MiB). A *checkpoint* is a record that carries a C2SP signed
note over the tree of all records before it; an *anchor* is such a note kept elsewhere.

``record`` (bytes of a record) · ``tree`` · ``note`` and ``checkpoint`` (signatures) · ``files`` (the SQLite files) · ``writer`` (the one
thread that writes) · ``log`` (its face in the event loop) · ``standing`` (what is open, for orphans after a crash) · ``space`` (reserve,
limits, retention) · ``reader``, ``export`` and ``verify`` (reading; never writes). The format is described byte by byte in ``docs/audit.md``.
"""
