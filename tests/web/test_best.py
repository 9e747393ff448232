"""What a study hands over, over REST."""

import ast
import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service import operations
from service.domain.export import read_export
from service.domain.records import Claim
from service.store import queries
from tests.operations.driving import WRONG, claim_trials, with_examples
from tests.web.laboratory import FACTS, Laboratory
from tests.web.problem import assert_problem
from trainer.protocol import Finished, Scores

BEST = "/api/v1/studies/digits/best"
CONFIRMING: dict[str, Any] = {
    "data": {"path": "/data/digits", "location": "workers", "test": 0.2},
    "confirm": {"top": 2, "seeds": 2},
    "baseline": {"lr": 1e-3, "optimizer": "adam"},
    "budget": {"trials": 3},
}
TEXT = {"python": "text/x-python", "card": "text/markdown", "requirements": "text/plain"}


def confirm(lab: Laboratory, claim: Claim, accuracy: float) -> None:
    """A run of the confirmation ends with that accuracy on the test images."""
    hits = round(10 * accuracy)
    matrix = ((10, 0), (10 - hits, hits))
    recall = {"cat": 1.0, "dog": hits / 10}
    metrics = {"accuracy": (10 + hits) / 20, "loss": 1 - accuracy}
    done = Finished(
        step=3, metrics=metrics, report={"per_class_recall": recall, "confusion_matrix": matrix}, train_seconds=1.0, peak_memory=1,
        test=Scores(metrics=metrics, report={"per_class_recall": recall, "confusion_matrix": matrix}),
    )  # fmt: skip
    assert operations.record(lab.store, [operations.Write(claim.lease, outcome=done, result={"trainable": 5})]) == []


def searched(lab: Laboratory) -> None:
    """A study whose search has ended."""
    lab.study("digits", **CONFIRMING)
    for accuracy in (0.7, 0.9, 0.8):
        lab.finish(lab.claim(), accuracy)


def confirm_all(lab: Laboratory) -> None:
    """Each of the confirmation's runs; trial 1 is the best there too."""
    while not lab.store.read(queries.find_study, "digits").state.terminal:
        for claim in claim_trials(lab.store, lab.searches, "worker-1"):
            confirmed = lab.store.read(queries.find_trial, claim.lease.study, claim.lease.number).confirms
            confirm(lab, claim, {0: 0.3, 1: 0.8, 2: 0.6}[int(confirmed or 0)] + 0.1 * (claim.round or 0))


def test_every_format_waits_for_a_result(client: TestClient, lab: Laboratory) -> None:
    lab.study()
    for form in ("json", "yaml", *TEXT):
        assert_problem(client.get(BEST, params={"format": form}), 404, "no-result")


def test_until_it_is_confirmed_the_best_of_the_search_is_given_and_said_to_look_better_than_it_is(
    client: TestClient, lab: Laboratory
) -> None:
    searched(lab)
    found = client.get(BEST).json()
    assert found["confirmed"] is None and found["origin"]["trial"] == 1
    assert found["note"].startswith("Not confirmed yet") and "best of 3 tries" in found["note"]
    assert list(found)[:4] == ["kind", "schema_version", "note", "confirmed"]
    assert client.get(BEST, params={"format": "yaml"}).text.startswith("# Not confirmed yet")
    assert "**Not confirmed yet" in client.get(BEST, params={"format": "card"}).text


def test_the_texts_of_the_most_wrong_examples_are_in_the_card_alone(client: TestClient, lab: Laboratory) -> None:
    lab.study("digits", budget={"trials": 1})
    done = with_examples(WRONG | {"text": "a text of the data"})
    assert operations.record(lab.store, [operations.Write(lab.claim().lease, outcome=done)]) == []
    found = {form: client.get(BEST, params={"format": form}).text for form in ("json", "yaml", *TEXT)}
    assert [form for form, text in found.items() if "a text of the data" in text] == ["card"]


def test_the_manifest_of_the_images_is_in_the_file(client: TestClient, lab: Laboratory) -> None:
    study = lab.study(checked=False)
    operations.pass_check(lab.store, study.id, FACTS, "AAAAAA==.AA==")
    lab.finish(lab.claim(), 0.7)
    assert client.get(BEST).json()["manifest"] == "AAAAAA==.AA=="


def test_a_study_that_confirms_nothing_says_what_its_best_is_worth(client: TestClient, lab: Laboratory) -> None:
    lab.study()
    lab.finish(lab.claim(), 0.7)
    found = client.get(BEST).json()
    assert found["confirmed"] is None
    assert found["note"].startswith("Not confirmed: this study confirms nothing") and "the best of 1 try" in found["note"]
    assert "data.test, or data.split: given if the data has a test part of its own" in found["note"]
    key = lab.study("tested", data={"path": "/data/digits", "location": "workers", "test": 0.2}).id
    lab.finish(lab.claim_from("tested"), 0.7)
    assert "set confirm, say to {top: 3, seeds: 5}. The value" in client.get(f"/api/v1/studies/{key}/best").json()["note"]


def test_a_study_that_was_stopped_before_it_confirmed_says_so(client: TestClient, lab: Laboratory) -> None:
    searched(lab)
    assert claim_trials(lab.store, lab.searches, "worker-1") == [], "whoever looks for work begins the confirmation"
    confirm(lab, lab.claim(), 0.8)
    lab.stop_all()
    assert client.get(BEST).json()["note"].startswith("Not confirmed: the study ended before")


def test_the_confirmed_recommendation_is_given_with_all_that_was_found(client: TestClient, lab: Laboratory) -> None:
    searched(lab)
    confirm_all(lab)
    found = client.get(BEST).json()
    confirmed, verdict = found["confirmed"], client.get("/api/v1/studies/digits/confirmation").json()["verdict"]
    assert found["note"].startswith("Confirmed")
    assert found["origin"]["trial"] == verdict["recommended"]
    for name in (
        "expected",
        "new_images",
        "single_run",
        "uplift",
        "uplift_new_images",
        "optimism",
        "helped",
        "words",
        "best",
        "tied",
        "arms",
    ):
        assert confirmed[name] == verdict[name], name
    assert confirmed["seeds"] == 2 and len(set(confirmed["run_seeds"])) == 2 and confirmed["test_images"] == 20
    assert sum(map(sum, confirmed["by_class"]["confusion_matrix"])) == 40
    assert read_export(client.get(BEST, params={"format": "yaml"}).text).model_dump(mode="json") == found


@pytest.mark.parametrize("form", TEXT)
def test_script_card_and_requirements_are_of_the_same_configuration(client: TestClient, lab: Laboratory, form: str) -> None:
    searched(lab)
    answer = client.get(BEST, params={"format": form})
    assert answer.headers["content-type"] == f"{TEXT[form]}; charset=utf-8"
    match form:
        case "python":
            [assigned] = [node.value for node in ast.parse(answer.text).body if isinstance(node, ast.Assign)]
            assert json.loads(ast.literal_eval(assigned)) == client.get(BEST).json()
        case "card":
            assert "Trial 1 reached accuracy 90.00 %" in answer.text
        case _:
            assert "torch==2.11" in answer.text.splitlines()
