"""Creates, upgrades and checks the schema of a database."""

import sqlite3
from importlib.resources import files

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

import migrations
from service.domain.errors import NotADatabase, SchemaTooNew, SchemaTooOld, StoreUnavailable
from service.store.drivers import READ_TIMEOUT_SECONDS, computed_tables, set_read_timeout
from service.store.engine import Store, Transaction, open_store
from service.store.schema import VERSION_TABLE, metadata

ADVISORY_LOCK = 0x7468_6177  # "thaw"
UNREADABLE = (
    "SQLite cannot read the file without changing it. Either a killed server left an unfinished transaction, which `thaw db check` rolls"
    " back, or the file is in WAL mode in a folder without write permission."
)
MIGRATION_SECONDS = 300  # that a server waits for the migration of another one


def upgrade(url: str) -> None:
    """Upgrade the database to this code's schema in one transaction. Concurrent callers wait for the first one.

    Raises SchemaTooNew, StoreUnavailable, InvalidInput for a wrong URL.
    """
    store = open_store(url)
    try:
        with store.writing() as tx:
            _lock_migrations(store, tx)
            if not _is_current(tx):
                config = _config()
                config.attributes["connection"] = tx
                command.upgrade(config, "head")
    finally:
        store.close()


def check(url: str) -> bool:
    """Whether the database has this code's schema. Raises SchemaTooNew, StoreUnavailable, InvalidInput for a wrong URL."""
    store = open_store(url)
    try:
        with store.reading() as tx:
            return _is_current(tx)
    finally:
        store.close()


def require(store: Store) -> None:
    """Check without a write that the store has this code's schema. Raises NotADatabase, SchemaTooOld, SchemaTooNew, StoreUnavailable."""
    if store.file is not None and not store.file.is_file():
        raise NotADatabase("There is no such file.")
    try:
        with store.reading() as tx:
            if not inspect(tx).has_table(VERSION_TABLE):
                raise NotADatabase
            _refuse_computed(store, tx)
            if not _is_current(tx):
                raise SchemaTooOld("The database has an older schema; run `thaw db upgrade` on it first.")
    except StoreUnavailable as error:
        if store.embedded:
            raise StoreUnavailable(UNREADABLE) from error
        raise


def _refuse_computed(store: Store, tx: Transaction) -> None:
    driver = tx.connection.dbapi_connection
    if store.embedded and isinstance(driver, sqlite3.Connection) and (odd := computed_tables(driver, [*metadata.tables, VERSION_TABLE])):
        raise NotADatabase(f"This is not a Thawline database: {', '.join(odd)} should be plain tables without computed columns.")


def _lock_migrations(store: Store, tx: Transaction) -> None:
    """Serialise migrations. SQLite has one writer at a time; on PostgreSQL an advisory lock is held until the transaction ends."""
    if not store.embedded:
        for limit in ("lock_timeout", "statement_timeout"):
            tx.execute(text(f"SET LOCAL {limit} = '{MIGRATION_SECONDS}s'"))
        set_read_timeout(tx.connection.dbapi_connection, MIGRATION_SECONDS + READ_TIMEOUT_SECONDS)
        tx.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})


def _is_current(tx: Transaction) -> bool:
    if not inspect(tx).has_table(VERSION_TABLE):
        return False
    script = ScriptDirectory.from_config(_config())
    found = MigrationContext.configure(tx, opts={"version_table": VERSION_TABLE}).get_current_revision()
    if found is not None and found not in {revision.revision for revision in script.walk_revisions()}:
        raise SchemaTooNew(f"The database has schema {found}, which is newer than this version of Thawline; install a newer version.")
    return found == script.get_current_head()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(files(migrations)).replace("%", "%%"))
    return config
