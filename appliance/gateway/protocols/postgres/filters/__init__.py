# SPDX-License-Identifier: Apache-2.0
"""Row filters: statements rewritten so that only some rows of a relation are there.

One entry: ``rewrite.Rewriting.filtered(statements)``. Pure: no I/O. Nouns:

* a *condition* (``expression``) is what the policy writes: comparisons of the relation's own columns with constants, made of nothing
  that a session's settings could turn into something else;
* *reach* (``reach``) says which relations are under conditions, of their own or of what they inherit from, and what may not be said at
  all while there are any: views over them, users' functions, definitions that would run later;
* a *guard* is what stands in a relation's place: ``(SELECT * FROM relation WHERE condition OFFSET 0)``; ``where`` puts the condition into
  a WHERE that is there, where that means the same (``forms`` decides);
* *quiet* (``quiet``) are conditions of the caller's that cannot tell anything about the rows they are tried on: leakproof comparisons.

What a text becomes is *spliced* (``splice``): everything but the guards stays as the caller wrote it. The result is parsed again and has
to be exactly the tree that was meant, then analysed again and has to do what the caller's text does. Whatever cannot be shown to be right
is refused with 42501.
"""
