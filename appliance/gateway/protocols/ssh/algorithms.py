# SPDX-License-Identifier: Apache-2.0
"""What is offered, both ways. AES-GCM first; ChaCha20 and CTR only where both sides keep to the strict key exchange, without which packets
can be cut out of the handshake (Terrapin, CVE-2023-48795). No CBC, no SHA-1, no GSSAPI, no compression (it tells lengths of secrets, and a
small packet can become a large one)."""

from __future__ import annotations

from typing import Any

KEY_EXCHANGES = ("mlkem768x25519-sha256", "curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp521", "ecdh-sha2-nistp384",
                 "ecdh-sha2-nistp256")
GCM = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
STRICT_ONLY = ("chacha20-poly1305@openssh.com", "aes256-ctr", "aes128-ctr")
MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com")
SIGNATURES = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "rsa-sha2-256", "rsa-sha2-512")

OFFERED: dict[str, Any] = {
    "kex_algs": list(KEY_EXCHANGES), "encryption_algs": [*GCM, *STRICT_ONLY], "mac_algs": list(MACS), "compression_algs": ["none"],
    "signature_algs": list(SIGNATURES),
}
"""For asyncssh, of a connection of either side."""
