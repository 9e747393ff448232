"""Figures over REST: drawn when asked for, kept while they will do; and the script and frame they are drawn with."""

import gzip
import importlib.util
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial

import pytest
from starlette.testclient import TestClient

from service.search import figures
from service.settings import Settings
from service.store import Store
from service.web import pages
from service.web.app import create_app
from service.web.middleware import SECURITY_HEADERS
from service.web.results import FigureCache, Subject
from tests.web.laboratory import HERE, Laboratory, study_document

AT = "/api/v1/studies/digits/figures"
HOSTILE = "<img src=x onerror=alert(1)>"


def filled(lab: Laboratory, count: int = 12) -> None:
    lab.study(budget={"trials": 20})
    for number in range(count):
        lab.finish(lab.claim(), (number % 7) / 10)


def test_each_figure_is_one_of_plotlys(client: TestClient, lab: Laboratory) -> None:
    filled(lab)
    for name in figures.FIGURES:
        answer = client.get(f"{AT}/{name}")
        assert answer.status_code == 200, answer.text
        figure = answer.json()
        assert figure["data"], name
        assert figure["layout"]["meta"]["seq"] == client.get("/api/v1/studies/digits").json()["seq"]
    shown = client.get(f"{AT}/contour", params={"param": ["optimizer", "lr"]}).json()
    assert shown["layout"]["meta"]["params"] == ["optimizer", "lr"]
    assert shown["layout"]["xaxis"]["title"]["text"] == "optimizer"


def test_a_study_without_a_trial_has_figures_too(client: TestClient, lab: Laboratory) -> None:
    lab.study()
    for name in figures.FIGURES:
        assert client.get(f"{AT}/{name}").json()["layout"]["annotations"]


def test_what_there_is_not_is_refused_with_what_there_is(client: TestClient, lab: Laboratory) -> None:
    lab.study()
    unknown = client.get(f"{AT}/pareto_front")
    assert (unknown.status_code, unknown.json()["type"]) == (404, "urn:thawline:problem:figure-not-found")
    assert "param_importances" in unknown.json()["detail"]
    stranger = client.get(f"{AT}/slice", params={"param": "momentum"})
    assert stranger.status_code == 422
    assert stranger.json()["errors"][0]["detail"].endswith("choose from lr, optimizer")
    assert client.get("/api/v1/studies/nobody/figures/slice").status_code == 404
    assert client.get(f"{AT}/slice", params={"param": ["lr"] * 65}).status_code == 422


def test_a_figure_that_has_not_changed_is_not_sent_again(client: TestClient, lab: Laboratory) -> None:
    filled(lab)
    first = client.get(f"{AT}/edf")
    again = client.get(f"{AT}/edf", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]
    assert client.get(f"{AT}/edf", headers={"If-None-Match": '"other"'}).status_code == 200


def test_the_name_of_a_study_is_in_no_figure(client: TestClient, lab: Laboratory) -> None:
    space = {
        "optimizer": {"type": "categorical", "choices": ["sgd", "adam"]},
        "lr": {"type": "float", "low": 1e-5, "high": 0.1, "log": True},
    }
    study = lab.study(HOSTILE, search_space=space)
    for _ in range(5):
        lab.finish(lab.claim(), 0.5)
    for name in figures.FIGURES:
        answer = client.get(f"/api/v1/studies/{study.id}/figures/{name}")
        assert answer.status_code == 200 and "<img" not in answer.text, name


def test_a_drawing_is_made_once_for_all_who_ask_at_a_time() -> None:
    drawings, made, first = FigureCache(), list[str](), threading.Event()

    def draw() -> bytes:
        made.append("drawn")
        first.wait(60)
        return b"{}"

    subject = Subject("study", "edf", ())
    threads = [threading.Thread(target=drawings.get, args=(subject, 5, draw)) for _ in range(8)]
    for thread in threads:
        thread.start()
    first.set()
    for thread in threads:
        thread.join(60)
    assert made == ["drawn"]


def test_a_drawing_that_took_long_is_kept_for_longer_while_its_study_goes_on() -> None:
    drawings, subject = FigureCache(), Subject("study", "edf", ())

    def draw_slowly() -> bytes:
        time.sleep(0.2)
        return b"slow"

    slow = drawings.get(subject, 5, draw_slowly)
    assert slow.body == b"slow"
    assert 2 <= slow.reuse_seconds <= 5
    assert drawings.get(subject, 6, lambda: b"new").body == b"slow"
    assert drawings.get(Subject("study", "edf", ("lr",)), 6, lambda: b"other").body == b"other"


def test_drawings_take_bounded_memory() -> None:
    drawings = FigureCache(most_bytes=100)
    for number in range(50):
        drawings.get(Subject(str(number), "edf", ()), 1, lambda: b"x" * 40)
    drawn = list[int]()

    def draw(number: int) -> bytes:
        drawn.append(number)
        return b"x" * 40

    for number in (48, 49, 0):
        drawings.get(Subject(str(number), "edf", ()), 1, partial(draw, number))
    assert drawn == [0]


def test_the_script_is_the_installed_one_and_kept_for_good(client: TestClient) -> None:
    version = figures.script_version()
    answer = client.get("/plotly.js", params={"v": version})
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.content == figures.script_file().read_bytes()
    assert "immutable" in answer.headers["Cache-Control"]
    assert answer.headers["Content-Type"].startswith("text/javascript")
    assert client.get("/plotly.js", params={"v": "1"}).headers["Cache-Control"] == "no-cache"
    plain = client.get("/plotly.js", headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers
    assert plain.content == answer.content
    assert client.get("/plotly.js", headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304
    assert len(pages.script().zipped) < 1_600_000
    assert gzip.decompress(pages.script().zipped) == answer.content


def test_the_script_needs_the_token(locked: TestClient) -> None:
    for path in ("/plotly.js", "/figure", f"{AT}/edf"):
        assert locked.get(path).status_code == 401


def test_without_the_package_a_sentence_says_what_to_install(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    pages.script.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    answer = client.get("/plotly.js")
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:thawline:problem:plotly-missing")
    assert "pip install" in answer.json()["detail"]


def test_only_the_frame_may_have_styles_of_its_own(client: TestClient) -> None:
    frame = client.get("/figure")
    policy = frame.headers["Content-Security-Policy"]
    assert "script-src 'self';" in policy
    assert "unsafe-eval" not in policy
    assert "connect-src 'none'" in policy
    assert "frame-ancestors 'self'" in policy
    assert frame.headers["X-Frame-Options"] == "SAMEORIGIN"
    assert f"/plotly.js?v={figures.script_version()}" in frame.text
    for path in ("/", "/studies/digits"):
        assert client.get(path).headers["Content-Security-Policy"] == SECURITY_HEADERS["Content-Security-Policy"]


def test_the_panel_has_a_tab_for_figures_that_there_are() -> None:
    tabs = (pages.HERE / "static" / "figures" / "tabs.js").read_text()
    named = re.findall(r'name: "(\w+)"', tabs)
    assert len(named) == 6
    assert set(named) <= set(figures.FIGURES)


def test_figures_and_checks_that_take_long_leave_threads_for_everyone_else(settings: Settings, store: Store, lab: Laboratory) -> None:
    """More figures and checks are asked for than there are threads for plain requests, and none of them ends."""
    filled(lab, 3)
    go_on, begun = threading.Event(), threading.Event()
    app = create_app(store, settings)

    def endless(*_: object) -> bytes:
        begun.set()
        assert go_on.wait(120)
        return b'{"data":[],"layout":{}}'

    document = study_document("another")
    document["data"] = {"path": "/nowhere/at/all"}
    with pytest.MonkeyPatch.context() as patched, TestClient(app, base_url=HERE) as client, ThreadPoolExecutor(150) as pool:
        patched.setattr("service.web.results._drawn", endless)
        patched.setattr("service.web.studies.checked_study", endless)
        asked = [pool.submit(client.get, f"{AT}/slice", params={"param": [name] * (1 + number)}) for number, name in enumerate(["lr"] * 60)]
        asked += [pool.submit(client.post, "/api/v1/study-check", json=document) for _ in range(60)]
        assert begun.wait(60)
        assert client.get("/readyz").status_code == 200 and client.get("/api/v1/studies/digits").status_code == 200
        refused = next(as_completed(asked, timeout=120)).result()  # nothing else can end
        assert refused.status_code == 503 and refused.headers["retry-after"]
        go_on.set()
