# SPDX-License-Identifier: Apache-2.0
"""What an identity may do: contract section 2, as pure functions of values.

``rules`` compiles a grant's rules to predicates. ``scope`` holds all grants that apply to one identity on one resource, and decides:
deny beats approve, approve beats allow, silence denies, whatever the order of files, grants and rules. ``windows`` says which grants are
in their window. ``votes`` counts people. ``policy`` joins them for one configuration folder and says when a session is over.
``cases``, ``difference``, ``access`` and ``warnings`` answer the offline commands. None knows any protocol: matchers come from
``gateway.protocols``.
"""
