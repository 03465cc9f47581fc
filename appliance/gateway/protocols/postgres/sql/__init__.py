# SPDX-License-Identifier: Apache-2.0
"""SQL text to statements: what it would do, where its values come from, which of its literals the log must not keep.

One entry: ``analyze.analyze(text, context, catalog)``. Pure: no I/O, no clock, no policy. Nouns:

* a *walk* (``walk``) is one statement on its way; it notes operations, reads, writes, sinks, literals;
* a *value* (``values``) is what an expression gives: origins, whether unchanged, unknown, of the system alone, its type;
* an *item* and a *scope* (``scope``) are what names mean inside one query level;
* a *shape* (``knowledge``, made by ``lineage``) is a relation's columns with views, inheritance and generated columns followed.

``parse`` binds PostgreSQL's own parser · ``verbs`` the closed table of statement kinds · ``expressions``, ``functions``,
``constructs`` one handler per node kind · ``calls``, ``casts`` which function, operator or cast is meant · ``select``, ``tables``,
``dml`` queries · ``containers``, ``session``, ``utility`` everything else · ``where`` whether a condition bounds anything ·
``settings``, ``literals``, ``passwords`` data about settings and tokens · ``draft`` makes the ``Statement``.

What taints a result: everything under the expression that computes it: arguments, comparisons, CASE conditions, FILTER, what EXISTS
reads. What does not: WHERE, JOIN conditions, GROUP BY, HAVING, ORDER BY, window frames; inference through them is not promised.
"""
