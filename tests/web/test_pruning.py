"""A study's pruning over REST: the evidence on a trial's end, and what other pruners would have done."""

import json
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from starlette.testclient import TestClient

from service import operations
from service.cli.studies import show_pruning
from service.domain.pruning import PruningReason, PruningReport
from service.domain.records import Claim, MetricReport
from service.operations import Pruned, Write
from service.operations.completion import carry_on
from service.search.pruning_report import pruning_report
from service.settings import Settings
from service.store import Store, Transaction, queries
from service.store.queries.trials import recorded_study
from service.web import results
from tests.operations.driving import decide_one
from tests.web.laboratory import ENVIRONMENT, Laboratory
from tests.web.server import Served
from trainer.protocol import Finished, Pace, Reuse

AT = "/api/v1/studies/digits/pruning"
ASHA = {"name": "asha", "reduction_factor": 3}


def train(lab: Laboratory, claim: Claim, *values: float) -> None:
    """The claim's trial, epoch by epoch: at decision steps its pruner is asked, as a worker does."""
    so_far = dict[int, float]()
    for step, value in enumerate(values, 1):
        so_far[step] = value
        report = MetricReport(step, {"accuracy": value})
        pace = {"pace": Pace(samples_per_second=1.0, seconds_left=10.0 * (3 - step), memory=1, seconds={}).model_dump()}
        decision = decide_one(lab.store, lab.searches, claim.lease, so_far) if step < 3 else None
        outcome = None if decision is None or decision.go_on else Pruned(decision.why or "", decision.evidence)
        write = Write(claim.lease, reports=[report], memory=decision.memory if decision else {}, result=pace, outcome=outcome)
        assert operations.record(lab.store, [write]) == []
        if outcome is not None:
            return
    metrics = {"accuracy": values[-1]}
    done = Finished(step=3, metrics=metrics, report={"per_class_recall": {}, "confusion_matrix": ()}, train_seconds=1.0, peak_memory=1)
    assert operations.record(lab.store, [Write(claim.lease, outcome=done, result=ENVIRONMENT)]) == []


def pruned_study(lab: Laboratory, **changes: Any) -> None:
    """Of four trials the second and the third are pruned after their first epoch, the fourth wins."""
    lab.study(**{"pruner": ASHA, "budget": {"trials": 4}, **changes})
    for values in ((0.5, 0.6, 0.7), (0.4, 0.5, 0.9), (0.3, 0.3, 0.3), (0.6, 0.7, 0.8)):
        train(lab, lab.claim(), *values)


def test_a_pruned_trial_tells_its_evidence(client: TestClient, lab: Laboratory) -> None:
    pruned_study(lab)
    trial = client.get("/api/v1/studies/digits/trials/2").json()
    reported = trial["result"]["evidence"]
    evidence = PruningReason.model_validate(reported)
    assert (evidence.rung, evidence.step, evidence.value, evidence.threshold) == (0, 1, 0.3, 0.5)
    assert reported["rule"] == {"name": "asha", "min_steps": 1, "reduction_factor": 3, "min_early_stopping_rate": 0}
    assert reported["peers"] == [{"number": 0, "value": 0.5}, {"number": 1, "value": 0.4}]
    assert (
        trial["detail"] == reported["sentence"] == "accuracy is 0.3 at step 1: not among the best 1 of 3 trials in rung 0, which needs 0.5."
    )
    assert "evidence" not in client.get("/api/v1/studies/digits/trials/3").json()["result"]


def test_a_study_is_looked_back_on(client: TestClient, lab: Laboratory) -> None:
    pruned_study(lab)
    answer = client.get(AT)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    found = PruningReport.model_validate(answer.json())
    assert (found.partial, found.winner, found.agreement and found.agreement.same) == (False, 3, 4)
    assert (found.saved.epochs, found.saved.of, found.saved.seconds) == (4, 12, 40.0)
    assert [one.name for one in found.pruners if one.own] == ["asha-3"]
    assert found.words[:2] == (
        "Pruning saved 4 epochs of 12 (33 %), about 40 seconds of training.",
        "Trial 3 is the best, with accuracy 0.8.",
    )
    assert (found.overtaking, found.chance) == ((), 0.0)


def test_while_a_study_goes_on_what_is_known_is_told_as_partial(client: TestClient, lab: Laboratory) -> None:
    lab.study(pruner=ASHA, budget={"trials": 4})
    lab.report(lab.claim(), 1, accuracy=0.5)
    found = client.get(AT).json()
    assert found["words"][0] == "So far, no trial was pruned."
    assert (found["partial"], found["winner"], found["saved"]) == (True, None, {"epochs": 0, "of": 1, "seconds": None})


def test_the_last_word_on_a_study_is_never_an_older_one(client: TestClient, lab: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "REUSE_FACTOR", 1e9)  # a report made while the study runs is reused for MOST_REUSE_SECONDS
    lab.study(pruner=ASHA, budget={"trials": 1})
    claim = lab.claim()
    assert client.get(AT).json()["partial"]
    lab.finish(claim, 0.5)
    found = client.get(AT).json()
    assert (found["partial"], found["winner"]) == (False, 0)


def test_a_study_that_there_is_not_has_none(client: TestClient) -> None:
    assert client.get("/api/v1/studies/nobody/pruning").status_code == 404


def test_trials_that_confirm_are_no_part_of_it(client: TestClient, lab: Laboratory, store: Store) -> None:
    pruned_study(lab, confirm={"top": 2, "seeds": 2}, data={"path": "/data/digits", "location": "workers", "test": 0.2})
    before = client.get(AT).json()
    assert before["partial"]
    carry_on(store, store.read(queries.find_study, "digits"))
    lab.finish(lab.claim(), 0.99)
    repeats = store.read(queries.confirmation_trials, lab.id_of("digits"))
    assert [one.value for one in repeats if one.state.terminal] == [0.99]
    after = client.get(AT).json()
    assert not after["partial"]
    assert (after["winner"], after["saved"], after["pruners"]) == (3, before["saved"], before["pruners"])


def test_what_is_read_is_what_was_reported(lab: Laboratory, store: Store) -> None:
    pruned_study(lab)
    found = store.read(recorded_study, "digits")
    assert found.reports is not None
    numbers = {one.id: one.number for one in found.trials}
    in_order = sorted(
        zip(found.reports.seqs, (numbers[key] for key in found.reports.trials), found.reports.steps, found.reports.values, strict=True)
    )
    assert [row[1:] for row in in_order] == [
        (0, 1, 0.5), (0, 2, 0.6), (0, 3, 0.7), (1, 1, 0.4), (2, 1, 0.3), (3, 1, 0.6), (3, 2, 0.7), (3, 3, 0.8),
    ]  # fmt: skip
    assert [(one.step, one.epochs, one.seconds_left) for one in found.trials] == [(3, 3, 0.0), (1, 3, 20.0), (1, 3, 20.0), (3, 3, 0.0)]


def few(tx: Transaction, study: str) -> Any:
    return recorded_study(tx, study, most=7)


def test_a_study_of_too_many_reports_is_not_read_whole(lab: Laboratory, store: Store) -> None:
    pruned_study(lab)
    found = store.read(few, "digits")
    assert found.reports is None
    assert pruning_report(found).saved.epochs == 4


def test_a_value_that_is_no_number_comes_back_as_it_was(client: TestClient, lab: Laboratory, store: Store) -> None:
    lab.study(pruner=ASHA, budget={"trials": 1})
    train(lab, lab.claim(), float("inf"))
    found = store.read(recorded_study, "digits")
    assert found.reports is not None and list(found.reports.values) == [float("inf")]
    assert json.loads(client.get("/api/v1/studies/digits/trials/0").text)["result"]["evidence"]["kind"] == "pos_inf"
    assert client.get(AT).json()["winner"] is None


def test_trials_that_share_a_pass_are_known_by_it_and_count_for_their_share_of_the_time(lab: Laboratory, store: Store) -> None:
    lab.study(pruner=ASHA)
    claim = lab.claim()
    pace = Pace(samples_per_second=1.0, seconds_left=40.0, memory=1, seconds={})
    lab.tell(claim, 1, pace, Reuse(pixels="cached", lanes=4))
    [trial] = store.read(recorded_study, "digits").trials
    assert trial.shared is not None
    assert trial.seconds_left == 10.0


def test_the_command_prints_the_sentences_and_a_line_for_each_pruner(
    live: Served, live_lab: Laboratory, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    live_lab.study("looked-back-on", pruner=ASHA, budget={"trials": 2})
    claims = live_lab.claims_from("looked-back-on", 50)
    train(live_lab, claims[0], 0.5, 0.6, 0.7)
    train(live_lab, claims[1], 0.4)
    show_pruning(settings.model_copy(update={"server": live.address}), "looked-back-on", as_json=False)
    said = capsys.readouterr().out
    assert said.startswith("Pruning saved 2 epochs of 6 (33 %), about 20 seconds of training.\nTrial 0 is the best")
    assert "asha (reduction factor 3) (of the study)" in said
    assert any(line.split() == ["no", "pruner", "kept", "trial", "0", "0", "6"] for line in said.splitlines()), said


@pytest.mark.browser
def test_the_page_of_a_pruned_trial_says_why(page: Page, live_lab: Laboratory) -> None:
    live_lab.study("shows-why", pruner=ASHA, budget={"trials": 6})
    claims = live_lab.claims_from("shows-why", 50)
    for claim, value in zip(claims, (0.5, 0.625, 0.75), strict=False):
        train(live_lab, claim, value, value, value)
    page.goto("/studies/shows-why/trials/3")
    expect(page.locator("#state")).to_contain_text("running")
    expect(page.locator("#pruned")).to_be_hidden()
    train(live_lab, claims[3], 0.25)
    panel = page.locator("#pruned")
    expect(panel).to_contain_text("accuracy after epoch 1")
    expect(panel).to_contain_text("25.00 %")
    expect(panel).to_contain_text("at least 75.00 %")
    expect(panel).to_contain_text("3 others in rung 0")
    expect(panel).to_contain_text("asha (min steps 1, reduction factor 3, min early stopping rate 0)")
    expect(panel.locator("circle.peer")).to_have_count(3)
    panel.get_by_text("3 trials as a table").click()
    expect(panel.get_by_role("row").filter(has_text="Trial 1")).to_contain_text("62.50 %")
    expect(panel.get_by_role("link", name="Trial 2")).to_have_attribute("href", "/studies/shows-why/trials/2")
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.goto("/studies/shows-why/trials/0")
    expect(page.locator("#state")).to_contain_text("complete")
    expect(page.locator("#pruned")).to_be_hidden()
