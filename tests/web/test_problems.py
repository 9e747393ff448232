"""Every error is a problem, wherever it arises."""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from service.domain import errors
from service.settings import Settings
from service.store import Store
from service.web.app import create_app
from service.web.problems import KINDS
from tests.web.laboratory import HERE, Laboratory
from tests.web.problem import assert_problem
from tests.web.raw import send_raw


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere",
        "/api/v1",
        "/api/v1/nothing",
        "/api/v2/studies",
        "/static/none.js",
        "/static/../app.py",
        "/redoc",
        "/api/v1/nothing/",
        "/api/v1/studies/a/pictures/history",
    ],
)
def test_an_unknown_address_is_a_problem(client: TestClient, path: str) -> None:
    assert_problem(client.get(path), 404, "not-found")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/api/v1/studies"),
        ("DELETE", "/livez"),
        ("POST", "/"),
        ("PATCH", "/api/v1/models"),
        ("POST", "/static/dom.js"),
        ("BREW", "/api/v1/studies"),
    ],
)
def test_a_wrong_method_is_a_problem(client: TestClient, method: str, path: str) -> None:
    assert_problem(client.request(method, path), 405, "method-not-allowed")


@pytest.mark.parametrize(
    "target",
    [
        "//",
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2f..%2fsettings.py",
        "/static/%00",
        "/%2e%2e/etc/passwd",
        "/static//etc/passwd",
        "/studies/a/../../etc/passwd",
        "/\\..\\etc",
        "/static/" + "x" * 5000,
    ],
)
def test_no_address_leads_out_of_the_app(client: TestClient, target: str) -> None:
    answer = send_raw(client.app, "GET", target, {})
    assert answer.status == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_every_error_of_the_domain_has_its_place_in_the_table() -> None:
    known = {error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, errors.ThawlineError)}
    assert known - KINDS.keys() == {errors.ThawlineError}


def test_a_crash_is_a_problem_that_tells_nothing(store: Store, settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    app = create_app(store, settings)

    @app.get("/crash")
    def crash() -> None:
        raise RuntimeError("password=hunter2\nsecond line")

    problem = assert_problem(TestClient(app, base_url=HERE).get("/crash"), 500, "internal")
    assert "hunter2" not in str(problem)
    (line,) = caplog.messages
    assert problem["request_id"] in line and "RuntimeError" in line
    assert "hunter2" not in line and "\n" not in line


def test_a_store_that_does_not_answer_is_a_503_with_a_time_to_wait(
    client: TestClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent() -> Iterator[None]:
        raise errors.StoreUnavailable("The database does not answer; try again.")

    monkeypatch.setattr(store, "reading", silent)
    for path in ("/api/v1/studies", "/api/v1/studies/a/events", "/readyz", "/metrics"):
        answer = client.get(path)
        assert_problem(answer, 503, "store-unavailable")
        assert int(answer.headers["retry-after"]) > 0
    assert client.get("/livez").status_code == 200


def test_answers_carry_an_id_of_their_own(client: TestClient, lab: Laboratory) -> None:
    lab.study()
    first, second = (client.get("/api/v1/studies/digits", headers={"x-request-id": "mine"}) for _ in range(2))
    assert first.headers["x-request-id"] != second.headers["x-request-id"] != "mine"
