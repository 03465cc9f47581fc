# SPDX-License-Identifier: Apache-2.0
"""``lockgate schema pull RESOURCE``: save what the target's catalog says, for ``explain``, ``policy test`` and ``policy diff`` offline."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Any

from gateway.cli.options import add_config, add_json
from gateway.cli.output import emit
from gateway.config.load import Folder, load_folder
from gateway.errors import ConfigError
from gateway.protocols.postgres.catalog.load import load_builtin, load_catalog, to_json
from gateway.protocols.postgres.catalog.offline import dump
from gateway.protocols.postgres.roles import role_prefix
from gateway.protocols.postgres.settings import PostgresResource
from gateway.protocols.postgres.towards import open_catalog_connection


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser("schema", help="save a target's catalog for offline use", description=__doc__)
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    pull = verbs.add_parser("pull", help="read the catalog of one resource into policy/schemas/RESOURCE.json")
    pull.add_argument("resource", help="name of the resource")
    pull.add_argument("--database", help="one of its databases (default: its first)")
    pull.add_argument("--out", type=Path, help="another file than policy/schemas/RESOURCE.json")
    add_config(pull)
    add_json(pull)
    pull.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit status 0 when the file is written; 2 when the target cannot be read."""
    folder = load_folder(args.config)
    resource = next((one for one in folder.policy.resources if one.name == args.resource), None)
    if not isinstance(resource, PostgresResource):
        known = ", ".join(one.name for one in folder.policy.resources)
        raise ConfigError(f"no PostgreSQL resource is named {args.resource!r}; there are: {known or 'none'}")
    database = args.database or resource.offered[0]
    if database not in resource.offered:
        raise ConfigError(f"{resource.name} does not offer the database {database!r}; it offers: {', '.join(resource.offered)}")
    document = asyncio.run(pull(folder, resource, database))
    path: Path = args.out or folder.path / "policy" / "schemas" / f"{resource.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    draft.write_text(dump(document), encoding="utf-8")
    draft.replace(path)
    emit(args, {"resource": resource.name, "database": database, "file": str(path)},
         lambda said: f"{said['resource']}: catalog of {said['database']} written to {said['file']}")
    return 0


async def pull(folder: Folder, resource: PostgresResource, database: str) -> dict[str, Any]:
    """The catalog document of one database."""
    connection = await open_catalog_connection(folder, resource, database)
    try:
        catalog = await load_catalog(connection.query, await load_builtin(connection.query), database,
                                     every_schema=bool(role_prefix(folder, resource)))
        return to_json(catalog)
    finally:
        await connection.close()
