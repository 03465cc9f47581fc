# SPDX-License-Identifier: Apache-2.0
"""Relations, constraints, indexes and PostgreSQL's own field types."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField, DateTimeRangeField
from django.contrib.postgres.indexes import GinIndex
from django.db import models


class Author(models.Model):
    name = models.CharField(max_length=80, unique=True)
    born = models.DateField(null=True)
    profile = models.JSONField(default=dict)


class Tag(models.Model):
    word = models.SlugField(primary_key=True)


class Book(models.Model):
    title = models.CharField(max_length=200, db_index=True, db_comment="as printed")
    author = models.ForeignKey(Author, on_delete=models.CASCADE, related_name="books")
    tags = models.ManyToManyField(Tag, blank=True)
    price = models.DecimalField(max_digits=8, decimal_places=2)
    pages = ArrayField(models.IntegerField(), default=list)
    lent = DateTimeRangeField(null=True)
    code = models.UUIDField(null=True, unique=True)
    cover = models.BinaryField(null=True)

    class Meta:
        constraints = (models.CheckConstraint(condition=models.Q(price__gte=0), name="price_not_negative"),
                       models.UniqueConstraint(fields=["author", "title"], name="once_per_author"))
        indexes = (GinIndex(fields=["pages"], name="by_pages"), models.Index(models.functions.Lower("title"), name="by_lower_title"))
