"""Who may ask: hosts, tokens, sites. The cases are made from the app's own routes, so that a new route is covered."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from service.settings import Settings
from service.store import Store, open_store
from service.store.migrate import upgrade
from service.web.app import create_app
from service.web.auth import PUBLIC_PATHS
from tests.web.laboratory import HERE, TOKEN, Laboratory
from tests.web.problem import assert_problem
from tests.web.raw import send_raw
from tests.web.routes import locked_routes_of
from tests.web.server import Served
from tests.web.test_serve import said

BEARER = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def routes(locked: TestClient) -> list[tuple[str, str]]:
    app = locked.app
    assert isinstance(app, FastAPI)
    return locked_routes_of(app)


def disguises(path: str) -> list[str]:
    """The path as written, and as someone writes it who hopes that the guard reads it differently from the router."""
    first = path[1:2] or "x"
    return [
        path,
        f"/{path}",
        f"{path}/",
        path.upper(),
        f"/%2e{path}",
        f"/livez/..{path}",
        f"/livez/%2e%2e{path}",
        f"/static/..{path}",
        f"/%{ord(first):x}{path[2:]}",
        path.replace("/", "//"),
        path.replace("/", "%2f"),
        f"{path}%00",
        f"{path};/livez",
        f"{path}?/livez",
    ]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong-wrong-wrong-wrong"},
        {"authorization": TOKEN},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": "Bearer"},
        {"cookie": f"thawline_session={TOKEN}"},
        {"cookie": "thawline_session=9999999999.00"},
        {"cookie": "thawline_session=x.y", "authorization": "Bearer "},
    ],
)
def test_no_route_answers_without_the_token(
    locked: TestClient, lab: Laboratory, routes: list[tuple[str, str]], headers: dict[str, str]
) -> None:
    lab.study()
    for method, path in routes:
        for disguise in disguises(path):
            answer = send_raw(locked.app, method, disguise, headers)
            assert answer.status == 401, (method, disguise)
            assert answer.headers["www-authenticate"].startswith("Bearer")
    assert locked.get("/api/v1/studies/digits", headers=BEARER).json()["state"] == "active"
    assert_problem(locked.get("/api/v1/studies", headers=headers), 401, "unauthenticated")


def test_every_route_is_open_to_the_token(locked: TestClient, lab: Laboratory, routes: list[tuple[str, str]]) -> None:
    lab.study()
    for method, path in routes:
        if method == "GET" and not path.endswith("/events"):
            assert locked.get(path, headers=BEARER).status_code in (200, 404), path


def test_only_a_few_paths_are_public(locked: TestClient) -> None:
    for path in PUBLIC_PATHS:
        assert locked.get(path).status_code == 200, path
    assert_problem(locked.get("/openapi.json"), 401, "unauthenticated")
    assert_problem(locked.get("/no/such/route"), 401, "unauthenticated")


def test_a_key_in_the_address_is_refused_before_the_token_is_looked_at(locked: TestClient) -> None:
    for query in (f"token={TOKEN}", f"x={TOKEN}", "api_key=1", f"a=1&%74oken={TOKEN}", "Access_Token="):
        answer = locked.get(f"/api/v1/studies?{query}", headers=BEARER)
        assert_problem(answer, 400, "key-in-url")
        assert TOKEN not in answer.text


def log_in(client: TestClient, token: str = TOKEN) -> None:
    answer = client.post("/login", json={"token": token}, headers={"origin": HERE, "sec-fetch-site": "same-origin"})
    assert answer.status_code == 204, answer.text


def test_a_browser_logs_in_and_gets_a_cookie_that_no_script_can_read(locked: TestClient) -> None:
    page = locked.get("/studies/digits", headers={"accept": "text/html"})
    assert (page.status_code, page.headers["location"]) == (303, "/login?next=/studies/digits")
    filtered = locked.get("/studies/digits?filter=lr>1&figure=slice", headers={"accept": "text/html"})
    assert filtered.headers["location"] == "/login?next=/studies/digits%3Ffilter%3Dlr%253E1%26figure%3Dslice"
    answer = locked.post("/login", json={"token": TOKEN}, headers={"origin": HERE})
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and TOKEN not in cookie
    assert locked.get("/", headers={"accept": "text/html"}).status_code == 200
    assert locked.get("/api/v1/studies").status_code == 200
    assert locked.post("/logout", headers={"origin": HERE}).status_code == 204
    assert_problem(locked.get("/api/v1/studies"), 401, "unauthenticated")


def test_a_wrong_token_gives_no_cookie(locked: TestClient) -> None:
    answer = locked.post("/login", json={"token": "wrong-wrong-wrong-wrong"})
    assert_problem(answer, 401, "unauthenticated")
    assert "set-cookie" not in answer.headers
    assert_problem(locked.post("/login", json=[TOKEN]), 422, "validation")


def test_a_cookie_of_another_token_is_worthless(
    locked: TestClient, client_of: Callable[[Settings], TestClient], settings: Settings
) -> None:
    log_in(locked)
    other = client_of(settings.model_copy(update={"token": "another-token-of-16"}))
    other.cookies = locked.cookies
    assert_problem(other.get("/api/v1/studies"), 401, "unauthenticated")


def test_the_cookie_is_secure_where_the_browser_came_over_tls(store: Store, settings: Settings) -> None:
    """TLS ends at a proxy, which keeps Host; the browser's Origin says https."""
    client = TestClient(create_app(store, settings.model_copy(update={"token": TOKEN, "hosts": ("lab.example",)})), base_url=HERE)
    for path, body in (("/login", {"token": TOKEN}), ("/logout", {})):
        for origin, secure in (("https://lab.example", True), ("http://lab.example", False)):
            answer = client.post(path, json=body, headers={**BEARER, "origin": origin, "host": "lab.example"})
            assert ("Secure" in answer.headers["set-cookie"]) == secure, (path, origin)
    assert "Secure" not in client.post("/login", json={"token": TOKEN}).headers["set-cookie"]
    assert "Secure" in TestClient(client.app, base_url="https://127.0.0.1:8000").post("/login", json={"token": TOKEN}).headers["set-cookie"]


def test_every_server_of_a_database_takes_a_session_and_no_other_does(
    store: Store, settings: Settings, client_of: Callable[[Settings], TestClient], tmp_path: Path
) -> None:
    """The key of the cookie is a random one of the database: a restart keeps it, and the token alone does not make a cookie."""
    one = client_of(settings.model_copy(update={"token": TOKEN}))
    log_in(one)
    restarted = client_of(settings.model_copy(update={"token": TOKEN}))
    restarted.cookies = one.cookies
    assert restarted.get("/api/v1/studies").status_code == 200
    url = f"sqlite:///{tmp_path / 'other' / 'thawline.db'}"
    upgrade(url)
    with closing(open_store(url)) as other:
        elsewhere = TestClient(create_app(other, settings.model_copy(update={"token": TOKEN})), base_url=HERE, cookies=one.cookies)
        assert_problem(elsewhere.get("/api/v1/studies"), 401, "unauthenticated")
    with closing(open_store(settings.database_url, read_only=True)) as seen:
        viewer = TestClient(create_app(seen, settings.model_copy(update={"token": TOKEN})), base_url=HERE, cookies=one.cookies)
        assert_problem(viewer.get("/api/v1/studies"), 401, "unauthenticated")
        log_in(viewer)
        assert viewer.get("/api/v1/studies").status_code == 200


def test_a_cookie_of_another_server_under_the_same_name_does_not_hide_ours(locked: TestClient) -> None:
    log_in(locked)
    ours = locked.cookies["thawline_session"]
    locked.cookies.clear()
    for order in (f"thawline_session={ours}; thawline_session=1.2", f"a=b; thawline_session=1.2; thawline_session={ours}"):
        assert locked.get("/api/v1/studies", headers={"cookie": order}).status_code == 200


def test_who_has_the_token_is_not_slowed_by_strangers_of_the_same_address(store: Store, settings: Settings, lab: Laboratory) -> None:
    """A8: anonymous changes, wrong tokens by GET and failed logins spend rates of their own, each of which ends in 429."""
    lab.study()
    client = TestClient(create_app(store, settings.model_copy(update={"token": TOKEN, "writes_per_second": 1})), base_url=HERE)
    log_in(client)
    cookies = dict(client.cookies)
    client.cookies.clear()
    wrong = {"authorization": "Bearer wrong-wrong-wrong-wrong"}
    asks: tuple[Callable[[], httpx2.Response], ...] = (
        lambda: client.post("/x"),
        lambda: client.get("/api/v1/studies", headers=wrong),
        lambda: client.head("/", headers={**wrong, "accept": "text/html"}),
        lambda: client.get("/api/v1/studies", headers={"cookie": "thawline_session=1.2"}),
        lambda: client.post("/login", json={"token": "wrong-wrong-wrong"}),
    )
    for ask in asks:
        answers = [ask() for _ in range(30)]
        refusals = [answer for answer in answers if answer.status_code == 429]
        assert {answer.status_code for answer in answers} <= {401, 429} and refusals
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refusals)
        assert client.get("/api/v1/studies", headers=BEARER).status_code == 200
    assert client.post("/api/v1/studies/digits/pause", headers=BEARER).status_code == 200
    client.cookies.update(cookies)
    assert client.post("/api/v1/studies/digits/resume", headers={"origin": HERE}).status_code == 200


def test_a_page_without_a_session_leads_to_the_login_however_often(client_of: Callable[[Settings], TestClient], settings: Settings) -> None:
    client = client_of(settings.model_copy(update={"token": TOKEN, "writes_per_second": 1}))
    assert {client.get("/", headers={"accept": "text/html"}).status_code for _ in range(20)} == {303}


def test_a_request_with_two_lengths_is_refused_and_its_connection_closed(live: Served) -> None:
    """A18: else what one length covers and the other does not would be taken for a request."""
    smuggled = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for path in (b"/api/v1/studies", b"/livez", b"/nowhere"):
        head = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n"
        answer = b"".join(said(live, head % (path, 5 + len(smuggled)) + b"0\r\n\r\n" + smuggled))
        assert answer.startswith(b"HTTP/1.1 400 ") and answer.count(b"HTTP/1.1 ") == 1, answer
        assert b"urn:thawline:problem:malformed-request" in answer and b"connection: close" in answer.lower()


def test_the_host_of_a_tunnel_is_answered_and_changes_things(client: TestClient, lab: Laboratory) -> None:
    """`ssh -L 9000:localhost:8000`: the browser's Host and Origin have the tunnel's port."""
    lab.study()
    tunnel = {"host": "localhost:9000"}
    assert client.get("/", headers=tunnel).status_code == 200
    answer = client.post(
        "/api/v1/studies/digits/pause", headers={**tunnel, "origin": "http://localhost:9000", "sec-fetch-site": "same-origin"}
    )
    assert answer.status_code == 200
    for origin in ("http://localhost:8000", "http://localhost:9001", "http://127.0.0.1:9000", "http://evil.example:9000"):
        refusal = client.post("/api/v1/studies/digits/stop", headers={**tunnel, "origin": origin})
        assert_problem(refusal, 403, "cross-site-request")


CROSS_SITE = [
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:9000"},
    {"origin": "http://localhost:8000"},
    {"origin": "http://127.0.0.1"},
    {"origin": "http://127.0.0.1:8000.evil.example"},
    {"origin": "http://[::bad"},
    {"origin": ""},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site", "origin": HERE},
]


@pytest.mark.parametrize("headers", CROSS_SITE)
def test_another_site_changes_nothing(client: TestClient, lab: Laboratory, headers: dict[str, str]) -> None:
    lab.study()
    assert_problem(client.post("/api/v1/studies/digits/stop", headers=headers), 403, "cross-site-request")
    assert_problem(client.delete("/api/v1/studies/digits", headers=headers), 403, "cross-site-request")
    assert_problem(client.post("/login", json={"token": TOKEN}, headers=headers), 403, "cross-site-request")
    assert client.get("/api/v1/studies/digits").json()["state"] == "active"


@pytest.mark.parametrize("headers", [{}, {"origin": HERE}, {"origin": HERE, "sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}])
def test_own_pages_and_programs_may_change_things(client: TestClient, lab: Laboratory, headers: dict[str, str]) -> None:
    lab.study()
    assert client.post("/api/v1/studies/digits/pause", headers=headers).status_code == 200


def test_a_cookie_alone_changes_nothing_when_the_request_does_not_say_where_it_is_from(locked: TestClient, lab: Laboratory) -> None:
    lab.study()
    log_in(locked)
    assert_problem(locked.post("/api/v1/studies/digits/stop"), 403, "cross-site-request")
    assert locked.post("/api/v1/studies/digits/pause", headers={"origin": HERE}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "127.0.0.1.evil.example:8000",
        "localhost.evil.example",
        "evil.localhost:8000",
        "localhost:8000@evil.example",
        "localhost:0",
        "lab.example:8000",
        "",
        "[::1",
        "10.0.0.1:8000",
        "127.0.0.1:8000:8000",
        "localhost:99999999",
    ],
)
def test_a_rebound_name_gets_no_answer(client: TestClient, locked: TestClient, host: str) -> None:
    for path in ("/api/v1/studies", "/livez", "/", "/nowhere"):
        assert_problem(client.get(path, headers={"host": host}), 400, "host-not-allowed")
        assert_problem(locked.get(path, headers={"host": host}), 400, "host-not-allowed")


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1:8000", "localhost:8000", "LOCALHOST:8000", "[::1]:8000", "thaw.example", "thaw.example:443", "lab.example:8443"),
        *("localhost:9000", "localhost", "127.0.0.1:9000", "127.0.0.1", "127.0.0.2:1", "[::1]:9000", "[::1]", "tls.example"),
    ],
)
def test_our_own_names_are_answered(store: Store, settings: Settings, host: str) -> None:
    app = create_app(store, settings.model_copy(update={"hosts": ("thaw.example", "lab.example:8443", "tls.example:443")}))
    assert TestClient(app, base_url=HERE).get("/livez", headers={"host": host}).status_code == 200
    assert TestClient(app, base_url=HERE).get("/livez", headers={"host": "lab.example:8000"}).status_code == 400


def test_answers_forbid_what_a_page_does_not_need(client: TestClient) -> None:
    for path in ("/", "/api/v1/studies", "/nowhere", "/static/dom.js"):
        headers = client.get(path).headers
        assert "default-src 'self'" in headers["content-security-policy"] and "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers
        assert headers["cache-control"] in ("no-store", "no-cache", "private, no-cache")


def test_no_preflight_is_answered_with_leave(client: TestClient) -> None:
    asked = {"origin": "https://evil.example", "access-control-request-method": "DELETE"}
    answer = client.options("/api/v1/studies/digits", headers=asked)
    assert answer.status_code == 405 and "access-control-allow-origin" not in answer.headers
