"""F20: studies that ended and go on, while many ask for it at once: each request has one effect, and the budget is exact."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from service import operations
from service.domain.budgets import BudgetChange, More
from service.domain.errors import InvalidInput, StoreUnavailable, StudyClosed, StudyNotFound
from service.domain.records import Study
from service.domain.states import StudyState, TrialState
from service.store import Store, open_store
from tests.chaos.checker import check
from tests.chaos.faults.toy_content import IMAGE
from tests.chaos.lab import LONG, Lab, planted
from tests.chaos.launch import plant
from tests.operations.driving import (
    FACTS,
    checkpoint,
    claim_one,
    claim_trials,
    finish,
    kinds_of,
    ready,
    report,
    searches_of,
    study_of,
    tell,
    trial_of,
    trials_of,
)
from tests.racing import race
from trainer.protocol import Failed

PROCESSES = 4
BUDGET = 6
TRIALS = 12 if LONG else 5


def opened(url: str) -> Store:
    """The store, in a process that is as broken as this one."""
    plant(planted())
    return open_store(url)


def patiently(call: Any) -> str:
    """What a request that is repeated while the database is busy comes to: done, or the name of its refusal."""
    while True:
        try:
            call()
        except StoreUnavailable:
            continue
        except (InvalidInput, StudyClosed, StudyNotFound) as refusal:
            return type(refusal).__name__
        return "done"


def resume(url: str, study: str) -> str:
    store = opened(url)
    try:
        return patiently(lambda: operations.resume_study(store, study))
    finally:
        store.close()


def delete(url: str, study: str) -> str:
    store = opened(url)
    try:
        return patiently(lambda: operations.delete_study(store, study))
    finally:
        store.close()


def resume_or_delete(url: str, study: str, mark: Path) -> str:
    """One process deletes what the others resume."""
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return resume(url, study)
    assert delete(url, study) == "done"
    return "deleted"


def extend_and_work(url: str, study: str) -> tuple[str, int]:
    """Two more trials, and all the trials that this process can get; how many it trained."""
    store, searches, trained = opened(url), searches_of(), 0
    try:
        outcome = patiently(lambda: operations.extend_study(store, study, BudgetChange(add=More(trials=2))))
        while claims := claim_trials(store, searches):
            for claim in claims:
                finish(store, claim)
                trained += 1
        return outcome, trained
    finally:
        store.close()


def failed_by_its_data(store: Store) -> str:
    study = ready(store, budget={"trials": BUDGET})
    searches = searches_of()
    first, second, third = claim_trials(store, searches, limit=3)
    finish(store, first)
    assert tell(store, third.lease, reports=[report(1, 0.1), report(2, 0.2)], checkpoint=checkpoint(2))
    assert tell(store, second.lease, outcome=Failed(reason="bad_data", detail="an image has changed"))
    assert study_of(store, study).state is StudyState.FAILED
    return study.id


def test_a_study_whose_data_was_repaired_goes_on_and_loses_nothing(store: Store) -> None:
    key = failed_by_its_data(store)
    study = operations.resume_study(store, key)
    searches = searches_of()
    assert claim_trials(store, searches) == [], "I36: a trial started on data that nobody has checked"
    changed = operations.pass_check(store, key, FACTS.model_copy(update={"fingerprint": "0" * 64}))
    assert changed.state is StudyState.FAILED, "I36: the study goes on with images that are not those of its results"
    operations.resume_study(store, key)
    operations.pass_check(store, key, FACTS)
    again = claim_one(store, searches)
    assert (again.lease.number, again.checkpoints) == (2, (checkpoint(2),)), "I36: what had been trained is lost"
    finish(store, again)
    while claims := claim_trials(store, searches):
        finish(store, claims[0])
    counts = Counter(trial.state for trial in trials_of(store, study))
    assert counts == {TrialState.COMPLETE: BUDGET - 1, TrialState.FAILED: 1}, "I15"
    assert study_of(store, study).state is StudyState.COMPLETE
    assert trial_of(store, study, 2).attempt == 2


def test_a_study_whose_images_change_fails_by_name_and_goes_on_once_they_are_restored(lab: Lab, tmp_path: Path) -> None:
    """I36, I15, with a worker process: the fingerprint of the toy's data is that of one file."""
    image = tmp_path / "image.png"
    image.write_text("as checked")
    study = lab.study(trials=TRIALS, epochs=4)
    lab.work("--step", "0.05", THAW_CHAOS_TOY_FAULTS="tests.chaos.faults.toy_content", **{IMAGE: str(image)})
    lab.until(lambda: completed(lab, study) != {} or lab.ended(study), "a trial is complete")
    image.write_text("changed")
    lab.counts["changes of the content"] += 1
    lab.until(lambda: lab.ended(study), "the study notices")
    failed, before = lab.now(study), completed(lab, study)
    assert failed.state is StudyState.FAILED and "the images have changed" in (failed.reason or ""), f"I36: {failed}"
    operations.resume_study(lab.store, study.id)
    lab.until(lambda: lab.ended(study), "the study ends")
    again = lab.now(study)
    assert again.state is StudyState.FAILED, "I36: the study goes on with images that are not those of its results"
    assert "the images or their labels are not those" in (again.reason or "")
    assert completed(lab, study) == before, "I36: a trial was trained on other images"
    image.write_text("as checked")
    operations.resume_study(lab.store, study.id)
    lab.until(lambda: lab.ended(study), "the study ends")
    assert lab.now(study).state is StudyState.COMPLETE, f"I36: {lab.now(study).reason}"
    states = Counter(trial.state for trial in lab.trials(study))
    assert states == {TrialState.COMPLETE: TRIALS - 1, TrialState.FAILED: 1}, f"I15, I36: {states}"
    assert completed(lab, study).items() >= before.items(), "I36: a result is lost"
    check(lab, study)
    lab.tell("F20")


def completed(lab: Lab, study: Study) -> dict[int, float | None]:
    """The values of the complete trials, by number."""
    return {trial.number: trial.value for trial in lab.trials(study) if trial.state is TrialState.COMPLETE}


def test_of_many_that_resume_a_study_one_does(store: Store, database_url: str) -> None:
    key = failed_by_its_data(store)
    assert race(resume, database_url, key, processes=PROCESSES) == ["done"] * PROCESSES
    study = operations.pass_check(store, key, FACTS)
    assert study.state is StudyState.ACTIVE
    assert kinds_of(store, study).count("study_resumed") == 1, "I27: resumed twice"


def test_a_study_that_is_deleted_while_it_is_resumed_is_gone(store: Store, database_url: str, tmp_path: Path) -> None:
    key = failed_by_its_data(store)
    outcomes = race(resume_or_delete, database_url, key, tmp_path / "deleter", processes=PROCESSES)
    assert outcomes.count("deleted") == 1 and set(outcomes) <= {"deleted", "done", "StudyNotFound"}
    assert race(resume, database_url, key, processes=2) == ["StudyNotFound"] * 2


@pytest.mark.parametrize("trained", [BUDGET, BUDGET - 1], ids=["complete", "one trial left"])
def test_many_that_extend_a_study_at_its_end_add_what_each_asked_for(store: Store, database_url: str, trained: int) -> None:
    study, searches = ready(store, budget={"trials": BUDGET}), searches_of()
    for _ in range(trained):
        finish(store, claim_one(store, searches))
    outcomes = race(extend_and_work, database_url, study.id, processes=PROCESSES)
    assert [outcome for outcome, _ in outcomes] == ["done"] * PROCESSES
    assert trained + sum(count for _, count in outcomes) == BUDGET + 2 * PROCESSES, "I15"
    ended = study_of(store, study)
    assert (ended.state, ended.created, ended.spec.budget.trials) == (StudyState.COMPLETE, BUDGET + 2 * PROCESSES, BUDGET + 2 * PROCESSES)
    assert {trial.state for trial in trials_of(store, study)} == {TrialState.COMPLETE}
    assert kinds_of(store, study).count("study_extended") == PROCESSES
