"""The two statements that SQLite and PostgreSQL share in words but SQLAlchemy spells apart."""

from functools import cache

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite

from service.store.engine import Transaction

Insert = postgresql.Insert | sqlite.Insert


def insert_or_replace(tx: Transaction, table: Table) -> Insert:
    """An INSERT that overwrites the row with the same primary key."""
    return _insert_or_replace(tx.dialect.name, table)


@cache  # it takes longer to build than to run, and every report needs it
def _insert_or_replace(dialect: str, table: Table) -> Insert:
    statement = _insert(dialect, table)
    others = [column.name for column in table.columns if not column.primary_key]
    keys = [column.name for column in table.primary_key]
    return statement.on_conflict_do_update(index_elements=keys, set_={name: statement.excluded[name] for name in others})


def insert_if_new(tx: Transaction, table: Table) -> Insert:
    """An INSERT that does nothing when the row would meet another in a unique column."""
    return _insert(tx.dialect.name, table).on_conflict_do_nothing()


def _insert(dialect: str, table: Table) -> Insert:
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
