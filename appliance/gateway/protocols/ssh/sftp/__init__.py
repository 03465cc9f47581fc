# SPDX-License-Identifier: Apache-2.0
"""SFTP version 3 under policy: draft-ietf-secsh-filexfer-02 with the extensions of OpenSSH's PROTOCOL, section 4.

The nouns: a *request* and its *answer* (``messages``), framed as *packets* (``codec``); a *plan* (``machine``) is what one request comes
to: questions of the gateway's own to the target (which path is meant, links followed), one decision, the request as it is forwarded, the
answer. A *handle* (``handles``) is the gateway's own name for what the target opened; it stays bound to the decision of its OPEN.
``transfer`` counts and hashes what passes through a handle, ``watch`` looks for what is masked in what is read. ``wire``, ``moving`` and
``proxy`` do the I/O: ids and questions, READ and WRITE quickly, and the plans; ``questions`` are asked for scp and rsync.
"""

from __future__ import annotations
