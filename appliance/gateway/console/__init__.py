# SPDX-License-Identifier: Apache-2.0
"""The console: the gateway's HTTP API for people, and the pages for machines that watch it.

    socket ─▶ listener   TLS, header and stall timeouts, connections counted per source
           ─▶ guard      requests in flight, security headers, problem+json (RFC 9457), who is asking
           ─▶ routes     the table of everything there is: path, who may, what it takes and gives
           ─▶ approvals, sessions, health

The OpenAPI document at ``/openapi.json`` is generated from the same table. A caller is a person with a bearer token;
cookies are not looked at, nothing is changed by a GET, there is no CORS: a browser cannot be made to vote.
"""
