"""The interactive documentation: drawn without a foreign host, calls what it describes, and has a policy of its own."""

import jsonschema_rs
import pytest
from playwright.sync_api import Page, expect
from starlette.testclient import TestClient

from service.web import pages
from service.web.middleware import SECURITY_HEADERS
from tests.web.api_documentation import execute, operation
from tests.web.laboratory import Laboratory
from tests.web.problem import assert_problem

PATHS = ("/docs", "/docs/swagger-ui.js", "/docs/swagger-ui.css")


@pytest.mark.browser
def test_calls_are_described_and_can_be_tried_out(page: Page, live_lab: Laboratory) -> None:
    live_lab.study("documented")
    page.goto("/")
    page.get_by_role("link", name="API", exact=True).click()
    expect(page.get_by_role("heading", name="Thawline")).to_be_visible()
    listed = execute(page, "get", "/api/v1/studies")
    expect(listed.locator(".response-col_status")).to_contain_text("200")
    expect(listed).to_contain_text("documented")
    checked = execute(page, "post", "/api/v1/study-check")
    expect(checked.locator(".response-col_status")).to_contain_text("200")
    expect(checked).to_contain_text("faults")


@pytest.mark.browser
@pytest.mark.parametrize("width", [360, 1200])
def test_it_fits_the_screen_in_both_colour_schemes(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.goto("/docs")
    for scheme, ink in (("light", "rgb(59, 65, 81)"), ("dark", "rgb(228, 230, 230)")):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        expect(operation(page, "get", "/api/v1/studies")).to_be_visible()
        expect(page.locator(".swagger-ui").first).to_have_css("color", ink)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.browser
def test_every_call_of_the_description_is_shown(page: Page, client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    calls = [(method, path) for path, operations in paths.items() for method in operations]
    assert len(calls) > 25 and not set(PATHS) & paths.keys()  # what serves the documentation is not described
    page.goto("/docs")
    expect(page.locator(".opblock")).to_have_count(len(calls))
    for method, path in calls:
        expect(operation(page, method, path)).to_be_visible()


def test_only_this_page_may_have_images_in_styles_and_markup_from_strings(client: TestClient) -> None:
    usual = SECURITY_HEADERS["Content-Security-Policy"]
    policy = client.get("/docs").headers["Content-Security-Policy"]
    assert "unsafe" not in policy and "*" not in policy and "http" not in policy
    assert "default-src 'self'" in policy and "script-src" not in policy
    for path in ("/", "/new", "/workers", "/openapi.json", *PATHS[1:]):
        assert client.get(path).headers["Content-Security-Policy"] == usual, path


def test_script_and_styles_are_those_of_the_package(client: TestClient) -> None:
    for path, name, kind in zip(PATHS[1:], ("swagger-ui-bundle.js", "swagger-ui.css"), ("text/javascript", "text/css"), strict=True):
        answer = client.get(path)
        assert (answer.status_code, answer.headers["Content-Encoding"]) == (200, "gzip")
        assert answer.headers["Content-Type"].startswith(kind) and answer.headers["Cache-Control"] == "no-cache"
        assert client.get(path, headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304
        assert len(pages.swagger_file(name).zipped) < 600_000


def test_it_needs_the_token(locked: TestClient) -> None:
    for path in PATHS:
        assert_problem(locked.get(path), 401, "unauthenticated")
    assert locked.get("/docs", headers={"accept": "text/html"}).headers["location"] == "/login?next=/docs"


def test_without_the_package_a_sentence_says_what_to_install(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "SWAGGER_PACKAGE", "a_package_that_is_not_there")
    pages.swagger_file.cache_clear()
    assert "pip install" in assert_problem(client.get("/docs/swagger-ui.js"), 503, "swagger-ui-missing")["detail"]


def test_the_example_of_a_study_conforms_to_its_schema(client: TestClient) -> None:
    """A document without a task belongs to the first task alone; clients that are generated from the description drop other examples."""
    described = client.get("/openapi.json").json()
    example = described["paths"]["/api/v1/studies"]["post"]["requestBody"]["content"]["application/json"]["example"]
    schema = described["components"]["schemas"]["StudySpec"] | {"components": described["components"]}
    assert "task" not in example
    jsonschema_rs.validate(schema, example)
    jsonschema_rs.validate(schema, example | {"task": "image_classification"})
    assert not jsonschema_rs.is_valid(schema, example | {"task": "painting"})
