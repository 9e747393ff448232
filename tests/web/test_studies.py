"""Studies over REST."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import func, select, update
from starlette.testclient import TestClient

from service import operations
from service.domain.export import read_export
from service.store import Store, registry, schema
from tests.web.laboratory import FACTS, Laboratory, study_document
from tests.web.problem import assert_problem
from trainer.tasks.images.config import ImageExamples, PixelRange

STUDIES = "/api/v1/studies"
STUDY = study_document()


def test_a_study_is_created_and_shown_as_it_stands(client: TestClient) -> None:
    created = client.post(STUDIES, json=study_document())
    assert created.status_code == 201
    study = created.json()
    assert created.headers["location"] == f"{STUDIES}/{study['id']}"
    assert client.get(created.headers["location"]).json() == study
    assert client.get(f"{STUDIES}/digits").json() == study
    assert study["state"] == "active"
    assert study["counts"] == dict.fromkeys(("queued", "running", "paused", "complete", "pruned", "failed", "cancelled"), 0)
    assert study["budget"]["trials"] == 20
    assert study["best"] is None and study["facts"] is None and study["finished_at"] is None
    assert study["spec"]["search_space"]["lr"]["log"] is True
    assert study["created_at"].endswith("Z")


def test_yaml_says_the_same_as_json(client: TestClient) -> None:
    text = yaml.safe_dump(study_document()).replace("1.0e-05", "1e-5")
    answer = client.post(STUDIES, content=text, headers={"content-type": "application/yaml"})
    assert answer.status_code == 201
    assert answer.json()["spec"]["search_space"]["lr"]["low"] == 1e-5


def test_a_baseline_waits_as_trial_0_of_a_new_study(client: TestClient) -> None:
    created = client.post(STUDIES, json=study_document(baseline={"lr": 0.01, "optimizer": "sgd"})).json()
    assert created["counts"]["queued"] == 1
    assert client.get(f"{STUDIES}/digits").json() == created
    assert client.get(f"{STUDIES}/digits/trials/0").json()["source"] == "baseline"


def test_a_taken_name_is_a_conflict(client: TestClient) -> None:
    client.post(STUDIES, json=study_document())
    problem = assert_problem(client.post(STUDIES, json=study_document()), 409, "name-taken")
    assert '"digits"' in problem["detail"]
    assert [(fault["pointer"], fault["code"]) for fault in problem["errors"]] == [("#/name", "name_taken")]
    assert "choose another name" in problem["errors"][0]["detail"]


def test_all_faults_are_told_at_once_each_with_its_pointer(client: TestClient) -> None:
    document = study_document(budget={"trials": 0}, objective={"metric": "loss", "direction": "maximize"})
    problem = assert_problem(client.post(STUDIES, json=document), 422, "validation")
    assert {fault["pointer"] for fault in problem["errors"]} == {"#/budget/trials", "#/objective/direction"}
    assert all(fault["code"] and fault["detail"] for fault in problem["errors"])
    assert client.get(STUDIES).json()["studies"] == []


def nested(path: str, value: Any) -> dict[str, Any]:
    document = study_document()
    *parents, last = path.split("/")
    place = document
    for parent in parents:
        place = place[parent]
    place[last] = value
    return document


BAD = {
    "an unknown parameter": ("search_space/learning_rate", {"type": "float", "low": 0, "high": 1}, "#/search_space/learning_rate"),
    "an unknown metric": ("objective", {"metric": "accurracy", "direction": "maximize"}, "#/objective/metric"),
    "low above high": ("search_space/lr", {"type": "float", "low": 0.5, "high": 0.1}, "#/search_space/lr/low"),
    "a log range from 0": ("search_space/lr", {"type": "float", "low": 0, "high": 0.1, "log": True}, "#/search_space/lr/low"),
    "a condition on a missing parameter": (
        "search_space/momentum",
        {"type": "float", "low": 0, "high": 0.9, "when": {"optimiser": ["sgd"]}},
        "#/search_space/momentum/when/optimiser",
    ),
    "a condition on a missing value": (
        "search_space/momentum",
        {"type": "float", "low": 0, "high": 0.9, "when": {"optimizer": ["lamb"]}},
        "#/search_space/momentum/when/optimizer/0",
    ),
    "more frozen layers than stages": (
        "search_space/frozen_layers",
        {"type": "int", "low": 0, "high": 10},
        "#/search_space/frozen_layers/high",
    ),
    "a budget of 0": ("budget", {"trials": 0}, "#/budget/trials"),
    "a contradicting direction": ("objective", {"metric": "loss", "direction": "maximize"}, "#/objective/direction"),
    "a name with control characters": ("name", "a\x07b", "#/name"),
    "a missing folder": ("data", {"path": "/nowhere/at/all"}, "#/data/path"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_with_a_pointer_before_anything_is_queued(client: TestClient, case: str) -> None:
    path, value, pointer = BAD[case]
    problem = assert_problem(client.post(STUDIES, json=nested(path, value)), 422, "validation")
    assert pointer in {fault["pointer"] for fault in problem["errors"]}
    assert client.get(STUDIES).json()["studies"] == []


def test_a_study_that_is_no_mapping_is_refused(client: TestClient) -> None:
    documents: list[Any] = [[], "study", 1, True]
    for document in documents:
        assert_problem(client.post(STUDIES, json=document), 422, "validation")


def test_studies_come_newest_first_in_pages(client: TestClient, lab: Laboratory) -> None:
    for number in range(5):
        lab.study(f"study-{number}")
    first = client.get(STUDIES, params={"limit": 2}).json()
    second = client.get(STUDIES, params={"limit": 2, "after": first["next"]}).json()
    third = client.get(STUDIES, params={"limit": 2, "after": second["next"]}).json()
    names = [study["name"] for page in (first, second, third) for study in page["studies"]]
    assert names == [f"study-{number}" for number in (4, 3, 2, 1, 0)]
    assert third["next"] is None


@pytest.mark.parametrize(
    ("query", "pointer"), [("limit=501", "limit"), ("limit=0", "limit"), ("limit=x", "limit"), ("after=nobody", "after")]
)
def test_a_wrong_page_is_a_fault_of_the_query(client: TestClient, query: str, pointer: str) -> None:
    problem = assert_problem(client.get(f"{STUDIES}?{query}"), 422, "validation")
    assert [fault["pointer"] for fault in problem["errors"]] == [f"#/query/{pointer}"]


def test_a_study_that_has_ended_is_ranked_by_another_metric(client: TestClient, lab: Laboratory) -> None:
    lab.study()
    running = client.post(f"{STUDIES}/digits/objective", json={"metric": "f1"})
    assert running.status_code == 409 and "its search still follows accuracy" in running.json()["detail"]
    client.post(f"{STUDIES}/digits/stop")
    ranked = client.post(f"{STUDIES}/digits/objective", json={"metric": "loss"})
    assert ranked.status_code == 200 and ranked.json()["spec"]["objective"] == {"metric": "loss", "direction": "minimize"}
    facts = FACTS.model_copy(update={"classes": tuple(map(str, range(77)))})
    many = lab.study(name="many", objective={"metric": "f1", "direction": "maximize"}, checked=False)
    operations.pass_check(lab.store, many.id, facts)
    client.post(f"{STUDIES}/many/stop")
    refused = client.post(f"{STUDIES}/many/objective", json={"metric": "auroc"})
    assert refused.status_code == 422 and "is not recorded for 77 classes" in refused.json()["errors"][0]["detail"]
    bodies: list[Any] = [{"metric": "poetry"}, {"metric": 1}, {}, {"metric": "f1", "more": 1}, []]
    for body in bodies:
        refused = client.post(f"{STUDIES}/digits/objective", json=body)
        assert refused.status_code == 422 and refused.json()["errors"][0]["pointer"] == "#/metric", body


def test_a_study_is_paused_resumed_and_stopped(client: TestClient, lab: Laboratory) -> None:
    lab.study()
    lab.claim()
    assert client.post(f"{STUDIES}/digits/pause").json()["state"] == "paused"
    assert client.post(f"{STUDIES}/digits/resume").json()["state"] == "active"
    stopped = client.post(f"{STUDIES}/digits/stop").json()
    assert stopped["state"] == "stopped"
    assert stopped["counts"]["cancelled"] == 1 and stopped["finished_at"] is not None
    resumed = client.post(f"{STUDIES}/digits/resume").json()
    assert (resumed["state"], resumed["finished_at"]) == ("active", None)
    assert_problem(client.post(f"{STUDIES}/none/resume"), 404, "study-not-found")


def test_a_budget_is_set_and_added_to(client: TestClient, lab: Laboratory) -> None:
    lab.study()
    lab.claim()
    before = client.get(f"{STUDIES}/digits").json()["budget"]["trials"]
    changed = client.patch(f"{STUDIES}/digits", json={"budget": {"trials": 60, "parallel": 2}}).json()
    assert changed["budget"] == changed["spec"]["budget"] == {"trials": 60, "hours": None, "parallel": 2} and before != 60
    assert client.patch(f"{STUDIES}/digits", json={"add": {"trials": 20}}).json()["budget"]["trials"] == 80
    key = {"Idempotency-Key": "once"}
    for _ in range(2):
        assert client.patch(f"{STUDIES}/digits", json={"add": {"trials": 1}}, headers=key).json()["budget"]["trials"] == 81


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"budget": {"trials": 0}}, "#/budget/trials"),
        ({"budget": {"trials": None}}, "#/budget"),
        ({"budget": {"epochs": 3}}, "#/budget/epochs"),
        ({"budget": {}}, "#/budget"),
        ({"add": {"trials": -3}}, "#/add/trials"),
        ({"add": {"hours": 1}}, "#/add/hours"),
        ({"add": {"trials": 100_000}}, "#/add/trials"),
        ({"name": "other"}, "#"),
        ([], "#"),
        ({"budget": {"trials": 9}, "add": {"trials": 9}}, "#"),
        ({"budget": {"trials": 9}, "name": "other"}, "#/name"),
    ],
)
def test_a_change_that_cannot_be_names_its_field(client: TestClient, lab: Laboratory, body: object, pointer: str) -> None:
    lab.study()
    problem = assert_problem(client.patch(f"{STUDIES}/digits", json=body), 422, "validation")
    assert [fault["pointer"] for fault in problem["errors"]] == [pointer]


@pytest.mark.parametrize("by", ["query", "document"])
def test_an_ended_study_is_replaced_on_request(client: TestClient, lab: Laboratory, by: str) -> None:
    old = lab.study()
    document = STUDY | ({"replace": True} if by == "document" else {})
    address = STUDIES + ("?replace=true" if by == "query" else "")
    body = document | {"name": "digits"}
    problem = assert_problem(client.post(address, json=body), 409, "name-taken")
    assert [(fault["pointer"], "stop it first" in fault["detail"]) for fault in problem["errors"]] == [("#/name", True)]
    client.post(f"{STUDIES}/digits/stop")
    created = client.post(address, json=body)
    assert created.status_code == 201 and created.json()["id"] != old.id
    assert client.get(f"{STUDIES}/{old.id}").json()["name"] == "digits~1"
    assert_problem(client.post(STUDIES, json=STUDY | {"name": "digits", "replace": "yes"}), 422, "validation")


def test_a_repeated_request_about_a_deleted_study_is_answered_404_and_creates_nothing(client: TestClient) -> None:
    key = {"Idempotency-Key": "mine"}
    first = client.post(STUDIES, json=STUDY, headers=key).json()
    assert client.post(STUDIES, json=STUDY, headers=key).json() == first
    client.delete(f"{STUDIES}/{first['id']}", headers={"Idempotency-Key": "gone"})
    assert client.delete(f"{STUDIES}/{first['id']}", headers={"Idempotency-Key": "gone"}).status_code == 204
    repeated = client.post(STUDIES, json=STUDY, headers=key)
    assert_problem(repeated, 404, "study-not-found")
    assert "send a new key" in repeated.json()["detail"]
    assert client.get(STUDIES).json()["studies"] == []
    second = client.post(STUDIES, json=STUDY, headers={"Idempotency-Key": "new"})
    assert second.status_code == 201 and second.json()["id"] != first["id"]
    assert client.get(f"{STUDIES}/{second.json()['id']}").status_code == 200


def test_a_deleted_study_is_gone(client: TestClient, lab: Laboratory) -> None:
    lab.study()
    deleted = client.delete(f"{STUDIES}/digits")
    assert deleted.status_code == 204 and deleted.content == b""
    assert_problem(client.get(f"{STUDIES}/digits"), 404, "study-not-found")
    assert_problem(client.delete(f"{STUDIES}/digits"), 404, "study-not-found")


def test_a_deleted_study_is_gone_before_its_rows_are(
    client: TestClient, lab: Laboratory, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large study, whose rows the sweeper removes later."""
    monkeypatch.setattr(registry, "REMOVED_ROWS", 1)
    study = lab.study()
    assert client.delete(f"{STUDIES}/digits").status_code == 204
    with store.reading() as tx:
        assert tx.scalar(select(func.count()).select_from(schema.study)) == 1
    for ref in ("digits", study.id):
        assert_problem(client.get(f"{STUDIES}/{ref}"), 404, "study-not-found")
    assert client.get(STUDIES).json()["studies"] == []
    assert client.post(STUDIES, json=STUDY).status_code == 201, "its name is free"


def test_a_study_that_cannot_be_read_says_so_and_leaves_the_others_alone(client: TestClient, lab: Laboratory, store: Store) -> None:
    damaged, _ = lab.study("damaged"), lab.study("sound")
    with store.writing() as tx:
        tx.execute(update(schema.study).where(schema.study.c.id == damaged.id).values(spec="{}"))
    assert [study["name"] for study in client.get(STUDIES).json()["studies"]] == ["sound"]
    assert client.get("/metrics").status_code == client.get("/readyz").status_code == 200
    for call in ("", "/trials", "/events"):
        assert_problem(client.get(f"{STUDIES}/damaged{call}"), 409, "study-unreadable")
    assert client.delete(f"{STUDIES}/damaged").status_code == 204


@pytest.mark.parametrize("call", ["", "/trials", "/trials/0", "/trials/0/metrics", "/best", "/events"])
def test_an_unknown_study_is_not_found_by_any_call(client: TestClient, call: str) -> None:
    for name in ("nobody", "%00", "%ed%a0%80", "x" * 5000, "%e2%80%ae"):
        assert_problem(client.get(f"{STUDIES}/{name}{call}"), 404, "study-not-found")


def test_the_best_trial_is_shown_and_exported(client: TestClient, lab: Laboratory) -> None:
    lab.study()
    assert_problem(client.get(f"{STUDIES}/digits/best"), 404, "no-result")
    for accuracy in (0.7, 0.9, 0.8):
        lab.finish(lab.claim(), accuracy)
    best = client.get(f"{STUDIES}/digits").json()["best"]
    assert (best["number"], best["value"], best["metrics"]) == (1, 0.9, {"accuracy": 0.9, "loss": pytest.approx(0.1)})
    for form in ("json", "yaml"):
        answer = client.get(f"{STUDIES}/digits/best", params={"format": form})
        assert answer.headers["content-type"] == f"application/{form}"
        exported = read_export(answer.text)
        assert exported.reached.value == 0.9
        assert dict(exported.origin.params) == best["params"]
        assert exported.facts == FACTS
    assert client.get(f"{STUDIES}/digits/best").headers["content-type"] == "application/json"
    assert_problem(client.get(f"{STUDIES}/digits/best?format=xml"), 422, "validation")


def test_a_repeated_key_has_one_effect_and_gets_the_first_answer(client: TestClient) -> None:
    body = json.dumps(study_document())
    headers = {"content-type": "application/json", "idempotency-key": "once"}
    first = client.post(STUDIES, content=body, headers=headers)
    client.post(f"{STUDIES}/digits/pause")
    second = client.post(STUDIES, content=body, headers=headers)
    assert (second.status_code, second.text, second.headers["location"]) == (201, first.text, first.headers["location"])
    assert len(client.get(STUDIES).json()["studies"]) == 1


def test_a_key_cannot_be_used_for_another_request(client: TestClient) -> None:
    headers = {"idempotency-key": "once"}
    client.post(STUDIES, json=study_document("one"), headers=headers)
    assert_problem(client.post(STUDIES, json=study_document("two"), headers=headers), 422, "idempotency-key-reused")
    assert [study["name"] for study in client.get(STUDIES).json()["studies"]] == ["one"]


@pytest.mark.parametrize("key", ["", "x" * 201, "two words", "\x7f"])
def test_a_key_is_a_short_visible_text(client: TestClient, key: str) -> None:
    problem = assert_problem(client.post(STUDIES, json=study_document(), headers={"idempotency-key": key}), 422, "validation")
    assert problem["errors"][0]["pointer"] == "#/header/Idempotency-Key"


def test_relative_paths_begin_at_the_servers_folder(client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    created = client.post(STUDIES, json=study_document(data={"path": "digits", "location": "workers"})).json()
    assert created["spec"]["data"]["path"] == str(tmp_path / "digits")


def test_the_largest_class_and_the_notes_about_the_data_are_shown(client: TestClient, lab: Laboratory) -> None:
    study = lab.study(checked=False)
    facts = FACTS.model_copy(
        update={
            "class_counts": {"train": (57, 3), "validation": (19, 1), "test": (19, 1)},
            "unreadable": ImageExamples(count=1, examples=("cat/cut.png: truncated",)),
            "pixel_range": PixelRange(low=0, high=240, source="training_images", images=90),
        }
    )
    operations.pass_check(lab.store, study.id, facts)
    shown = client.get(f"{STUDIES}/{study.id}").json()
    assert (shown["majority"]["label"], shown["majority"]["share"], shown["majority"]["better"]) == ("cat", 0.95, None)
    assert "1 image is left out as unreadable: cat/cut.png: truncated." in shown["notes"]
    assert any("0 becomes black and 240 white" in note and "The other 10 have 8 bits" in note for note in shown["notes"])
    lab.finish(lab.claim(), 0.95)
    assert client.get(f"{STUDIES}/{study.id}").json()["majority"]["better"] is False
    lab.finish(lab.claim(), 0.96)
    assert client.get(f"{STUDIES}/{study.id}").json()["majority"]["better"] is True
