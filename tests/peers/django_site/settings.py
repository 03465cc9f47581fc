# SPDX-License-Identifier: Apache-2.0
"""Where the database is comes from the environment, as in a deployed project."""

from __future__ import annotations

import os

SECRET_KEY = "only for these tests"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.postgres", "tests.peers.django_site.library"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": {
    "ENGINE": "django.db.backends.postgresql", "NAME": os.environ["PGDATABASE"], "USER": os.environ["PGUSER"],
    "PASSWORD": os.environ["PGPASSWORD"], "HOST": os.environ["PGHOST"], "PORT": os.environ["PGPORT"],
    "OPTIONS": {"server_side_binding": os.environ.get("BINDING") == "server"},
}}
