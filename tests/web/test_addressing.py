"""Where the server is found: below a proxy's prefix, by HEAD, with a slash at the end of a path."""

import http.client
import re
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI
from playwright.sync_api import Browser, Page, expect
from starlette.testclient import TestClient

from service.client import Client
from service.settings import OWN_PATHS, Settings
from service.store import Store, open_store
from service.web import SAFE_METHODS
from service.web.app import create_app
from tests.web.api_documentation import execute
from tests.web.laboratory import HERE, TOKEN, Laboratory, study_document
from tests.web.problem import assert_problem
from tests.web.raw import send_raw
from tests.web.routes import routes_of
from tests.web.server import Served, running

STATIC = Path(__file__).resolve().parents[2] / "service/web/static"
PREFIX = "/user/ann%40lab/proxy/8000"
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding"}


@pytest.fixture
def below(store: Store, settings: Settings) -> TestClient:
    """A server that is shown below a prefix."""
    app = create_app(store, settings.model_copy(update={"root_path": PREFIX, "token": TOKEN, "writes_per_second": 10_000}))
    return TestClient(app, base_url=HERE, follow_redirects=False)


BEARER = {"authorization": f"Bearer {TOKEN}"}


@pytest.mark.parametrize("passed_on", ["", PREFIX])
def test_what_a_prefix_is_part_of(below: TestClient, lab: Laboratory, passed_on: str) -> None:
    """Whether the proxy removes the prefix or passes it on."""
    lab.study()
    made = below.post(f"{passed_on}/api/v1/studies", json=study_document("two"), headers=BEARER)
    assert made.headers["location"] == f"{PREFIX}/api/v1/studies/{made.json()['id']}"
    page = below.get(f"{passed_on}/studies/two", headers=BEARER).text
    assert f'src="{PREFIX}/static/study.js"' in page and f'href="{PREFIX}/workers"' in page
    assert not re.findall(rf'(?:href|src|action)="/(?!{PREFIX[1:]}/)[^"]*', page)
    figure = below.get(f"{passed_on}/figure", headers=BEARER).text
    assert f'src="{PREFIX}/static/figure.js"' in figure and f'src="{PREFIX}/plotly.js' in figure
    docs = below.get(f"{passed_on}/docs", headers=BEARER).text
    assert f'src="{PREFIX}/docs/swagger-ui.js"' in docs and f'href="{PREFIX}/docs/swagger-ui.css"' in docs
    login = below.get(f"{passed_on}/studies/two?figure=slice", headers={"accept": "text/html"})
    assert login.headers["location"] == f"{PREFIX}/login?next=/studies/two%3Ffigure%3Dslice"
    cookie = below.post(f"{passed_on}/login", json={"token": TOKEN}, headers={"origin": HERE}).headers["set-cookie"]
    assert f"Path={PREFIX};" in cookie
    assert below.get(f"{passed_on}/openapi.json", headers=BEARER).json()["servers"] == [{"url": PREFIX}]
    slash = below.get(f"{passed_on}/workers/?gone", headers=BEARER)
    assert (slash.status_code, slash.headers["location"]) == (308, f"{PREFIX}/workers?gone")
    missing = assert_problem(below.get(f"{passed_on}/api/v1/studies/none", headers=BEARER), 404, "study-not-found")
    assert missing["instance"] == f"{PREFIX}/api/v1/studies/none"
    assert below.get(PREFIX, headers=BEARER).status_code == 200


def test_the_prefix_hides_no_route_from_the_guard(below: TestClient) -> None:
    assert isinstance(below.app, FastAPI)
    for method, path in routes_of(below.app):
        for target in (path, f"{PREFIX}{path}", f"{PREFIX}/livez/..{path}", f"{PREFIX}{PREFIX}{path}", f"{PREFIX}/{path}"):
            status = send_raw(below.app, method, target, {}).status
            assert status == 401 or target.removeprefix(PREFIX) in ("/livez", "/login", "/static/login.js"), (method, target, status)


def test_no_own_path_is_a_prefix(client: TestClient) -> None:
    assert isinstance(client.app, FastAPI)
    assert {path.split("/")[1] for _, path in routes_of(client.app)} - {""} == OWN_PATHS


def test_every_address_in_a_module_is_below_the_prefix() -> None:
    """Addresses that modules ask for or lead to are made by `at`; templates of the REST interface by `call`, which adds it."""
    places = r"(?:href: |src: |\.href = |\.src = |location\.(?:assign|replace)\(|fetch\(|EventSource\(|replaceState\([^)]*)[`\"]/"
    strays = [(file.name, found) for file in STATIC.rglob("*.js") for found in re.findall(places, file.read_text())]
    assert strays == []
    assert not [file.name for file in STATIC.rglob("*.js") if "pathname.split" in file.read_text() and file.name != "dom.js"]
    assert not [file.name for file in STATIC.rglob("*.css") if re.search(r"url\(['\"]?/", file.read_text())]


def test_head_is_answered_as_get_is(client: TestClient, lab: Laboratory) -> None:
    """Of each route, also of the stream, which would not end by itself."""
    lab.study()
    lab.claim()
    assert isinstance(client.app, FastAPI)
    asked = [path for method, path in routes_of(client.app) if method == "GET"]
    assert len(asked) > 25
    for path in asked:
        head = send_raw(client.app, "HEAD", path, {})
        assert head.body == b"", path
        if path.endswith("/events"):
            assert head.status == 200 and head.headers["content-type"].startswith("text/event-stream")
            continue
        get = send_raw(client.app, "GET", path, {})
        assert head.status == get.status, path
        volatile = {"x-request-id", "content-length", "date"} if "metrics" in path or "readyz" in path else {"x-request-id"}
        assert {name: text for name, text in head.headers.items() if name not in volatile} == {
            name: text for name, text in get.headers.items() if name not in volatile
        }, path
    assert client.app.state.streams.open == 0


def test_head_over_a_real_connection_leaves_it_usable(live: Served) -> None:
    connection = http.client.HTTPConnection(urlsplit(live.address).netloc, timeout=20)
    for method, path in (("HEAD", "/"), ("HEAD", "/openapi.json"), ("HEAD", "/api/v1/studies/none/events"), ("GET", "/livez")):
        connection.request(method, path)
        answer = connection.getresponse()
        assert answer.status in (200, 404) and bool(answer.read()) == (method == "GET"), path
    connection.close()


def test_allow_names_head_beside_get(client: TestClient) -> None:
    assert client.put("/api/v1/studies").headers["allow"] == "GET, HEAD, POST"
    assert client.put("/workers").headers["allow"] == "GET, HEAD"


def test_a_slash_at_the_end_leads_to_the_path_without_it(client: TestClient, lab: Laboratory) -> None:
    lab.study()
    assert isinstance(client.app, FastAPI)
    for method, path in routes_of(client.app):
        if path == "/" or path.startswith("/static"):
            continue
        answer = send_raw(client.app, method, f"{path}/?a=1&b=%2F", {})
        assert (answer.status, answer.headers["location"]) == (308, f"{path}?a=1&b=%2F"), (method, path)
    assert client.post("/api/v1/studies/", json=study_document("two"), follow_redirects=True).status_code == 201


@pytest.mark.parametrize(
    "path", ["//evil.example/", "//evil.example//", "/\\evil.example/", "/%5cevil.example/", "//evil.example/%2f..", "/nowhere/"]
)
def test_no_slash_leads_to_another_server(client: TestClient, below: TestClient, path: str) -> None:
    for app, headers in ((client.app, {}), (below.app, BEARER)):
        for prefix in ("", PREFIX):
            for method in ("GET", *sorted(SAFE_METHODS - {"OPTIONS", "GET"}), "POST"):
                answer = send_raw(app, method, prefix + path, headers)
                location = answer.headers.get("location", "/")
                assert location.startswith("/") and not location.startswith(("//", "/\\")), (method, path)


class Proxy:
    """A reverse proxy that shows a server below a prefix, which it removes or passes on; it keeps Host."""

    def __init__(self, server: str, prefix: str, *, strips: bool) -> None:
        target = urlsplit(server).netloc

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if not self.path.startswith(f"{prefix}/"):
                    self.send_error(404)
                    return
                self.close_connection = True
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                path = self.path.removeprefix(prefix) if strips else self.path
                with closing(http.client.HTTPConnection(target, timeout=60)) as upstream:
                    upstream.request(self.command, path, body or None, dict(self.headers.items()))
                    with closing(upstream.getresponse()) as answer, suppress(ConnectionError):  # a browser that has left a stream
                        self.pass_on(answer)

            def pass_on(self, answer: http.client.HTTPResponse) -> None:
                self.send_response(answer.status)
                for name, text in answer.getheaders():
                    if name.lower() not in HOP_BY_HOP:
                        self.send_header(name, text)
                self.send_header("Connection", "close")
                self.end_headers()
                while piece := answer.read1(65_536):
                    self.wfile.write(piece)

            do_POST = do_HEAD = do_DELETE = do_GET

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}{prefix}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(params=["a proxy that removes the prefix", "a proxy that passes it on"])
def proxied(request: pytest.FixtureRequest, settings: Settings) -> Iterator[str]:
    """The address of a real server with a token behind a proxy."""
    prefix = "/user/ann/proxy/8000"
    with running(settings.home, THAW_ROOT_PATH=f"{prefix}/", THAW_TOKEN=TOKEN, THAW_HEARTBEAT_SECONDS="60") as server:
        assert server.address.endswith(prefix)
        proxy = Proxy(server.address, prefix, strips="removes" in request.param)
        yield proxy.address
        proxy.close()


def test_the_client_finds_a_server_below_a_prefix(proxied: str, settings: Settings) -> None:
    with Client(f"{proxied}/", TOKEN) as client:
        study = client.create_study(study_document())
        client.command(study.id, "stop")
        assert [event.kind for event in client.events(study.id) if event][-1] == "study_stopped"


@pytest.mark.browser
def test_every_page_works_below_a_prefix(browser: Browser, proxied: str, settings: Settings) -> None:
    """Login, pages, modules, frames, links and the live stream; nothing on the console, nothing asked for outside the prefix."""
    store = open_store(settings.database_url)
    lab = Laboratory(store)
    lab.study(budget={"trials": 5})
    first = lab.claim()
    lab.finish(first, 0.9)
    page = browser.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda asked: None if asked.url.removeprefix("blob:").startswith(proxied) else complaints.append(asked.url))
    page.goto(f"{proxied}/studies/digits?figure=slice")
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(f"{proxied}/studies/digits?figure=slice")
    expect(page.get_by_role("heading", level=1)).to_contain_text("digits")
    expect(page.locator("#live")).to_have_text("live")
    second = lab.claim()
    expect(page.locator("#trials tbody tr")).to_have_count(2)
    lab.finish(second, 0.5)
    expect(page.locator("#trials tbody")).to_contain_text("50.00 %")
    page.locator("#analysis").scroll_into_view_if_needed()
    expect(page.frame_locator("iframe").locator("#figure svg").first).to_be_visible(timeout=30_000)
    walk(page, proxied)
    page.goto(f"{proxied}/docs")
    expect(execute(page, "get", "/api/v1/studies").locator(".response-col_status")).to_contain_text("200")
    assert page.context.cookies()[0]["path"] == urlsplit(proxied).path
    page.close()
    lab.stop_all()
    store.close()
    assert complaints == []


def walk(page: Page, address: str) -> None:
    page.get_by_role("link", name="Workers").click()
    page.wait_for_url(f"{address}/workers")
    page.get_by_role("link", name="Studies", exact=True).click()
    page.wait_for_url(f"{address}/")
    page.get_by_role("link", name="digits", exact=True).click()
    page.wait_for_url(f"{address}/studies/digits")
    for path, text in {
        "/studies/digits/trials/0": "Trial 0", "/studies/digits/best": "Train it", "/compare?trial=digits:0&trial=digits:1": "Trial 1",
        "/new": "New study", "/workers": "Workers", "/docs": "/api/v1/study-check", "/studies/none": "none",
    }.items():  # fmt: skip
        if path != "/studies/none":  # whose missing answer the browser reports by itself
            page.goto(address + path)
            expect(page.locator("#main")).to_contain_text(text)
            page.wait_for_load_state("networkidle" if path == "/new" else "load")
            for link in page.locator("a[href]").all():
                href = link.get_attribute("href") or ""
                assert href.startswith((urlsplit(address).path, "#", "?", "blob:")), (path, href)


@pytest.mark.browser
@pytest.mark.parametrize(
    ("next_", "lands"),
    [
        ("/workers", "/workers"),
        ("/studies?q=x", "/studies?q=x"),
        ("//evil.example/", "/"),
        ("/.//evil.example/login", "/"),
        ("/..//evil.example/", "/"),
        ("http://evil.example/", "/"),
        ("/\\evil.example/", "/"),
        ("javascript:alert(1)", "/"),
        ("//", "/"),
        ("@evil.example/", "/@evil.example/"),
    ],
)
def test_a_login_leads_nowhere_else(browser: Browser, settings: Settings, locked_live: Served, next_: str, lands: str) -> None:
    page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{locked_live.address}/login")
    page.evaluate("next => history.replaceState(null, '', '/login?next=' + encodeURIComponent(next))", next_)
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(lambda url: not urlsplit(url).path.endswith("/login"))
    assert page.url == locked_live.address + lands
    assert [url for url in asked if not url.startswith(f"{locked_live.address}/")] == []
    page.close()


@pytest.fixture(scope="module")
def locked_live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with running(tmp_path_factory.mktemp("locked"), THAW_TOKEN=TOKEN) as server:
        yield server
