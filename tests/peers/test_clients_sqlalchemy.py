# SPDX-License-Identifier: Apache-2.0
"""SQLAlchemy 2, unchanged, on psycopg and asyncpg: reflection, create_all, the ORM."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine.reflection import ObjectKind
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload

from gateway.testing.postgres import PostgresServer
from tests.peers.gateway import Appliance
from tests.peers.test_clients_asyncpg import straight, through

LISTS = ("get_table_names", "get_view_names", "get_materialized_view_names", "get_sequence_names", "get_enums", "get_domains",
         "get_foreign_table_names")
OF_A_TABLE = ("get_columns", "get_pk_constraint", "get_foreign_keys", "get_indexes", "get_unique_constraints", "get_check_constraints",
              "get_table_comment", "get_table_options")


def reflected(connection: sa.Connection) -> dict[str, str]:
    """Everything the inspector can say of the schemas, and what MetaData.reflect makes of it."""
    look: Any = sa.inspect(connection)
    found: dict[str, object] = {"schemas": look.get_schema_names(), "temporary": look.get_temp_table_names()}
    for schema in ("app", "public"):
        for method in LISTS:
            found[f"{method} {schema}"] = getattr(look, method)(schema=schema)
        for method in (name for name in dir(look) if name.startswith("get_multi_")):
            answer = getattr(look, method)(schema=schema, kind=ObjectKind.ANY)
            found[f"{method} {schema}"] = sorted((str(key), repr(value)) for key, value in answer.items())
    found["information_schema"] = look.get_columns("columns", schema="information_schema")
    for table in ("people", "items", "sales"):
        for method in OF_A_TABLE:
            found[f"{method} {table}"] = getattr(look, method)(table, schema="app")
    for view in ("happy", "totals"):
        found[view] = look.get_view_definition(view, schema="app")
    found["has"] = [look.has_table("people", schema="app"), look.has_table("people"), look.has_sequence("tickets", schema="app"),
                    look.has_index("people", "people_mood", schema="app"), look.has_schema("app"), look.has_schema("nope")]
    metadata = sa.MetaData()
    metadata.reflect(connection, schema="app", views=True)
    metadata.reflect(connection, schema="public", views=True)
    found["metadata"] = [(table.fullname, table.comment, [(c.name, repr(c.type), c.nullable, c.primary_key, str(c.server_default and 1))
                                                          for c in table.columns], len(table.constraints), len(table.indexes))
                         for table in metadata.sorted_tables]
    return {name: repr(value) for name, value in found.items()}


@contextmanager
def engine(url: str) -> Iterator[sa.Engine]:
    made = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    try:
        yield made
    finally:
        made.dispose()


def with_psycopg(url: str) -> dict[str, str]:
    with engine(url) as made, made.connect() as connection:
        return reflected(connection)


async def with_asyncpg(where: dict[str, Any]) -> dict[str, str]:
    url = sa.URL.create("postgresql+asyncpg", where["user"], where["password"], where["host"], where["port"], where["database"])
    made = create_async_engine(url, connect_args={"ssl": where["ssl"]})
    try:
        async with made.connect() as connection:
            return await connection.run_sync(reflected)
    finally:
        await made.dispose()


@pytest.mark.parametrize("which", ["system", "newest"])
async def test_reflection(request: pytest.FixtureRequest, which: str) -> None:
    server: PostgresServer = request.getfixturevalue("postgres" if which == "system" else "newest_postgres")
    gateway: Appliance = request.getfixturevalue("shop" if which == "system" else "newest_shop")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sa.exc.SAWarning)      # it knows neither composites nor ranges of one's own
        expected = with_psycopg(server.dsn("shop"))
        assert with_psycopg(gateway.dsn("shop-app", "orders-db/shop")) == expected
        assert await with_asyncpg(through(gateway)) == await with_asyncpg(straight(server))
    assert "people_mood" in expected["get_indexes people"] and "CHECK" not in expected["metadata"]


def test_reflection_under_masks(postgres: PostgresServer, gateway: Appliance) -> None:
    """Masks and detectors change nothing of what the catalog says."""
    def look(url: str) -> object:
        with engine(url) as made:
            inspector = sa.inspect(made)
            return [inspector.get_multi_columns().items(), inspector.get_view_definition("customer_v"), inspector.get_table_names()]

    assert repr(look(gateway.dsn())) == repr(look(postgres.dsn("orders")))


class Base(DeclarativeBase):
    pass


class Ticket(Base):
    __tablename__ = "sa_ticket"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(sa.String(50), index=True, comment="what it is about")
    kind: Mapped[str] = mapped_column(sa.Enum("a", "b", name="sa_kind"))
    lines: Mapped[list[Line]] = relationship(back_populates="ticket", cascade="all, delete-orphan")


class Line(Base):
    __tablename__ = "sa_line"
    id: Mapped[int] = mapped_column(primary_key=True)
    ticket_id: Mapped[int] = mapped_column(sa.ForeignKey("sa_ticket.id"))
    amount: Mapped[float | None]
    ticket: Mapped[Ticket] = relationship(back_populates="lines")


def works(made: sa.Engine) -> list[object]:
    """The ORM: insert, relations, update, savepoints, bulk, upsert, streaming, locking, delete."""
    found: list[object] = []
    with Session(made) as session:
        ticket = Ticket(title="x", kind="a", lines=[Line(amount=number) for number in range(5)])
        session.add(ticket)
        session.commit()
        found.append(len(session.scalars(sa.select(Ticket).options(selectinload(Ticket.lines))).one().lines))
        found.append(session.execute(sa.select(Ticket.title, sa.func.sum(Line.amount)).join(Line).group_by(Ticket.title)).all())
        ticket.title = "y"
        ticket.lines.pop()
        session.commit()
        found.append(session.scalar(sa.select(sa.func.count()).select_from(Line)))
        with session.begin_nested() as inner:
            session.add(Ticket(title="z", kind="b"))
            session.flush()
            inner.rollback()
        session.add_all([Ticket(title=str(number), kind="b") for number in range(30)])
        session.commit()
        session.execute(sa.update(Ticket).where(Ticket.title == "3").values(kind="a"))
        session.execute(sa.delete(Ticket).where(Ticket.title == "4"))
        upsert = insert(Ticket).values(id=1, title="q", kind="a").on_conflict_do_update(index_elements=["id"], set_={"title": "q"})
        session.execute(upsert)
        session.commit()
        found.append(session.scalars(sa.select(Ticket.title).order_by(Ticket.id).limit(3)).all())
        found.append(len(session.scalars(sa.select(Ticket).execution_options(yield_per=7)).all()))
        found.append(session.scalars(sa.select(Ticket).where(Ticket.id == 1).with_for_update()).one().title)
        session.delete(session.get(Ticket, 1))
        session.commit()
        found.append(session.scalar(sa.select(sa.func.count()).select_from(Ticket)))
    return found


@contextmanager
def tables(create: Callable[[], None], drop: Callable[[], None]) -> Iterator[None]:
    create()
    try:
        yield
    finally:
        drop()


def test_create_all_orm_drop_all(shop: Appliance, postgres: PostgresServer) -> None:
    """The tables by the grant for migrations, the rows by the one for applications."""
    with engine(postgres.dsn("shop")) as direct, engine(shop.dsn("migrations", "orders-db/shop")) as migrations, \
            engine(shop.dsn("shop-app", "orders-db/shop")) as application:
        with tables(lambda: Base.metadata.create_all(direct), lambda: Base.metadata.drop_all(direct)):
            expected = works(direct)
        with tables(lambda: Base.metadata.create_all(migrations), lambda: Base.metadata.drop_all(migrations)):
            assert works(application) == expected
        assert sa.inspect(direct).get_table_names() == ["plain"]
