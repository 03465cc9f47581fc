# SPDX-License-Identifier: Apache-2.0
"""Who is calling: a token becomes an ``Identity`` or a refusal, never anything between.

``keys`` reads a JWKS (RFC 7517) and says which key fits a token; ``remote_keys`` keeps the key sets a connected site
fetches. ``token`` takes a compact JWS (RFC 7515) apart, checks the signature through PyJWT and the claims of RFC 7519.
``match`` compares claims with the identity entries of the policy. ``revocation`` reads the revoked list, ``replay``
remembers the tokens of ``single_use`` issuers, ``clock`` is a time that never runs backwards. ``authenticate`` joins them.
``certificate`` reads client certificates of TLS, ``ssh_certificate`` what the gateway's own SSH certificates say of their holder.

Only ``remote_keys`` and ``replay`` do I/O; neither clock nor socket is touched anywhere else.
"""
