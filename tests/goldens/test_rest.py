"""The REST interface: its description, and its answers on the database of a release."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import Mount

from service.settings import Settings
from tests.goldens.golden import FOLDER, Goldens
from tests.goldens.stored import API, OF_EACH_STUDY, PRESENT, STUDY, TRIAL, Recorder, anonymous, restored, steady
from tests.web.laboratory import HERE, TOKEN, study_document

FIGURES = (
    "optimization_history", "intermediate_values", "param_importances", "parallel_coordinate", "slice", "contour", "rank", "timeline",
    "edf",
)  # fmt: skip
FORMATS = {"yaml": "best.yaml", "card": "card.md", "requirements": "requirements.txt", "python": "train.py.txt"}
PAGES = ("/", "/new", "/workers", "/compare", "/login", "/figure", "/plotly.js", "/docs", "/docs/swagger-ui.js", "/docs/swagger-ui.css")
RECORDED = ("changes", "figures", "files", "lists", "refusals", "service", "study-curves", "token")  # files with a call of each route
UNKNOWN = {"GET /nowhere", f"PUT {API}/studies"}  # routes that there are not
COUNTERS = (
    "thawline_http_request",
    "thawline_disk_free_bytes",
    "thawline_sweep_age_seconds",
)  # their values are of this process and machine


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    """A server on the database of the present release."""
    with restored(PRESENT, tmp_path) as store:
        yield Recorder(store, Settings(home=tmp_path))


def test_the_description_of_the_interface(recorder: Recorder, goldens: Goldens) -> None:
    goldens.check_json("openapi.json", recorder.app.openapi())
    recorder.ask("GET", "/openapi.json")
    assert recorder.answers[0]["body"] == json.loads(json.dumps(recorder.app.openapi()))


@pytest.mark.parametrize("study", ["heads", "curves", "stopped", "paused", "under-way"])
def test_answers_about_a_study(study: str, recorder: Recorder, goldens: Goldens) -> None:
    for below in OF_EACH_STUDY:
        recorder.ask("GET", f"{STUDY}{below}", study=study)
    for trial in recorder.answers[OF_EACH_STUDY.index("/trials")]["body"]["trials"]:
        for below in ("", "/metrics", "/log"):
            recorder.ask("GET", f"{TRIAL}{below}", study=study, number=trial["number"])
    recorder.ask("GET", f"{STUDY}/best", study=study)
    goldens.check_json(f"rest/study-{study}.json", steady(recorder.answers))


def test_the_files_of_a_study(recorder: Recorder, goldens: Goldens) -> None:
    """Its export, its configuration in each format, and its events."""
    for form, file in FORMATS.items():
        answer = recorder.ask("GET", f"{STUDY}/best", query=f"?format={form}", study="heads")
        goldens.check(f"rest/{file}", answer.text)
    recorder.answers.clear()
    recorder.ask("GET", f"{STUDY}/export", study="heads")
    recorder.ask("GET", f"{STUDY}/events", study="heads")
    recorder.ask("GET", f"{STUDY}/events", study="heads", headers={"Last-Event-ID": "70"})
    goldens.check_json("rest/files.json", steady(recorder.answers))


def test_figures(recorder: Recorder, goldens: Goldens) -> None:
    for name in FIGURES:
        recorder.ask("GET", f"{STUDY}/figures/{{name}}", study="curves", name=name)
    recorder.ask("GET", f"{STUDY}/figures/{{name}}", study="curves", name="slice", query="?param=lr")
    goldens.check_json("rest/figures.json", steady(recorder.answers))


def test_parts_of_lists(recorder: Recorder, goldens: Goldens) -> None:
    recorder.ask("GET", f"{API}/studies")
    page = recorder.ask("GET", f"{API}/studies", query="?limit=2").json()
    recorder.ask("GET", f"{API}/studies", query=f"?limit=2&after={page['next']}")
    for query in ("?state=complete&sort=-value&limit=2", "?limit=1&after=1", "?state=pruned&state=failed"):
        recorder.ask("GET", f"{STUDY}/trials", study="curves", query=query)
    recorder.ask("GET", f"{STUDY}/curves", study="curves", query="?metric=loss&after=20")
    recorder.ask("GET", f"{STUDY}/changes", study="curves", query="?after=50")
    recorder.ask("GET", f"{STUDY}/table", study="curves", query="?after=50")
    recorder.ask("GET", f"{TRIAL}/log", study="curves", number=0, query="?attempt=1&limit=1")
    recorder.ask("GET", f"{TRIAL}/log", study="curves", number=0, headers={"Accept": "text/plain"})
    goldens.check_json("rest/lists.json", steady(recorder.answers))


def test_answers_about_the_service(recorder: Recorder, goldens: Goldens) -> None:
    for route in ("/models", "/search-spaces", "/study-schema", "/tasks", "/workers"):
        recorder.ask("GET", API + route)
    for name in ("small_cnn", "squeezenet1_1"):
        recorder.ask("GET", f"{API}/models/{{name}}", name=name)
    for route in ("/livez", "/readyz", "/metrics"):
        recorder.ask("GET", route)
    metrics = recorder.answers[-1]
    metrics["body"] = [line for line in metrics["body"] if not line.startswith(COUNTERS)]
    for route in PAGES:
        recorder.ask("GET", route)
    for route in ("/studies/{study}", "/studies/{study}/best", "/studies/{study}/trials/{number}"):
        recorder.ask("GET", route, study="heads")
    recorder.ask("GET", "/static/thawline.css")
    recorder.ask("GET", "/openapi.json")
    del recorder.answers[-1]["body"]  # is in a file of its own
    goldens.check_json("rest/service.json", steady(recorder.answers))


def test_changes(recorder: Recorder, goldens: Goldens) -> None:
    """A study from its check to its deletion, and an import."""
    document = study_document("new", notes="none")
    recorder.ask("POST", f"{API}/study-check", json=document)
    del document["notes"]
    recorder.ask("POST", f"{API}/study-check", json=document)
    recorder.ask("POST", f"{API}/studies", json=document)
    own: dict[str, Any] = {"study": "new"}
    params = {"lr": 0.01, "optimizer": "adam"}
    recorder.ask("POST", f"{STUDY}/trials", **own, json={"params": params})
    recorder.ask("POST", f"{STUDY}/trials", **own, json={"trials": [params, {"lr": 0.02}]})
    recorder.ask("POST", f"{TRIAL}/cancel", **own, number=1)
    for below in ("/pause", "/resume", "/stop", "/resume"):
        recorder.ask("POST", f"{STUDY}{below}", **own)
    recorder.ask("PATCH", STUDY, **own, json={"budget": {"trials": 30, "parallel": 2}})
    recorder.ask("PATCH", STUDY, **own, json={"add": {"trials": 5}})
    recorder.ask("DELETE", STUDY, **own)
    recorder.ask("GET", STUDY, **own)
    lines = recorder.ask("GET", f"{STUDY}/export", study="curves").content
    del recorder.answers[-1]
    content = {"Content-Type": "application/x-ndjson"}
    recorder.ask("POST", f"{API}/studies/import", query="?name=again", content=lines, headers=content)
    recorder.ask("GET", f"{TRIAL}", study="again", number=2)
    recorder.ask("POST", f"{STUDY}/objective", study="again", json={"metric": "f1"})
    recorder.ask("GET", f"{TRIAL}", study="again", number=2)
    worker = recorder.ask("GET", f"{API}/workers").json()["workers"][0]["id"]
    recorder.ask("POST", f"{API}/workers/{{worker}}/drain", name=worker)
    claim_and_end(recorder)
    goldens.check_json("rest/changes.json", anonymous(recorder.answers))


def claim_and_end(recorder: Recorder) -> None:
    """Three claims of a study, each with another end, and a fourth one that finds nothing."""
    recorder.ask("POST", f"{API}/studies", json=study_document("claimed", budget={"trials": 2, "parallel": 1}))
    recorder.ask(
        "POST", f"{STUDY}/trials", study="claimed", json={"trials": [{"lr": 0.01, "optimizer": "sgd"}, {"lr": 0.02, "optimizer": "sgd"}]}
    )
    result = {"metrics": {"accuracy": 0.9}, "train_seconds": 2.5}
    for calls in (
        (("report", {"step": 1, "metrics": {"accuracy": 0.5}}), ("heartbeat", None), ("finish", result), ("heartbeat", None)),
        (("release", {"detail": "the job's time is over"}), ("heartbeat", None)),
        (("fail", {"reason": "out_of_memory", "detail": "the batch did not fit"}),),
        (),
    ):
        claim = recorder.ask("POST", f"{STUDY}/claims", study="claimed", json={"worker": "notebook"}).json()
        for verb, body in calls:
            token = {"Claim-Token": claim["token"]}
            recorder.ask("POST", f"{API}/claims/{{claim}}/{verb}", name=claim["claim"], json=body or {}, headers=token)


def test_refusals(recorder: Recorder, goldens: Goldens) -> None:
    own: dict[str, Any] = {"study": "heads"}
    ask, plain = recorder.ask, {"Content-Type": "text/plain"}
    ask("GET", "/nowhere")
    ask("PUT", f"{API}/studies")
    ask("GET", STUDY, study="nobody")
    ask("GET", TRIAL, **own, number=99)
    ask("GET", f"{API}/models/{{name}}", name="nothing")
    ask("GET", f"{STUDY}/figures/{{name}}", **own, name="nothing")
    ask("GET", f"{STUDY}/curves", **own, query="?metric=nothing")
    ask("GET", f"{STUDY}/trials", **own, query="?state=done&limit=0")
    ask("GET", f"{STUDY}/events", **own, query="?after=x")
    ask("GET", API + "/studies", headers={"Host": "evil.example"})
    ask("POST", f"{API}/studies", content="{", headers={"Content-Type": "application/json"})
    ask("POST", f"{API}/studies", content="name: x", headers=plain)
    ask("POST", f"{API}/studies", json=study_document("heads"))
    ask("POST", f"{API}/studies", json={"name": "x", "epochs": 3, "search_space": {"lr": {"type": "float", "low": 1, "high": 0}}})
    ask("POST", f"{API}/studies", json=study_document("x"), headers={"Sec-Fetch-Site": "cross-site"})
    ask("POST", f"{STUDY}/trials", study="paused", json={"params": {"lr": 5, "momentum": 0.5}})
    ask("POST", f"{STUDY}/trials", study="paused", json={"params": {}, "more": 1})
    ask("POST", f"{STUDY}/pause", **own)
    ask("POST", f"{TRIAL}/cancel", **own)
    ask("PATCH", STUDY, **own, json={"budget": {"trials": 1}})
    ask("DELETE", STUDY, study="nobody")
    ask("POST", f"{API}/studies/import", content=b"{}\n", headers={"Content-Type": "application/x-ndjson"})
    ask("POST", f"{API}/workers/{{worker}}/drain", name="nobody")
    ask("POST", f"{STUDY}/objective", study="under-way", json={"metric": "f1"})
    ask("POST", f"{STUDY}/objective", study="curves", json={"metric": "poetry"})
    ask("POST", f"{STUDY}/objective", study="curves", json={"best": "f1"})
    ask("POST", f"{API}/claims/{{claim}}/heartbeat", name="0123456789abcdef-0-1", headers={"Claim-Token": "x"})
    ask("POST", f"{API}/claims/{{claim}}/heartbeat", name="0123456789abcdef-0-1")
    for study in ("paused", "under-way"):
        ask("POST", f"{STUDY}/stop", study=study, headers={"Idempotency-Key": "key"})
    goldens.check_json("rest/refusals.json", anonymous(recorder.answers))


def test_a_server_with_a_token(tmp_path: Path, goldens: Goldens) -> None:
    with restored(PRESENT, tmp_path) as store:
        recorder = Recorder(store, Settings(home=tmp_path, token=TOKEN))
        recorder.ask("GET", f"{API}/studies")
        recorder.ask("GET", "/")
        recorder.ask("POST", "/login", json={"token": "wrong"})
        recorder.ask("POST", "/login", json={})
        recorder.ask("POST", "/login", json={"token": TOKEN})
        recorder.ask("GET", f"{API}/models")
        recorder.ask("POST", "/logout", headers={"Origin": HERE})
    goldens.check_json("rest/token.json", steady(recorder.answers))


def test_every_route_is_recorded(recorder: Recorder) -> None:
    """A new route fails this test until a test above calls it, a removed one until none does."""
    files = [FOLDER / "rest" / f"{name}.json" for name in RECORDED]
    recorded = [answer["route"] for file in files for answer in json.loads(file.read_text())]
    assert set(recorded) - UNKNOWN == set(routes_of(recorder.app))


def routes_of(app: FastAPI) -> Iterator[str]:
    """Method and path of every route."""
    for route in iter_route_contexts(app.routes):
        if isinstance(route.route, Mount):
            yield f"GET {route.path}/thawline.css"
        else:
            yield from (f"{method} {route.path}" for method in set(route.methods or ()) - {"HEAD"})
