"""The store: an SQLite or PostgreSQL database with reading and writing transactions."""

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, NoSuchModuleError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from search_spaces import Fault
from service.domain.errors import DiskFull, InvalidInput, NotADatabase, ReadOnly, StoreUnavailable
from service.store import drivers
from service.store.codec import to_json
from service.store.drivers import ReadTimeoutConnection, begin_immediate

Transaction = Connection

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

BUSY_MILLISECONDS = 10_000
POSTGRESQL_LIMITS = {"lock_timeout": 5_000, "statement_timeout": 30_000, "idle_in_transaction_session_timeout": 10_000}  # milliseconds
DEAD_PEER = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 15_000}  # s, s, count, ms
SAFE_WAL = ((3, 51, 3), (3, 50, 7), (3, 44, 6))  # SQLite releases, one a branch, with the fix of a WAL corruption by concurrent writers
TRANSIENT_SQLITE = frozenset(
    {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR,
     sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_NOMEM}
)  # fmt: skip
DISK_FULL = "53100"  # SQLSTATE of PostgreSQL
OUTAGES = ("25006", "25P03", "25P04")  # SQLSTATEs of a read-only server and ended sessions, which psycopg reports as InternalError


class Store:
    """A database and its transactions. Thread-safe. A forked process opens its own store."""

    def __init__(self, engine: Engine, *, read_only: bool = False) -> None:
        self.engine = engine
        self.read_only = read_only
        self._readers = engine.execution_options(
            **({"begin": "BEGIN"} if self.embedded else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True})
        )

    @property
    def embedded(self) -> bool:
        """Whether the database is SQLite: a file used on one machine."""
        return self.engine.dialect.name == "sqlite"

    @property
    def file(self) -> Path | None:
        """The SQLite file; None for PostgreSQL."""
        return Path(self.engine.url.database) if self.embedded and self.engine.url.database else None

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """A read-only transaction on one snapshot of the database. Raises StoreUnavailable."""
        with _domain_errors(), self._readers.begin() as tx:
            yield tx

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """A transaction that commits at the end of the block and rolls back on an exception. Only operations and migrations open one.

        Raises StoreUnavailable, ReadOnly.
        """
        if self.read_only:
            raise ReadOnly
        with _domain_errors(), self.engine.begin() as tx:
            yield tx

    def read(self, query: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one query in its own reading transaction: `store.read(trials.page, study.id, limit=50)`."""
        with self.reading() as tx:
            return query(tx, *args, **kwargs)

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def open_store(url: str, *, read_only: bool = False) -> Store:
    """The store at an SQLAlchemy URL: `sqlite:///file` or `postgresql://…`. Opens no connection. Raises InvalidInput.

    `read_only`: `writing` raises ReadOnly, the connections refuse writes as well, and no file or folder is created.
    """
    parsed = _parsed(url)
    engine = _sqlite if parsed.get_backend_name() == "sqlite" else _postgresql
    return Store(engine(parsed, read_only), read_only=read_only)


def without_password(url: str) -> str:
    """The URL with masked passwords. Raises InvalidInput."""
    parsed = _parsed(url)
    masked = {name: "***" for name in parsed.query if name.lower().endswith("password")}
    return parsed.update_query_dict(masked).render_as_string(hide_password=True)


def journal_mode(version: tuple[int, ...]) -> str:
    """WAL if this SQLite version has the fix for concurrent writers, else TRUNCATE."""
    branch_is_safe = any(version[:2] == least[:2] and version >= least for least in SAFE_WAL)
    return "WAL" if version >= SAFE_WAL[0] or branch_is_safe else "TRUNCATE"


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, NoSuchModuleError):
        parsed = None
    if parsed is None or parsed.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql", "postgres", "postgresql+psycopg"):
        raise InvalidInput(
            [Fault(("database_url",), "invalid_database_url", "write sqlite:///file or postgresql://user@host/database")]
        ) from None
    return parsed


def _sqlite(url: URL, read_only: bool) -> Engine:
    if not url.database or url.database == ":memory:":
        raise InvalidInput([Fault(("database_url",), "no_database_file", "name a file: sqlite:///file")])
    file = Path(url.database).expanduser().absolute()
    if not read_only:
        _make_folder(file.parent)
    engine = create_engine(
        url.set(database=str(file)),
        **({"creator": partial(drivers.connect, file, BUSY_MILLISECONDS)} if read_only else {}),
        connect_args={"timeout": BUSY_MILLISECONDS / 1000},
        json_serializer=to_json,
        pool_size=16,
        pool_use_lifo=True,  # reuses the connection whose page cache is warm
    )
    event.listen(engine, "connect", drivers.prepare if read_only else _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(f"The folder of the database cannot be created: {error.strerror}.") from error


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # the driver begins no transaction; the "begin" event does
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")
    _set_journal_mode(connection)


def _set_journal_mode(connection: sqlite3.Connection) -> None:
    """Set the journal mode of a new file. An existing file keeps its mode: a process with another SQLite version may be using it."""
    wanted = journal_mode(sqlite3.sqlite_version_info)
    if connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
        if wanted != "WAL":
            _warn_of_wal()
    elif connection.execute("PRAGMA page_count").fetchone()[0] == 0:
        connection.execute(f"PRAGMA journal_mode = {wanted}")
    else:
        connection.execute("PRAGMA journal_mode = TRUNCATE")  # only for this connection: the file records nothing but WAL or not


@cache
def _warn_of_wal() -> None:
    """Log the warning once in a process."""
    log.warning(
        "the database is in WAL mode, and SQLite %s can corrupt such a file under concurrent writers; SQLite %s fixes that."
        " Run all processes with the newer version, or stop them and run `PRAGMA journal_mode = TRUNCATE` on the file",
        sqlite3.sqlite_version,
        ".".join(map(str, SAFE_WAL[0])),
    )


def _begin_sqlite(connection: Connection) -> None:
    if (begin := connection.get_execution_options().get("begin")) is not None:
        connection.exec_driver_sql(begin)
    else:
        driver: Any = connection.connection.dbapi_connection
        try:
            begin_immediate(driver, BUSY_MILLISECONDS)
        except sqlite3.OperationalError as error:
            raise OperationalError("BEGIN IMMEDIATE", None, error) from error


def _postgresql(url: URL, read_only: bool) -> Engine:
    settings = {**POSTGRESQL_LIMITS, "synchronous_commit": "on"}  # overrides the defaults of the database and the role
    if read_only:
        settings["default_transaction_read_only"] = "on"
    flags = " ".join(f"-c {name}={value}" for name, value in settings.items())
    options: dict[str, Any] = {"options": flags, "connect_timeout": 5, **DEAD_PEER}
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        connect_args=options,
        json_serializer=to_json,
        pool_pre_ping=True,
        pool_timeout=10,
        isolation_level="READ COMMITTED",
    )
    event.listen(engine, "do_connect", _connect_postgresql)
    event.listen(engine, "begin", _begin_postgresql)
    return engine


def _connect_postgresql(_dialect: object, _record: object, arguments: Any, options: Any) -> ReadTimeoutConnection:
    return ReadTimeoutConnection.connect(*arguments, **options)


def _begin_postgresql(connection: Connection) -> None:
    """Reset the flag that SQLAlchemy leaves on a connection after a read-only transaction.

    With False, psycopg begins READ WRITE transactions explicitly, which overrides the server's default_transaction_read_only.
    """
    driver: Any = connection.connection.dbapi_connection
    if driver.read_only is False:
        driver.read_only = None


@contextmanager
def _domain_errors() -> Iterator[None]:
    """Translate errors of SQLAlchemy and the drivers into those of service.domain.errors."""
    try:
        yield
    except PoolTimeout as error:
        raise StoreUnavailable("Every connection to the database is in use; try again.") from error
    except DBAPIError as error:
        if _is_full(error):
            raise DiskFull("The database's disk is full; free some space, and try again.") from error
        if _is_transient(error):
            raise StoreUnavailable("The database does not answer; try again.") from error
        if getattr(error.orig, "sqlite_errorcode", 0) == sqlite3.SQLITE_NOTADB:
            raise NotADatabase from error
        raise


def _is_full(error: DBAPIError) -> bool:
    """Whether the write failed because the disk is full. The transaction has been rolled back."""
    if isinstance(error.orig, sqlite3.Error):
        return getattr(error.orig, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL
    return getattr(error.orig, "sqlstate", None) == DISK_FULL


def _is_transient(error: DBAPIError) -> bool:
    """Whether a retry may succeed: after an outage, a lock timeout, a full disk or a deadlock."""
    if isinstance(error.orig, sqlite3.Error):
        return getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in TRANSIENT_SQLITE
    outage = error.connection_invalidated or getattr(error.orig, "sqlstate", None) in OUTAGES
    return outage or isinstance(error, OperationalError | InterfaceError)
