"""Notices: a study that can run as it is written, and a part of it has no effect."""

import re
from typing import Any

import pytest
from starlette.testclient import TestClient

from search_spaces.documents import from_yaml
from tests.web.laboratory import study_document

MEDIAN = {"name": "median"}


@pytest.mark.parametrize(
    ("changes", "pointer", "words"),
    [
        ({"pruner": {"name": "asha", "min_steps": 3}}, "#/pruner", "its first decision follows epoch 3, and trials have 3 epochs"),
        ({"pruner": {"name": "asha", "min_early_stopping_rate": 1}}, "#/pruner", "its first decision follows epoch 4"),
        ({"pruner": {"name": "hyperband", "min_steps": 9}}, "#/pruner", "raise epochs above 9, or lower min_steps"),
        ({"pruner": {**MEDIAN, "n_warmup_steps": 5}}, "#/pruner", "lower n_warmup_steps"),
        ({"pruner": {**MEDIAN, "n_startup_trials": 20}}, "#/pruner/n_startup_trials", "20 complete trials, and the budget has 20"),
        ({"pruner": {"name": "patient", "patience": 5}}, "#/pruner", "lower patience"),
        (
            {"pruner": {"name": "patient", "patience": 0, "wrapped": {**MEDIAN, "n_startup_trials": 30}}},
            "#/pruner/wrapped/n_startup_trials",
            "30 complete trials",
        ),
        ({"sampler": {"name": "tpe", "n_startup_trials": 20}}, "#/sampler/n_startup_trials", "all 20 trials are sampled at random"),
        (
            {"sampler": {"name": "tpe", "seed": 3, "n_startup_trials": 20}},
            "#/sampler/n_startup_trials",
            "write `sampler: {name: tpe, seed: 3, n_startup_trials: 10}`, or raise",
        ),
        (
            {"pruner": {**MEDIAN, "n_startup_trials": 20}},
            "#/pruner/n_startup_trials",
            "write `pruner: {name: median, n_startup_trials: 10}`, or raise",
        ),
        (
            {"pruner": {"name": "patient", "patience": 0, "wrapped": {**MEDIAN, "n_startup_trials": 30}}},
            "#/pruner/wrapped/n_startup_trials",
            "write `pruner: {name: patient, patience: 0, wrapped: {name: median, n_startup_trials: 10}}`, or raise",
        ),
        (
            {"confirm": {"top": 2, "seeds": 2}, "data": {"path": "/data/digits", "location": "workers", "test": 0.2}},
            "#/confirm/seeds",
            "write `confirm: {top: 2, seeds: 5}`, or at least 3 seeds",
        ),
    ],
)
def test_what_cannot_act_is_noticed_and_not_refused(client: TestClient, changes: dict[str, Any], pointer: str, words: str) -> None:
    document = study_document(**changes)
    checked = client.post("/api/v1/study-check", json=document).json()
    created = client.post("/api/v1/studies", json=document)
    assert created.status_code == 201
    assert checked["notices"] == created.json()["notices"]
    assert [one["pointer"] for one in checked["notices"]] == [pointer] and words in checked["notices"][0]["message"]


@pytest.mark.parametrize(
    "changes",
    [
        {"sampler": {"name": "gp", "seed": 3, "n_startup_trials": 20}},
        {"pruner": {"name": "percentile", "percentile": 30.0, "n_startup_trials": 20}},
        {"pruner": {"name": "patient", "patience": 0, "wrapped": {**MEDIAN, "n_startup_trials": 30}}},
        {"confirm": {"seeds": 2}, "data": {"path": "/data/digits", "location": "workers", "test": 0.2}},
    ],
)
def test_the_line_that_a_notice_shows_removes_the_notice(client: TestClient, changes: dict[str, Any]) -> None:
    document = study_document(**changes)
    [notice] = client.post("/api/v1/study-check", json=document).json()["notices"]
    line = from_yaml(re.findall("`(.*?)`", notice["message"])[0])
    assert isinstance(line, dict)
    assert client.post("/api/v1/study-check", json={**document, **line}).json()["notices"] == []


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"pruner": {"name": "asha", "min_steps": 2}},
        {"pruner": {**MEDIAN, "n_warmup_steps": 1}},
        {"sampler": {"name": "tpe"}},
        {"budget": {"trials": 1}, "pruner": MEDIAN},
        {"budget": {"trials": 5}, "sampler": {"name": "tpe"}},
        {"confirm": {"top": 2, "seeds": 3}, "data": {"path": "/data/digits", "location": "workers", "test": 0.2}},
        {"pruner": {**MEDIAN, "n_startup_trials": 50}, "sampler": {"name": "tpe", "n_startup_trials": 50}, "budget": {"hours": 1}},
    ],
)
def test_what_can_act_gets_no_notice(client: TestClient, changes: dict[str, Any]) -> None:
    assert client.post("/api/v1/study-check", json=study_document(**changes)).json()["notices"] == []
