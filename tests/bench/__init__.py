# SPDX-License-Identifier: Apache-2.0
"""What Lockgate costs, beside a direct connection and pgbouncer, in one interleaved run.

``peers`` starts the three ways to the same PostgreSQL · ``measure`` takes one number · ``plan`` says which, in which order ·
``report`` turns them into medians, ratios, ``bench.json`` and a table · ``chart`` draws them. Run ``make bench``.
"""
