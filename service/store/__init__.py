"""The database: `Store`, the tables, and `queries` that read them. Only this package imports SQLAlchemy."""

from service.store import queries
from service.store.engine import Store, Transaction, open_store, without_password

__all__ = ["Store", "Transaction", "open_store", "queries", "without_password"]
