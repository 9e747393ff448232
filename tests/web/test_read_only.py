"""A server on a store that is only read: the same pages, and no way to change anything."""

import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from playwright.sync_api import Browser, expect
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError
from starlette.testclient import TestClient

from service import operations
from service.domain.errors import NotADatabase, ReadOnly, SchemaTooOld, StoreUnavailable
from service.domain.records import Worker
from service.domain.states import WorkerState
from service.settings import Settings
from service.store import Store, open_store, queries
from service.store.migrate import check, require, upgrade
from service.web.app import create_app
from tests.web.api_documentation import operation
from tests.web.laboratory import HERE, TOKEN, Laboratory
from tests.web.problem import assert_problem
from tests.web.routes import changing_routes_of, routes_of

INSERT = text("INSERT INTO idempotency VALUES ('k', 'hash', NULL, 0, NULL)")
SHOWN = {
    "/": "digits",
    "/workers": "worker-1",
    "/studies/digits/trials/1": "Trial 1",
    "/studies/digits/best": "Train it",
    "/studies/digits": "90.00 %",
}
CHANGES = ("Pause", "Resume", "Stop", "Delete", "Queue", "Drain", "Cancel")
PAGES = ("/", "/workers", "/compare", "/studies/digits", "/studies/digits/best", "/studies/digits/trials/0", "/login")


@pytest.fixture
def shown(settings: Settings, lab: Laboratory) -> Iterator[TestClient]:
    """A dashboard on the laboratory's database, where a trial is complete."""
    lab.study()
    lab.finish(lab.claim(), 0.9)
    with closing(open_store(settings.database_url, read_only=True)) as store, client(store, settings) as opened:
        yield opened


def client(store: Store, settings: Settings) -> TestClient:
    return TestClient(create_app(store, settings), base_url=HERE, follow_redirects=False)


def test_every_request_that_may_change_something_is_refused(shown: TestClient, store: Store) -> None:
    before = [study.seq for study in store.read(queries.studies, 10)]
    for method, path in changing_routes_of(shown.app):  # type: ignore[arg-type]
        if path not in ("/login", "/logout"):
            problem = assert_problem(shown.request(method, path, json={}), 403, "read-only")
            assert "thaw serve" in problem["detail"], (method, path)
    assert_problem(shown.put("/nowhere"), 403, "read-only")
    assert [study.seq for study in store.read(queries.studies, 10)] == before


def test_every_address_that_shows_something_still_does(shown: TestClient) -> None:
    for method, path in routes_of(shown.app):  # type: ignore[arg-type]
        if method == "GET" and not path.endswith("/events"):
            assert shown.get(path).status_code < 500, path
    assert shown.get("/readyz").json() == {"status": "ready", "sweep_age_seconds": None}
    assert 'thawline_trials{state="complete"} 1.0' in shown.get("/metrics").text


def test_the_pages_say_that_nothing_can_be_changed(shown: TestClient, client: Callable[..., TestClient]) -> None:
    for path in PAGES:
        answer = shown.get(path)
        assert answer.status_code == 200
        assert '<html lang="en" data-read-only' in answer.text, path
    assert shown.get("/new").headers["location"] == "/"


def test_the_pages_of_a_server_say_nothing_of_the_kind(settings: Settings, store: Store) -> None:
    with client(store, settings) as served:
        for path in (*PAGES, "/new"):
            assert '<html lang="en">' in served.get(path).text, path


def test_the_token_is_asked_for_as_by_a_server(settings: Settings, lab: Laboratory) -> None:
    locked = settings.model_copy(update={"token": TOKEN})
    with closing(open_store(settings.database_url, read_only=True)) as store, client(store, locked) as shown:
        assert_problem(shown.get("/api/v1/studies"), 401, "unauthenticated")
        assert_problem(shown.post("/api/v1/studies"), 401, "unauthenticated")
        assert shown.post("/login", json={"token": TOKEN}).status_code == 204
        assert shown.get("/api/v1/studies").status_code == 200
        assert_problem(shown.post("/api/v1/studies", json={}, headers={"Origin": HERE}), 403, "read-only")


def test_what_a_server_writes_meanwhile_is_seen(shown: TestClient, lab: Laboratory) -> None:
    lab.finish(lab.claim(), 0.95)
    assert shown.get("/api/v1/studies/digits").json()["best"]["value"] == 0.95


@pytest.fixture
def dashboard(settings: Settings) -> Iterator[str]:
    """The address of `thaw dashboard` on the laboratory's database."""
    command = [sys.executable, "-P", "-m", "service.cli", "dashboard", "--database", settings.database_url, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found
        yield found.group()
        process.terminate()


@pytest.mark.browser
def test_no_page_offers_a_change_and_all_are_live(browser: Browser, dashboard: str, lab: Laboratory) -> None:
    now = time.time()
    worker = Worker(id="worker-1", host="box", pid=7, slots=2, devices=("cpu",), state=WorkerState.ALIVE, started_at=now, seen_at=now)
    operations.register_worker(lab.store, worker)
    lab.study()
    lab.finish(lab.claim(), 0.9)
    running = lab.claim()
    said: list[str] = []
    with browser.new_page(base_url=dashboard) as page:
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        for path, shown in SHOWN.items():
            page.goto(path)
            expect(page.locator("main")).to_contain_text(shown)
            expect(page.locator("#live")).to_have_text("live")
            offers = [page.get_by_text(re.compile(f"^{word}")) for word in CHANGES] + [page.locator("a[href^='/new']")]
            assert [one for offer in offers for one in offer.all() if one.is_visible()] == [], path
        lab.finish(running, 0.95)
        expect(page.locator("#figures")).to_contain_text("95.00 %")
        page.goto("/docs")
        for method, path, tries in (("get", "/api/v1/studies", 1), ("post", "/api/v1/study-check", 0)):
            documented = operation(page, method, path)
            documented.locator(".opblock-summary-control").click()
            expect(documented.get_by_text("Responses")).to_be_visible()
            expect(documented.get_by_role("button", name="Try it out")).to_have_count(tries)
    assert said == []


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"migrated_{request.param}"))


def test_neither_the_store_nor_the_database_takes_a_write(database_url: str) -> None:
    with closing(open_store(database_url, read_only=True)) as store:
        require(store)
        with pytest.raises(ReadOnly), store.writing():
            pass
        with store.engine.connect() as raw, pytest.raises(DBAPIError, match=r"read-?only"):
            raw.execute(INSERT)
    with closing(open_store(database_url)) as store, store.writing() as tx:
        tx.execute(INSERT)


def test_a_role_that_may_only_read_is_enough(migrated_postgresql: str, settings: Settings) -> None:
    with psycopg.connect(migrated_postgresql, autocommit=True) as owner:
        owner.execute("CREATE ROLE thaw_reader LOGIN IN ROLE pg_read_all_data")
    address = make_url(migrated_postgresql).set(username="thaw_reader", password=None).render_as_string()
    with closing(open_store(address, read_only=True)) as store, client(store, settings) as shown:
        require(store)
        assert shown.get("/api/v1/studies").json()["studies"] == []
        assert shown.get("/metrics").status_code == 200
    with psycopg.connect(migrated_postgresql, autocommit=True) as owner:
        owner.execute("DROP ROLE thaw_reader")


def test_a_database_without_our_tables_or_with_older_ones_is_told_apart(empty_url: str) -> None:
    upgrade(empty_url)
    with closing(open_store(empty_url)) as store, store.writing() as tx:
        tx.execute(text("UPDATE thaw_schema SET version_num = '0001'"))
    with closing(open_store(empty_url, read_only=True)) as store, pytest.raises(SchemaTooOld, match="thaw db upgrade"):
        require(store)
    with closing(open_store(empty_url)) as store, store.writing() as tx:
        tx.execute(text("DROP TABLE thaw_schema"))
    with closing(open_store(empty_url, read_only=True)) as store, pytest.raises(NotADatabase):
        require(store)


def test_reading_leaves_the_file_and_its_folder_as_they_are(tmp_path: Path, migrated_sqlite: str) -> None:
    file = tmp_path / "thawline.db"
    before = file.read_bytes(), file.stat().st_mtime_ns, sorted(tmp_path.iterdir())
    with closing(open_store(migrated_sqlite, read_only=True)) as store:
        require(store)
        assert store.read(queries.studies, 10) == []
    assert (file.read_bytes(), file.stat().st_mtime_ns, sorted(tmp_path.iterdir())) == before


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with closing(open_store(f"sqlite:///{tmp_path}/none/x.db", read_only=True)) as store, pytest.raises(NotADatabase, match="no such file"):
        require(store)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_none_of_sqlites_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("a letter\n" * 1000)
    with closing(open_store(f"sqlite:///{tmp_path}/x.db", read_only=True)) as store, pytest.raises(NotADatabase):
        require(store)


def test_a_change_that_a_killed_server_left_half_made_is_told(tmp_path: Path, migrated_sqlite: str) -> None:
    die_half_way(tmp_path / "thawline.db")
    with closing(open_store(migrated_sqlite, read_only=True)) as store, pytest.raises(StoreUnavailable, match="thaw db check"):
        require(store)
    assert check(migrated_sqlite)
    with closing(open_store(migrated_sqlite, read_only=True)) as store:
        require(store)


def die_half_way(file: Path) -> None:
    """Change the file in a process that is killed when a part of the change is on the disk."""
    program = (
        "import os, sqlite3; connection = sqlite3.connect(os.environ['FILE'], isolation_level=None);"
        "connection.execute('PRAGMA journal_mode = TRUNCATE'); connection.execute('PRAGMA cache_size = 5');"
        "connection.execute('CREATE TABLE filler AS SELECT randomblob(3000) AS a FROM sqlite_schema AS one, sqlite_schema AS two');"
        "connection.execute('BEGIN IMMEDIATE'); connection.execute('UPDATE filler SET a = randomblob(3000)'); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", program], env={**os.environ, "FILE": str(file)}).returncode == -9
    assert file.with_name(f"{file.name}-journal").stat().st_size > 0


def write_ahead(file: Path) -> sqlite3.Connection:
    """The file in WAL mode, and a writer that holds it open."""
    writer = sqlite3.connect(file, isolation_level=None)
    assert writer.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
    return writer


def test_a_write_ahead_log_is_read_with_the_file(tmp_path: Path, migrated_sqlite: str) -> None:
    with closing(write_ahead(tmp_path / "thawline.db")) as writer, closing(open_store(migrated_sqlite, read_only=True)) as store:
        for number in range(2):
            writer.execute(f"INSERT INTO idempotency VALUES ('{number}', 'hash', NULL, 0, NULL)")  # noqa: S608
            with store.reading() as tx:
                assert tx.scalar(text("SELECT count(*) FROM idempotency")) == number + 1


def test_a_file_in_wal_mode_on_a_read_only_medium_is_read_as_it_is(
    tmp_path: Path, migrated_sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_ahead(tmp_path / "thawline.db").close()
    real = os.statvfs
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result((*real(path)[:8], os.ST_RDONLY, *real(path)[9:])))
    with closing(open_store(migrated_sqlite, read_only=True)) as store:
        require(store)
        assert [one.name for one in tmp_path.iterdir()] == ["thawline.db"]  # SQLite would have made its index of the log


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE study SET confirmation = '{}'",
        "UPDATE trial SET result = '{'",
        "UPDATE trial SET result = '[1]', params = '7'",
        "UPDATE trial SET checkpoints = '[{}]'",
        "UPDATE trial SET queued_at = 1e300",
        'UPDATE trial SET metrics = \'{"accuracy": "odd"}\'',
        "UPDATE study SET created_at = 'yesterday'",
        "UPDATE event SET body = 'x'",
        "UPDATE worker SET devices = '5'",
    ],
)
def test_a_foreign_file_with_odd_values_gives_no_server_error(settings: Settings, lab: Laboratory, damage: str) -> None:
    lab.study()
    lab.finish(lab.claim(), 0.9)
    with lab.store.writing() as tx:
        for trigger in tx.scalars(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).all():
            tx.execute(text(f"DROP TRIGGER {trigger}"))
        tx.execute(text(damage.replace(":", "\\:")))
    with closing(open_store(settings.database_url, read_only=True)) as store:
        opened = TestClient(create_app(store, settings), base_url=HERE, raise_server_exceptions=False)
        for method, path in routes_of(opened.app):  # type: ignore[arg-type]
            if method == "GET" and not path.endswith("/events"):
                assert opened.get(path).status_code != 500, (path, opened.get(path).text)


def test_views_virtual_tables_and_computed_columns_in_place_of_tables_are_refused(migrated_sqlite: str, tmp_path: Path) -> None:
    file = tmp_path / "thawline.db"
    with closing(sqlite3.connect(file)) as database:
        database.execute("DROP TABLE worker")
        database.execute(
            "CREATE VIEW worker AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x AS id, x AS host FROM n"
        )
        database.execute("ALTER TABLE idempotency ADD COLUMN odd TEXT GENERATED ALWAYS AS (hex(zeroblob(1000000)))")
        database.commit()
    with closing(open_store(migrated_sqlite, read_only=True)) as store, pytest.raises(NotADatabase, match="idempotency, worker"):
        require(store)


def test_a_foreign_files_schema_is_not_trusted(migrated_sqlite: str) -> None:
    with closing(open_store(migrated_sqlite, read_only=True)) as store, store.reading() as tx:
        assert tx.scalar(text("PRAGMA trusted_schema")) == 0
        with pytest.raises(DBAPIError):
            tx.scalar(text("SELECT length(hex(zeroblob(100000000)))"))
