"""The identity of the database."""

from sqlalchemy import select

from service.store.engine import Transaction
from service.store.schema import database_identity


def identity(tx: Transaction) -> str:
    """Random, 32 hexadecimal digits, made with the database; a copy of a database has the identity of the original."""
    return str(tx.execute(select(database_identity.c.id)).scalar_one())
