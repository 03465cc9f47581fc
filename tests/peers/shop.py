# SPDX-License-Identifier: Apache-2.0
"""The gateway that client programs are tried on: two databases, and an identity per client with the grant that docs/clients.md gives."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.testing.appliance import Appliance
from gateway.testing.postgres import PostgresServer

SHOP_SQL = Path(__file__).with_name("shop.sql").read_text()
PAGE = Path(__file__).parents[2] / "docs" / "clients.md"

IDENTITIES = """identities:
  - {name: shop-app, issuer: ci, match: {sub: "service:shop-app"}, owner: dana}
  - {name: bench, issuer: ci, match: {sub: "service:bench"}, owner: dana}
  - {name: dump, issuer: ci, match: {sub: "service:dump"}, owner: dana}
  - {name: migrations, issuer: ci, match: {sub: "service:migrations"}, owner: dana}
"""


def make_shop(server: PostgresServer, name: str = "shop") -> None:
    """A database with one of nearly everything."""
    server.execute(f'drop database if exists "{name}" with (force)')
    server.create_database(name)
    server.execute(SHOP_SQL, name)


def grants() -> dict[str, str]:
    """The grants of docs/clients.md by file name, exactly as a reader copies them."""
    found = re.findall(r"```yaml\n# (policy/grants/\S+\.yaml)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return dict(found)


def serve_shop(appliance: Appliance) -> None:
    """What ``running(change=…)`` does to the folder: both databases, an identity for each, the page's grants."""
    appliance.rewrite("policy/resources.yaml", {"database: orders ": "databases: [orders, shop] "})
    (appliance.folder / "policy" / "clients.yaml").write_text(IDENTITIES)
    for name, text in grants().items():
        (appliance.folder / name).write_text(text)
