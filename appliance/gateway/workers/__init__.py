# SPDX-License-Identifier: Apache-2.0
"""``workers: N``: several processes serve the listeners of one gateway, one more holds what they share.

::

                    ┌──────────── first process ────────────┐
    console ───────▶│ desk · all live sessions · reloads    │  audit origin NAME
                    └──┬──── Link ────┬──── Link ────┬──────┘
                       ▼              ▼              ▼
    callers ──▶     worker 1       worker 2       worker 3       audit origins NAME/1, NAME/2, NAME/3
     (SO_REUSEPORT)    └──────────── Meter (shared memory) ───────────┘

A worker is a whole data path: its own sessions, catalogs, policy and audit writer. Asked of the first process is what only all together
can know: whether one more session is within its caps, what an approval came to, and whose a cancel key is. Counted in shared memory is what
every operation asks. Tokens of ``single_use`` issuers meet in one database on disk. Decision 0028.

``link``      calls between two processes, both ways
``documents`` what crosses it, checked on arrival
``meter``     counts in shared memory, one writer a cell
``seat``      a worker's end: live sessions and approvals as its sessions see them
``worker``    the process
``crew``      the first process's end: starts workers, replaces one that died, has all of them follow a reload or none
"""
