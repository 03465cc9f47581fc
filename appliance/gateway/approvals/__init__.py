# SPDX-License-Identifier: Apache-2.0
"""Approvals: a command that policy wants a person to look at first is held here until the votes are in.

    govern() ── obtain() ──▶ requested ──vote──▶ granted ── use() ──▶ used
                                │  │                │
                                │  └─vote──▶ denied └──▶ expired, withdrawn
                                └──▶ expired, withdrawn

``binding``  what an approval is bound to, and the digest over it that a vote must carry
``voters``   pure: who is one person, and who may see (who may vote, and the count: ``policy.votes``)
``shown``    pure: what may hide in a text, and how to print it
``view``     what people and records see of an approval
``book``     the approvals there are, and how many there may be
``records``  the fields of the records, and what callers are told
``desk``     the only place where an approval changes its state
``notify``   the webhook that says that something waits
"""
