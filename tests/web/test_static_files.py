"""Styles and modules: compressed once, sent when they changed and not otherwise."""

import gzip
import os
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from service.web.pages import Static

MODULE = "export const answer = 42; // π\n" * 100


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a module in a folder of its own."""
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "model.js").write_text(MODULE, encoding="utf-8")
    return tmp_path


@pytest.fixture
def client(folder: Path) -> TestClient:
    app = Starlette()
    app.mount("/static", Static(folder))
    return TestClient(app)


def test_a_file_is_sent_compressed_with_its_kind_and_to_be_asked_for_again(client: TestClient) -> None:
    with client.stream("GET", "/static/study/model.js", headers={"Accept-Encoding": "gzip"}) as answer:
        raw = b"".join(answer.iter_raw())
    assert gzip.decompress(raw).decode() == MODULE
    assert (answer.headers["Content-Type"], answer.headers["Cache-Control"]) == ("text/javascript; charset=utf-8", "no-cache")
    assert answer.headers["Vary"] == "Accept-Encoding"


def test_who_takes_it_plain_only_gets_it_so(client: TestClient) -> None:
    answer = client.get("/static/study/model.js", headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in answer.headers and answer.text == MODULE


def test_what_has_not_changed_is_not_sent_again_and_what_has_is(client: TestClient, folder: Path) -> None:
    first = client.get("/static/study/model.js")
    again = client.get("/static/study/model.js", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    file = folder / "study" / "model.js"
    file.write_text("export const answer = 43;\n")
    os.utime(file, (1, 1))
    changed = client.get("/static/study/model.js", headers={"If-None-Match": first.headers["ETag"]})
    assert (changed.status_code, changed.text) == (200, "export const answer = 43;\n")


def test_a_file_that_came_later_is_found_and_one_that_went_is_not(client: TestClient, folder: Path) -> None:
    (folder / "late.css").write_text("p {}")
    late = client.get("/static/late.css")
    assert (late.text, late.headers["Cache-Control"]) == ("p {}", "no-cache")
    (folder / "study" / "model.js").unlink()
    assert client.get("/static/study/model.js").status_code == 404


@pytest.mark.parametrize("path", ["none.js", "study", "../test_static_files.py", "%2e%2e/x", "study/"])
def test_there_is_nothing_else(client: TestClient, path: str) -> None:
    assert client.get(f"/static/{path}").status_code == 404


def test_its_head_is_told_and_nothing_can_be_put_there(client: TestClient) -> None:
    head = client.head("/static/study/model.js")
    assert (head.status_code, head.content) == (200, b"")
    assert client.post("/static/study/model.js").status_code == 405
