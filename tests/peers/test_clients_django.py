# SPDX-License-Identifier: Apache-2.0
"""Django 5, unchanged, on psycopg: migrations by one identity, the ORM by another, inspectdb; compared with a direct connection."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.testing.postgres import PostgresServer
from tests.peers.clients import direct
from tests.peers.gateway import Appliance

pytestmark = pytest.mark.usefixtures("shop_made_anew")

ROOT = Path(__file__).parents[2]
SITE = "tests.peers.django_site"


def run(environment: Mapping[str, str], *words: str) -> str:
    """``python -m …`` with the project's settings; what it printed."""
    variables = {**environment, "PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": f"{SITE}.settings", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-m", *words], env=variables, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def django(environment: Mapping[str, str], *words: str) -> str:
    return run(environment, "django", *words)


def everything(migrations: Mapping[str, str], application: Mapping[str, str]) -> dict[str, str]:
    """The project's life: migrated, used, looked at, migrated back."""
    said = {"migrate": django(migrations, "migrate", "--no-color")}
    try:
        said["plan"] = django(migrations, "showmigrations", "--no-color")
        said["work"] = run(application, f"{SITE}.work")
        said["inspectdb"] = django(application, "inspectdb", "--include-views", "--include-partitions")
        said["check"] = django(application, "check", "--database", "default")
        said["no changes"] = django(application, "makemigrations", "--check", "--dry-run")
    finally:
        for app in ("library", "auth", "contenttypes"):
            said[f"back {app}"] = django(migrations, "migrate", "--no-color", app, "zero")
    return said


@pytest.mark.parametrize("binding", ["client", "server"])
@pytest.mark.parametrize("which", ["system", "newest"])
def test_migrations_orm_and_inspectdb(request: pytest.FixtureRequest, which: str, binding: str) -> None:
    server: PostgresServer = request.getfixturevalue("postgres" if which == "system" else "newest_postgres")
    gateway: Appliance = request.getfixturevalue("shop" if which == "system" else "newest_shop")
    straight = {**direct(server, "shop"), "BINDING": binding}
    migrations = {**gateway.client_variables("migrations", "orders-db/shop"), "BINDING": binding}
    application = {**gateway.client_variables("shop-app", "orders-db/shop"), "BINDING": binding}
    expected = everything(straight, straight)
    try:
        said = everything(migrations, application)
    finally:
        server.execute("drop table if exists django_migrations", "shop")
    assert said == expected
    assert "class LibraryBook(models.Model)" in expected["inspectdb"] and "IntegrityError 23505" in expected["work"]
