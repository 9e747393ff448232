"""A task of another kind goes through study, result, confirmation, export, travel and command line as the first one does."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import torch
from starlette.testclient import TestClient

from service import operations
from service.cli import studies as commands
from service.cli.console import plain_text, speed
from service.domain.errors import InvalidInput
from service.domain.export import read_export
from service.domain.parsing import parse_study
from service.domain.records import Claim, MetricReport, Study
from service.domain.spec import StudySpec
from service.domain.states import TrialState
from service.domain.study_schema import document_schema
from service.inspection import checked_study
from service.operations import Write
from service.settings import Settings
from service.store import Store, queries
from service.study_io.import_ import sound
from service.web.app import create_app
from tests.narrowed import training
from tests.operations.driving import claim_one
from tests.study_io.luggage import exported, imported
from tests.tasks.regression.spec import NumberInfo, NumberTrainConfig
from tests.web.laboratory import HERE
from trainer.configuration import DatasetInfo, TrainConfig
from trainer.loop import train
from trainer.protocol import Finished, RunPrepared, Scores
from trainer.tasks import registry

INFO: dict[str, Any] = {
    "task": "regression", "rows": {"train": 60, "validation": 20, "test": 20}, "means": {"validation": 900.0, "test": 910.0},
    "variances": {"validation": 250_000.0, "test": 240_000.0}, "fingerprint": "ab" * 32, "split": "cd" * 32, "weights_sha256": None,
}  # fmt: skip
ERRORS = (340.0, 310.0, 325.0)
DOCUMENT: dict[str, Any] = {
    "name": "rents", "task": "regression", "data": {"path": "/data/rents.csv", "target": "rent", "location": "workers", "test": 0.2},
    "model": {"name": "perceptron", "weights": "random"}, "search_space": {"l2": {"type": "float", "low": 0.0, "high": 1.0}},
    "fixed": {"epochs": 3}, "objective": {"metric": "rmse", "direction": "minimize"}, "sampler": {"name": "random", "seed": 0},
    "budget": {"trials": 3}, "confirm": {"top": 1, "seeds": 3},
}  # fmt: skip


SOUND = {"residuals": (0.0, 0.0, 1.0)}


def forget() -> None:
    """What the process has found out about installed tasks."""
    for cached in (registry.packages, registry.specs, registry.report_fields, registry.example_fields):
        cached.cache_clear()


@pytest.fixture(scope="module", autouse=True)
def _installed() -> Iterator[None]:
    """The task is installed as by an entry point."""
    patch = pytest.MonkeyPatch()
    patch.setattr(registry, "SHIPPED", {**registry.SHIPPED, "regression": "tests.tasks.regression"})
    forget()
    yield
    patch.undo()
    forget()
    registry.spec_of.cache_clear()
    for family in (TrainConfig, DatasetInfo, StudySpec):
        family._models.pop("regression", None)


def end(store: Store, claim: Claim, rmse: float, test: float | None = None) -> None:
    """The end of a run, with a coefficient of determination below 0."""
    metrics, report = {"rmse": rmse, "r2": -0.25}, {"residuals": (-300.0, 12.5, 400.0)}
    scores = (
        None
        if test is None
        else Scores(metrics={"rmse": test, "r2": -0.5}, report={**report, "each": (1.5,) * 20, "targets": (900.0,) * 20})
    )
    done = Finished(step=3, metrics=metrics, report=report, train_seconds=1.0, peak_memory=1, test=scores)
    result = {"environment": {"torch": "2.14.1"}, "trainable": 3}
    assert operations.record(store, [Write(claim.lease, reports=[MetricReport(3, metrics)], outcome=done, result=result)]) == []


@pytest.fixture
def study(embedded_store: Store) -> Study:
    """Searched and confirmed."""
    store, searches = embedded_store, operations.Searches()
    study = operations.create_study(store, parse_study(DOCUMENT))
    operations.pass_check(store, study.id, NumberInfo.model_validate(INFO))
    for rmse in ERRORS:
        end(store, claim_one(store, searches), rmse)
    while True:
        claims = operations.claim_together(store, searches, "w", lane_bytes=0)
        for claim in claims:
            end(store, claim, 315.0 + claim.lease.number / 10, 320.0 + claim.lease.number / 10)
        if store.read(queries.find_study, study.id).state.terminal:
            break
    return store.read(queries.find_study, study.id)


@pytest.fixture
def client(embedded_store: Store, tmp_path: Path) -> TestClient:
    return TestClient(create_app(embedded_store, Settings(home=tmp_path)), base_url=HERE)


def test_a_study_is_searched_and_confirmed(embedded_store: Store, study: Study, client: TestClient) -> None:
    assert study.state == "complete" and isinstance(study.facts, NumberInfo)
    answer = client.get("/api/v1/studies/rents").json()
    assert answer["best"]["value"] == 310.0 and answer["facts"]["means"]["test"] == 910.0
    assert answer["majority"]["better"] is True and "Always answering it gives rmse 500." in answer["majority"]["sentence"]
    (checked,) = [event for event in embedded_store.read(queries.events_after, study.id, 0, limit=100) if event.kind == "study_checked"]
    assert checked.body["examples"] == INFO["rows"]
    verdict = client.get("/api/v1/studies/rents/confirmation").json()
    assert "test rows" in verdict["note"] and "images" not in json.dumps(verdict["verdict"]["words"])
    assert "Expected rmse: 320" in " ".join(verdict["verdict"]["words"]) and "is better." in verdict["verdict"]["words"][-1]
    trial = client.get("/api/v1/studies/rents/trials/4").json()
    assert trial["result"]["residuals"] == [-300.0, 12.5, 400.0]
    assert trial["result"]["test"] == {"metrics": {"rmse": pytest.approx(320.4), "r2": -0.5}, "residuals": [-300.0, 12.5, 400.0]}
    assert all(
        one["result"].keys().isdisjoint({"residuals", "test"}) for one in client.get("/api/v1/studies/rents/trials").json()["trials"]
    )


def test_the_exported_file_and_the_card_have_the_fields_of_the_task(study: Study, client: TestClient) -> None:
    best = "/api/v1/studies/rents/best?format="
    for form in ("yaml", "json"):
        found = read_export(client.get(best + form).text)
        assert isinstance(found.config, NumberTrainConfig) and found.reached.metrics["r2"] == -0.25 and found.test_examples == 20
        assert found.model_dump()["median_residual"] == 12.5 and found.confirmed and found.confirmed.model_dump()["median_residual"] == 12.5
    text = client.get(best + "card").text
    assert "Regression of the column rent." in text and "## Residuals" in text and "| rows |" in text and "| l2 |" in text
    assert "image" not in text and "class" not in text and "--format python" not in text and "| rmse |" in text
    refused = client.get(best + "python")
    assert refused.status_code == 404 and refused.json()["type"].endswith("no-script") and "regression" in refused.json()["detail"]
    assert "torch==2.14.1" in client.get(best + "requirements").text


def test_its_study_travels(embedded_store: Store, study: Study) -> None:
    raw = exported(embedded_store, study)
    again = imported(embedded_store, raw, "rents again")
    assert again.spec.task == "regression" and again.facts == study.facts
    (first,) = [one for one in embedded_store.read(queries.trials, again.id) if one.number == 1]
    whole = embedded_store.read(queries.find_trial, again.id, first.number)
    assert whole.result == embedded_store.read(queries.find_trial, study.id, first.number).result
    with pytest.raises(InvalidInput) as refused:
        sound(io.BytesIO(raw.replace(b'"residuals":[-300.0,12.5,400.0]', b'"residuals":[-300.0,"x"]     ', 1)))
    assert refused.value.faults[0].pointer.startswith("#/line 2/result/residuals")


def test_a_report_of_another_task_fails_its_trial(embedded_store: Store) -> None:
    study = operations.create_study(embedded_store, parse_study({**DOCUMENT, "confirm": None}))
    operations.pass_check(embedded_store, study.id, NumberInfo.model_validate(INFO))
    claim = claim_one(embedded_store, operations.Searches())
    done = Finished(
        step=3,
        metrics={"rmse": 1.0},
        report={"per_class_recall": {}, "confusion_matrix": ((1,),)},
        train_seconds=1.0,
        peak_memory=1,
    )
    operations.record(embedded_store, [Write(claim.lease, outcome=done)])
    trial = embedded_store.read(queries.find_trial, study.id, 0)
    assert (trial.state, trial.reason) == (TrialState.FAILED, "script_error") and "task regression: #/residuals" in (trial.detail or "")


def test_documents_are_checked_by_the_task(tmp_path: Path, client: TestClient) -> None:
    table = tmp_path / "rents.csv"
    table.write_text("size,rent\n" + "".join(f"{size},{10 * size}\n" for size in range(30, 130)))
    data = {"path": str(table), "target": "rent", "test": 0.2}
    spec = checked_study({**DOCUMENT, "data": data}, ())
    assert training(spec).data.model_dump()["target"] == "rent"
    with pytest.raises(InvalidInput) as refused:
        parse_study({**DOCUMENT, "data": {"path": "rents.csv"}, "preset": "image_head", "fixed": {"image_size": 64}})
    assert {(fault.pointer, fault.code) for fault in refused.value.faults} >= {
        ("#/data/target", "missing"), ("#/preset", "unknown_preset"), ("#/fixed/image_size", "unknown_parameter"),
    }  # fmt: skip
    schema = client.get("/api/v1/study-schema?task=regression").json()
    assert schema["metrics"] == {"r2": "maximize", "rmse": "minimize"} and "l2" in schema["hyperparameters"]["properties"]
    assert client.get("/api/v1/study-schema?task=poetry").status_code == 422
    editing = document_schema("regression")
    jsonschema_rs.validate(editing, DOCUMENT)
    assert "l2" in editing["properties"]["search_space"]["properties"] and "image_size" not in editing["properties"]["fixed"]["properties"]
    described = client.get("/openapi.json").json()["components"]["schemas"]["DatasetInfo"]
    members = {one.get("title", one.get("$ref", "").rpartition("/")[2]) for one in described["oneOf"]}
    assert members == {
        "ImageClassificationInfo",
        "ImageMultilabelInfo",
        "ImageRegressionInfo",
        "NumberInfo",
        "ScriptInfo",
        "TextClassificationInfo",
        "TextMultilabelInfo",
        "TextRegressionInfo",
    }


def test_the_command_line_shows_it(study: Study, client: TestClient) -> None:
    found = client.get("/api/v1/studies/rents").json()
    from service.rest_models import StudyView, TrialView

    view = StudyView.model_validate(found)
    assert any("The mean of the validation rows is 900." in line for line in commands._notes(view))
    trial = TrialView.model_validate(client.get("/api/v1/studies/rents/trials").json()["trials"][0])
    running = trial.model_copy(update={"state": TrialState.RUNNING, "pace": _pace()})
    assert str(plain_text(speed(running, registry.spec_of(view.spec.task).example))).startswith("1240 rows/s")


def _pace() -> Any:
    from service.rest_models import PaceView

    return PaceView(samples_per_second=1240.0, seconds_left=None, memory=None, utilization=None, shares={})


def test_the_stored_output_of_frozen_stages_gives_the_same_result(tmp_path: Path) -> None:
    table = tmp_path / "rents.csv"
    table.write_text("size,age,rent\n" + "".join(f"{row % 7},{row % 5},{row % 7 - row % 5}\n" for row in range(140)))
    data, model = {"path": str(table), "target": "rent", "test": 0.2}, {"name": "perceptron"}
    config = NumberTrainConfig(data=data, model=model, frozen_layers=1, l2=0.01, epochs=2, batch_size=8)
    stored = list(train(config, device=torch.device("cpu"), depths=(1, 1), score_test=True))
    computed = list(train(config, device=torch.device("cpu"), share=False, score_test=True))
    assert [event.reuse.depth for events in (stored, computed) for event in events if isinstance(event, RunPrepared) and event.reuse] == [
        1,
        0,
    ]
    ends = [event for events in (stored, computed) for event in events if isinstance(event, Finished)]
    assert ends[0].metrics == ends[1].metrics and ends[0].test == ends[1].test and ends[0].metrics["r2"] < 1


def test_a_number_that_is_not_finite_fails_the_trial_alone(embedded_store: Store) -> None:
    study = operations.create_study(embedded_store, parse_study({**DOCUMENT, "confirm": None}))
    operations.pass_check(embedded_store, study.id, NumberInfo.model_validate(INFO))
    searches = operations.Searches()
    first, second = claim_one(embedded_store, searches), claim_one(embedded_store, searches)
    infinite = {"rmse": 1.0, "r2": float("-inf")}
    done = Finished(step=3, metrics=infinite, report={"residuals": (float("nan"), 0.0, 1.0)}, train_seconds=1.0, peak_memory=1)
    sound = done.model_copy(update={"report": {"residuals": (0.0, 0.0, 1.0)}, "test": Scores(metrics=infinite, report=SOUND)})
    assert operations.record(embedded_store, [Write(first.lease, outcome=done), Write(second.lease, outcome=sound)]) == []
    ended = [embedded_store.read(queries.find_trial, study.id, number) for number in (0, 1)]
    assert [(one.state, one.reason) for one in ended] == [(TrialState.FAILED, "script_error"), (TrialState.COMPLETE, None)]
    assert ended[1].result["test"]["metrics"] == {"rmse": 1.0, "r2": None}


def test_a_task_that_cannot_be_imported_is_left_out(monkeypatch: pytest.MonkeyPatch, client: TestClient) -> None:
    monkeypatch.setattr(registry, "SHIPPED", {**registry.SHIPPED, "broken": "tests.tasks.absent"})
    forget()
    assert "residuals" in registry.report_fields() and "broken" not in registry.specs()
    listed = {task["name"] for task in client.get("/api/v1/tasks").json()["tasks"]}
    assert {"image_classification", "regression"} < listed and "broken" not in listed
    refused = client.post("/api/v1/studies", json={**DOCUMENT, "task": "broken"})
    assert refused.status_code == 422 and "unknown_task" in refused.text
    monkeypatch.undo()
    forget()
