"""A server on a fresh SQLite store."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from starlette.testclient import TestClient

from service.settings import Settings
from service.store import Store, open_store
from service.store.migrate import upgrade
from service.web.app import create_app
from tests.web.laboratory import HERE, TOKEN, Laboratory
from tests.web.server import Served, running

MANY = 10_000  # requests a second, for tests that ask each route in each way


@pytest.fixture(scope="session")
def fresh_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with an up-to-date schema and no rows."""
    file = tmp_path_factory.mktemp("schema") / "fresh.db"
    upgrade(f"sqlite:///{file}")
    return file


@pytest.fixture
def settings(tmp_path: Path, fresh_database: Path) -> Settings:
    shutil.copy(fresh_database, tmp_path / "thawline.db")
    return Settings(home=tmp_path)


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    store = open_store(settings.database_url)
    yield store
    store.close()


@pytest.fixture
def lab(store: Store) -> Laboratory:
    return Laboratory(store)


@pytest.fixture
def client_of(store: Store) -> Iterator[Callable[[Settings], TestClient]]:
    """Clients of apps with settings of the test's own."""
    clients: list[TestClient] = []

    def make(settings: Settings) -> TestClient:
        client = TestClient(create_app(store, settings), base_url=HERE, follow_redirects=False)
        client.__enter__()
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(client_of: Callable[[Settings], TestClient], settings: Settings) -> TestClient:
    """A server without a token."""
    return client_of(settings)


@pytest.fixture
def locked(client_of: Callable[[Settings], TestClient], settings: Settings) -> TestClient:
    """A server that asks for TOKEN; the client does not know it."""
    return client_of(settings.model_copy(update={"token": TOKEN, "writes_per_second": MANY}))


@pytest.fixture
def served(settings: Settings) -> Iterator[Served]:
    """A real server on the test's store."""
    with running(settings.home) as server:
        yield server


@pytest.fixture(scope="session")
def live_home(tmp_path_factory: pytest.TempPathFactory, fresh_database: Path) -> Path:
    home = tmp_path_factory.mktemp("live")
    shutil.copy(fresh_database, home / "thawline.db")
    return home


@pytest.fixture(scope="session")
def live(live_home: Path) -> Iterator[Served]:
    """A real server that tests share; each takes a study name of its own."""
    with running(live_home, THAW_HEARTBEAT_SECONDS="60") as server:  # the laboratory's leases have no worker that renews them
        yield server


@pytest.fixture
def live_lab(live_home: Path, live: Served) -> Iterator[Laboratory]:
    """The laboratory of the live server's store. What a test leaves open ends with it."""
    store = open_store(f"sqlite:///{live_home / 'thawline.db'}")
    lab = Laboratory(store)
    yield lab
    lab.stop_all()
    store.close()


@pytest.fixture(scope="module")  # no longer: while Playwright runs, its thread can run no other event loop
def browser(browser_path: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=browser_path, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, live: Served) -> Iterator[Page]:
    """A page that says nothing on its console, opens no dialog of its own, and asks nobody but the server."""
    page = browser.new_page(base_url=live.address)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.on("request", lambda asked: None if asked.url.removeprefix("blob:").startswith(live.address) else complaints.append(asked.url))
    yield page
    page.close()
    assert complaints == []
