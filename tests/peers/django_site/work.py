# SPDX-License-Identifier: Apache-2.0
"""What an application does with its models; prints what it found, so that two runs can be compared."""

from __future__ import annotations

import datetime
import uuid

import django

django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.db import IntegrityError, connection, models, transaction  # noqa: E402

from tests.peers.django_site.library.models import Author, Book, Tag  # noqa: E402


def fill() -> None:
    with transaction.atomic():
        ann = Author.objects.create(name="Ann", born=datetime.date(1970, 1, 2), profile={"city": "Oslo", "prizes": [1, 2]})
        bob = Author.objects.create(name="Bob")
        Tag.objects.bulk_create([Tag(word=word) for word in ("new", "old", "rare")])
        books = Book.objects.bulk_create([
            Book(title=f"Book {number}", author=ann if number % 2 else bob, price=number * 10 + 0.5, pages=[number, number + 1],
                 code=uuid.UUID(int=number), cover=bytes([number])) for number in range(20)])
        for book in books[:5]:
            book.tags.set(["new", "rare"])


def look() -> None:
    print(Book.objects.filter(author__name="Ann", price__lt=100).order_by("-price").values_list("title", "price", "pages", "code"))
    print(Author.objects.annotate(count=models.Count("books"), dearest=models.Max("books__price")).order_by("name").values())
    print([(book.title, book.author.name, [tag.word for tag in book.tags.order_by("word")]) for book in
           Book.objects.select_related("author").prefetch_related("tags").order_by("id")[:4]])
    print(Author.objects.filter(profile__city="Oslo", profile__prizes__contains=[2]).values_list("name", flat=True))
    print(Book.objects.filter(pages__contains=[3]).values_list("title", flat=True))
    print(Book.objects.filter(title__icontains="book 1", tags__word__in=["new"]).distinct().count())
    print(Book.objects.aggregate(models.Avg("price"), models.Sum("price")))
    rank = models.Window(models.functions.Rank(), partition_by="author", order_by="-price")
    print(list(Book.objects.annotate(rank=rank).order_by("id").values_list("rank", flat=True)))
    print([bytes(book.cover or b"") for book in Book.objects.order_by("id").iterator(chunk_size=6)])
    newest = Book.objects.filter(author=models.OuterRef("pk")).order_by("-id").values("title")[:1]
    print(Author.objects.annotate(newest=models.Subquery(newest)).order_by("name").values_list("name", "newest"))
    print(Book.objects.filter(models.Exists(Tag.objects.filter(book=models.OuterRef("pk")))).count())


def change() -> None:
    print(Book.objects.filter(author__name="Bob").update(price=models.F("price") + 1))
    with transaction.atomic():
        book = Book.objects.select_for_update().get(title="Book 3")
        book.title = "Book Three"
        book.save(update_fields=["title"])
    try:
        with transaction.atomic():
            Author.objects.create(name="Ann")
    except IntegrityError as error:
        print(type(error).__name__, getattr(error.__cause__, "sqlstate", None))
    with transaction.atomic():
        outer = transaction.savepoint()
        Book.objects.all().delete()
        transaction.savepoint_rollback(outer)
    print(Book.objects.bulk_update([Book(id=book.id, price=1) for book in Book.objects.order_by("id")[:3]], ["price"]))
    Book.objects.bulk_create([Book(title="Book 5", author=Author.objects.get(name="Ann"), price=3)], update_conflicts=True,
                             unique_fields=["author", "title"], update_fields=["price"])
    print(Author.objects.get_or_create(name="Cyd")[1], Author.objects.update_or_create(name="Cyd", defaults={"born": None})[1])
    print(Author.objects.get(name="Bob").delete())
    with connection.cursor() as cursor:
        cursor.execute("select count(*), min(title) from library_book where price > %s", [5])
        print(cursor.fetchone())


def accounts() -> None:
    user = User.objects.create_user("someone", "someone@example.org", "a password of these tests")
    print(user.check_password("a password of these tests"), user.has_perm("library.add_book"), User.objects.count())


if __name__ == "__main__":
    fill()
    look()
    change()
    accounts()
