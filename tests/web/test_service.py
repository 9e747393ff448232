"""What the server says of itself: health, figures, catalogues, its own description."""

import re
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import trainer.tasks.images.catalogue as catalogue
from search_spaces import presets
from service import operations
from service.domain.parsing import parse_study
from service.domain.records import SinkProgress, UnusableDevice, Worker
from service.store import queries
from service.web.health import Sweeper
from tests.web.laboratory import Laboratory
from tests.web.problem import assert_problem
from trainer.protocol import Failed


def test_a_server_lives_and_is_ready(client: TestClient) -> None:
    assert client.get("/livez").json() == {"status": "alive"}
    assert client.get("/readyz").json()["status"] == "ready"


def test_a_server_that_has_not_swept_for_long_is_not_ready(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sweeper, "age_seconds", lambda _: 1000.0)
    assert_problem(client.get("/readyz"), 503, "not-ready")
    assert client.get("/livez").status_code == 200


def test_the_figures_count_studies_trials_and_requests(client: TestClient, lab: Laboratory) -> None:
    lab.study()
    lab.finish(lab.claim(), 0.9)
    lab.claim()
    client.get("/api/v1/studies/digits")
    client.get("/api/v1/studies/nobody")
    client.get("/nowhere/at/all")
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    for line in (
        'thawline_studies{state="active"} 1.0',
        'thawline_trials{state="complete"} 1.0',
        'thawline_trials{state="running"} 1.0',
        'thawline_http_requests_total{method="GET",route="/api/v1/studies/{study}",status="200"} 1.0',
        'thawline_http_requests_total{method="GET",route="/api/v1/studies/{study}",status="404"} 1.0',
        'thawline_http_requests_total{method="GET",route="unmatched",status="404"} 1.0',
        "thawline_event_streams 0.0",
    ):
        assert line in answer.text


def test_the_figures_show_what_sinks_delivered(client: TestClient, lab: Laboratory) -> None:
    study = lab.study()
    operations.register_sink(lab.store, "webhook:a", from_start=True)
    seen = lab.store.read(queries.find_sink, "webhook:a")
    assert seen is not None and operations.take_sink(lab.store, seen, "me")
    assert operations.advance_sink(lab.store, "webhook:a", "me", SinkProgress(study.id, 1, delivered=1))
    operations.fail_sink(lab.store, "webhook:a", "me", "it answered 500")
    text = client.get("/metrics").text
    for line in ("delivered_events_total", "backlog_events", "failures"):
        assert f'thawline_sink_{line}{{sink="webhook:a"}} 1.0' in text
    assert 'thawline_sink_skipped_events_total{sink="webhook:a"} 0.0' in text and "it answered" not in text


def test_models_are_listed_and_shown_with_their_stages_in_order(client: TestClient) -> None:
    assert client.get("/api/v1/models").json() == {"models": list(catalogue.names())}
    shown = client.get("/api/v1/models/squeezenet1_1").json()
    model = catalogue.load("squeezenet1_1")
    assert [stage["name"] for stage in shown["stages"]] == [stage.name for stage in model.stages]
    assert len(shown["stages"]) == 9
    first = shown["stages"][0]["tensors"][0]
    assert tuple(first["shape"]) == model.stages[0].tensors[first["name"]]
    assert shown["weights"] == list(model.weights)
    for name in ("nothing", "..", "%2e%2e%2fsquash", "%00"):
        assert client.get(f"/api/v1/models/{name}").status_code == 404


def test_the_shipped_search_spaces_say_what_they_are_for(client: TestClient) -> None:
    shown = client.get("/api/v1/search-spaces").json()["presets"]
    assert [preset["name"] for preset in shown] == list(presets.names())
    assert all(
        preset["name"] in presets.names(preset["task"])
        and preset["summary"]
        and preset["cost"]
        and preset["expect"]
        and preset["search_space"]
        for preset in shown
    )


def test_the_tasks_are_listed_with_what_is_known_of_their_metrics(client: TestClient) -> None:
    tasks = {task["name"]: task for task in client.get("/api/v1/tasks").json()["tasks"]}
    modules = {task["name"]: [task[key] for key in ("module", "input_module") if task[key] is not None] for task in tasks.values()}
    assert all(client.get(one).status_code == 200 for found in modules.values() for one in found)
    assert [name for name, found in modules.items() if len(found) < 2] == ["script"]  # a script has neither report nor data
    task = tasks["image_classification"]
    assert (task["name"], task["example"], task["report"]) == (
        "image_classification",
        "image",
        ["per_class_recall", "confusion_matrix", "worst_classes"],
    )
    assert task["metrics"]["f1"] == {"direction": "maximize", "low": 0.0, "high": 1.0, "unit": "share", "additive": False}
    assert task["metrics"]["loss"] == {"direction": "minimize", "low": 0.0, "high": None, "unit": "nats", "additive": True}
    assert client.get(task["module"]).headers["Content-Type"].startswith("text/javascript")


def test_workers_are_listed(client: TestClient, lab: Laboratory) -> None:
    now = time.time()
    worker = Worker(id="w1", host="box", pid=7, slots=2, devices=("cuda:0", "cuda:1"), state="alive", started_at=now, seen_at=now)
    operations.register_worker(lab.store, worker)
    (shown,) = client.get("/api/v1/workers").json()["workers"]
    assert (shown["id"], shown["devices"], shown["slots"], shown["state"]) == ("w1", ["cuda:0", "cuda:1"], 2, "alive")
    assert shown["seen_at"].endswith("Z") and shown["running"] == []


def test_a_worker_is_shown_with_the_trials_that_it_runs(client: TestClient, lab: Laboratory) -> None:
    now = time.time()
    for name in ("worker-1", "worker-2"):
        worker = Worker(id=name, host="box", pid=7, slots=2, devices=("cpu",), state="alive", started_at=now, seen_at=now)
        operations.register_worker(lab.store, worker)
    lab.study()
    lab.finish(lab.claim(), 0.9)
    lab.claim(), lab.claim()
    shown = {worker["id"]: worker["running"] for worker in client.get("/api/v1/workers").json()["workers"]}
    assert shown == {"worker-1": [{"study": "digits", "number": 1}, {"study": "digits", "number": 2}], "worker-2": []}


def test_a_worker_that_cannot_read_the_data_says_so_and_the_study_waits_when_no_other_can(client: TestClient, lab: Laboratory) -> None:
    now = time.time()
    for name in ("blind", "seeing"):
        worker = Worker(id=name, host=f"box of {name}", pid=7, slots=1, devices=("cpu",), state="alive", started_at=now, seen_at=now)
        operations.register_worker(lab.store, worker)
    study = lab.study(checked=False)
    tag = client.get("/api/v1/studies").headers["ETag"]
    operations.report_unavailable(lab.store, "blind", study.id, "data", "there is no folder /data/digits")
    operations.count_set_aside(lab.store, "seeing", 2)
    workers = {one["id"]: one for one in client.get("/api/v1/workers").json()["workers"]}
    (reported,) = workers["blind"]["unavailable"]
    assert (reported["study"], reported["what"], reported["detail"]) == ("digits", "data", "there is no folder /data/digits")
    assert (workers["seeing"]["unavailable"], workers["seeing"]["set_aside"], workers["blind"]["set_aside"]) == ([], 2, 0)
    shown = client.get("/api/v1/studies/digits").json()
    assert (shown["waiting"], shown["unavailable"]) == (None, [reported])  # the other worker may be able to read it
    listed = client.get("/api/v1/studies", headers={"If-None-Match": tag})
    assert listed.status_code == 200
    operations.retire_worker(lab.store, "seeing")
    waiting = (
        "No worker can read the study's data: on box of blind, there is no folder /data/digits. "
        "The study continues when a worker can read them."
    )
    assert client.get("/api/v1/studies/digits").json()["waiting"] == waiting
    again = client.get("/api/v1/studies", headers={"If-None-Match": listed.headers["ETag"]})
    assert again.status_code == 200 and again.json()["studies"][0]["waiting"] == waiting
    operations.report_available(lab.store, "blind", study.id)
    shown = client.get("/api/v1/studies/digits").json()
    assert (shown["waiting"], shown["unavailable"]) == (None, [])


def test_a_study_states_that_no_worker_can_use_a_device_and_continues_when_one_can(client: TestClient, lab: Laboratory) -> None:
    now = time.time()
    fault = UnusableDevice("cuda:0", "NVIDIA H200 #0, 141 GB", "CUDA error: no kernel image", "Install another torch")
    stuck = Worker(id="stuck", host="box", pid=7, slots=0, devices=(), unusable=(fault,), state="alive", started_at=now, seen_at=now)
    operations.register_worker(lab.store, stuck)
    study = lab.study(checked=False)
    listed = client.get("/api/v1/studies")
    waiting = (
        "Workers can use no device: on box, NVIDIA H200 #0, 141 GB: CUDA error: no kernel image. Install another torch. "
        "The study continues when a worker can train."
    )
    assert listed.json()["studies"][0]["waiting"] == client.get("/api/v1/studies/digits").json()["waiting"] == waiting
    blind = Worker(id="blind", host="hut", pid=7, slots=1, devices=("cpu",), state="alive", started_at=now, seen_at=now)
    operations.register_worker(lab.store, blind)
    again = client.get("/api/v1/studies", headers={"If-None-Match": listed.headers["ETag"]})
    assert again.status_code == 200 and again.json()["studies"][0]["waiting"] is None  # the other worker has a device
    operations.report_unavailable(lab.store, "blind", study.id, "data", "there is no folder /data/digits")
    assert client.get("/api/v1/studies/digits").json()["waiting"] == (
        "No worker can read the study's data: on hut, there is no folder /data/digits. Other workers can use no device: on box, "
        "NVIDIA H200 #0, 141 GB: CUDA error: no kernel image. Install another torch. The study continues when a worker can train."
    )
    operations.change_devices(lab.store, replace(stuck, slots=1, devices=("cuda:0",), unusable=()))
    assert client.get("/api/v1/studies/digits").json()["waiting"] is None


def test_a_study_states_that_its_last_trials_wait_for_a_larger_gpu(client: TestClient, lab: Laboratory) -> None:
    now = time.time()
    large = Worker(
        id="large", host="box", pid=7, slots=1, devices=("cuda:0",), memory=(80 * 10**9,), state="alive", started_at=now, seen_at=now
    )
    operations.register_worker(lab.store, large)
    lab.study(budget={"trials": 3})
    starved = Failed(reason="out_of_memory", detail="2 GB could not be allocated", device_bytes=24 * 10**9)
    claims = [lab.claim(), lab.claim(), lab.claim()]
    operations.record(lab.store, [operations.Write(claims[0].lease, outcome=starved)])
    assert client.get("/api/v1/studies/digits").json()["waiting"] is None, "others run"
    lab.finish(claims[1], 0.5)
    operations.record(lab.store, [operations.Write(claims[2].lease, outcome=operations.Released("for a test"))])
    assert client.get("/api/v1/studies/digits").json()["waiting"] is None, "one is queued that any device can train"
    lab.finish(lab.claim(), 0.6)
    [attempt] = lab.store.read(queries.attempts, claims[0].lease.trial)
    since = datetime.fromtimestamp(attempt.ended_at or 0, UTC).strftime("%Y-%m-%d %H:%M UTC")
    assert client.get("/api/v1/studies/digits").json()["waiting"] == (
        f"1 trial waits for a GPU with at least 30.0 GB since {since}, because it ran out of memory on a smaller one. "
        "It fails if no worker with such a GPU is left."
    )
    operations.stop_study(lab.store, lab.id_of("digits"))
    assert client.get("/api/v1/studies/digits").json()["waiting"] is None


def test_a_worker_is_drained_once_however_often_it_is_told(client: TestClient, lab: Laboratory) -> None:
    now = time.time()
    worker = Worker(id="box-7", host="box", pid=7, slots=1, devices=("cpu",), memory=(2**34,), state="alive", started_at=now, seen_at=now)
    operations.register_worker(lab.store, worker)
    drained = [client.post("/api/v1/workers/box-7/drain", headers=headers) for headers in ({"Idempotency-Key": "k"}, {}, {})]
    assert [(answer.status_code, answer.json()["state"]) for answer in drained] == [(200, "draining")] * 3
    assert drained[0].json()["memory"] == [2**34]
    operations.heartbeat(lab.store, "box-7", [])
    assert client.get("/api/v1/workers").json()["workers"][0]["state"] == "draining"
    operations.retire_worker(lab.store, "box-7")
    assert client.post("/api/v1/workers/box-7/drain").json()["state"] == "gone"
    assert client.post("/api/v1/workers/box-7/drain", headers={"Idempotency-Key": "k"}).json()["state"] == "draining"  # the first answer
    unknown = client.post("/api/v1/workers/box-8/drain")
    assert (unknown.status_code, unknown.json()["type"]) == (404, "urn:thawline:problem:worker-not-found")


@pytest.fixture
def description(client: TestClient) -> dict[str, Any]:
    document: dict[str, Any] = client.get("/openapi.json").json()
    return document


def test_every_call_is_described_in_a_sentence_with_its_problems(description: dict[str, Any]) -> None:
    for path, operations_ in description["paths"].items():
        for method, operation in operations_.items():
            assert operation["summary"] and operation["description"], (method, path)
            assert "application/problem+json" in operation["responses"]["4XX"]["content"]


def test_every_reference_in_the_description_leads_somewhere(description: dict[str, Any]) -> None:
    schemas = description["components"]["schemas"]
    referred = set(re.findall(r"#/components/schemas/([\w-]+)", str(description)))
    assert {"StudySpec", "TrialView"} <= referred <= schemas.keys()


def test_the_study_in_the_description_is_one_that_is_accepted(description: dict[str, Any]) -> None:
    bodies = description["paths"]["/api/v1/studies"]["post"]["requestBody"]["content"]
    spec = parse_study(bodies["application/json"]["example"])
    trial = description["paths"]["/api/v1/studies/{study}/trials"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert list(spec.search_space.faults_of(trial["params"])) == []
    assert "example" in bodies["application/yaml"]


def test_pages_and_modules_name_only_files_that_are_there(client: TestClient) -> None:
    folder = Path(__file__).resolve().parents[2] / "service/web"
    named = {
        name
        for file in (*folder.glob("pages/*.html"), *folder.glob("static/*.js"))
        for name in re.findall(r'"(?:/static|\.)/([\w.]+)"', file.read_text())
    }
    assert len(named) > 8
    for name in named:
        assert client.get(f"/static/{name}").status_code == 200, name
