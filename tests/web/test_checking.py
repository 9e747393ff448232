"""A study document is checked as it would be when it is posted, and nothing is created."""

from dataclasses import replace
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.store import Store, queries, registry
from tests.web.laboratory import Laboratory, study_document

SPACES: list[tuple[dict[str, Any], int | None]] = [
    ({"lr": {"type": "float", "low": 0.1, "high": 0.3, "step": 0.1}, "optimizer": {"type": "categorical", "choices": ["sgd", "adam"]}}, 6),
    ({"lr": {"type": "float", "low": 1e-5, "high": 0.1, "log": True}}, None),
]


@pytest.mark.parametrize(("space", "trials"), SPACES)
def test_a_sound_study_is_shown_resolved_and_not_created(
    client: TestClient, store: Store, space: dict[str, Any], trials: int | None
) -> None:
    answer = client.post("/api/v1/study-check", json=study_document(search_space=space))
    assert answer.status_code == 200
    assert answer.json()["trials"] == trials
    assert answer.json()["study"]["sampler"] == {"seed": 0, "name": "random"}
    assert answer.json()["study"]["limits"]["attempts"] == 3  # a default, written out
    assert store.read(queries.studies) == []


def test_yaml_is_checked_too_and_its_preset_is_expanded(client: TestClient) -> None:
    text = """
        name: digits
        data: {path: /data/digits, location: workers}
        model: {name: squeezenet1_1}
        preset: image_head
        objective: {metric: accuracy, direction: maximize}
        budget: {trials: 20}
    """
    answer = client.post("/api/v1/study-check", content=text, headers={"Content-Type": "application/yaml"})
    assert answer.status_code == 200, answer.text
    assert "lr" in answer.json()["study"]["search_space"]


@pytest.mark.parametrize(
    "changes",
    [
        {"budget": {}},
        {"search_space": {"lr": {"type": "float", "low": 1, "high": 0.1}}, "model": {"name": "squeezenet1_1"}},
        {"model": {"name": "nothing"}},
        {"data": {"path": "/nowhere/at/all"}},
    ],
)
def test_faults_are_those_that_creating_tells(client: TestClient, changes: dict[str, Any]) -> None:
    document = study_document(**changes)
    checked, created = (client.post(f"/api/v1/{path}", json=document) for path in ("study-check", "studies"))
    assert checked.json()["faults"] == created.json()["errors"]
    assert (checked.status_code, checked.json()["study"], checked.json()["document"]) == (200, None, document)


@pytest.mark.parametrize(("text", "code"), [("name: [", "malformed_yaml"), ("name: *other", "yaml_alias"), ("- a list", "not_a_mapping")])
def test_text_that_is_no_document_is_told_as_well(client: TestClient, text: str, code: str) -> None:
    answer = client.post("/api/v1/study-check", content=text, headers={"Content-Type": "application/yaml"})
    assert (answer.status_code, [fault["code"] for fault in answer.json()["faults"]]) == (200, [code])


def test_a_body_of_another_type_is_refused(client: TestClient) -> None:
    assert client.post("/api/v1/study-check", content="x", headers={"Content-Type": "text/plain"}).status_code == 415


def test_a_name_that_is_taken_is_told_at_the_name(client: TestClient, lab: Laboratory) -> None:
    lab.study("digits")
    (fault,) = client.post("/api/v1/study-check", json=study_document("digits")).json()["faults"]
    assert (fault["pointer"], fault["code"]) == ("#/name", "name_taken")


@pytest.mark.parametrize("replaces", [False, True])
def test_a_name_that_an_import_under_way_has_taken_is_told_as_when_it_is_created(
    client: TestClient, lab: Laboratory, replaces: bool
) -> None:
    other = lab.store.read(queries.find_study, lab.study("other").id)
    with lab.store.writing() as tx:
        registry.insert_study(tx, replace(other, id="0" * 16, name="digits"), published=False)
    document = study_document("digits") | {"replace": replaces}
    (fault,) = client.post("/api/v1/study-check", json=document).json()["faults"]
    created = client.post("/api/v1/studies", json=document)
    assert fault["code"] == "name_taken" and created.json()["errors"] == [fault] and created.status_code == 409
    with lab.store.writing() as tx:
        registry.give_up_import(tx, "0" * 16)
    assert client.post("/api/v1/study-check", json=document).json()["faults"] == []
    assert client.post("/api/v1/studies", json=document).status_code == 201


def test_the_schema_has_what_a_form_needs(client: TestClient) -> None:
    schema = client.get("/api/v1/study-schema").json()
    assert schema == client.get("/api/v1/study-schema", params={"task": "image_classification"}).json()
    unknown = client.get("/api/v1/study-schema", params={"task": "nothing"})
    assert (unknown.status_code, unknown.json()["errors"][0]["code"]) == (422, "unknown_task")
    assert schema["metrics"]["loss"] == "minimize"
    assert schema["hyperparameters"]["properties"]["optimizer"]["enum"] == ["sgd", "adam", "adamw", "rmsprop"]
    assert set(schema["not_searched"]) <= set(schema["hyperparameters"]["properties"])
    for name in ("sampler", "pruner"):
        named = {reference.split("/")[-1] for reference in schema["study"]["properties"][name]["discriminator"]["mapping"].values()}
        assert named <= set(schema["study"]["$defs"])
