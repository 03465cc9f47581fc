# SPDX-License-Identifier: Apache-2.0
"""The target behind the booted gateway, run inside the hypervisor's network namespace until standard input ends.

python -m tests.terraform.database ADDRESS GATEWAY PASSWORD-FILE CERTIFICATE KEY CA
"""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

from gateway.testing.certificates import Pair
from gateway.testing.postgres import PostgresServer

PORT = 5432


def main(address: str, gateway: str, password: str, certificate: str, key: str, ca: str) -> None:
    settings = {"listen_addresses": f"127.0.0.1,{address}"}
    with PostgresServer(tls=Pair(Path(certificate), Path(key), Path(ca)), settings=settings, port=PORT) as server:
        rules = server.folder / "d" / "pg_hba.conf"
        rules.write_text(f"{rules.read_text()}hostssl orders lockgate {gateway}/32 scram-sha-256\n")
        server.execute("select pg_reload_conf()")
        server.create_role("lockgate", Path(password).read_text())
        server.create_database("orders")
        server.execute(files("gateway.testing").joinpath("orders.sql").read_text(), "orders")
        server.execute("grant select on all tables in schema public to lockgate", "orders")
        print("ready", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
