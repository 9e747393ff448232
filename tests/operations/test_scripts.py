"""Studies of scripts in the store: who claims their trials, how they end, and what stays of an attempt that is lost."""

from collections.abc import Mapping
from typing import Any

import pytest

from service import operations
from service.confirmation.verdict import verdict_of
from service.domain.errors import InvalidInput
from service.domain.records import Claim, MetricReport, Study
from service.domain.spec import ProgramStudy, StudySpec
from service.domain.states import StudyState, TrialState
from service.operations import Released, Write
from service.search.study import StudySearch
from service.store import Store, queries
from service.store.queries.trials import recorded_study
from trainer.protocol import Failed, Finished, Scores
from trainer.tasks.script.config import ScriptConfig, ScriptInfo

FACTS = ScriptInfo.of({"train.py": "0" * 64})
STUDY: Mapping[str, Any] = {
    "name": "mine",
    "task": "script",
    "command": ["python", "train.py", "${args}"],
    "workdir": "/srv/code",
    "search_space": {"lr": {"type": "float", "low": 0.1, "high": 1}, "unused": {"type": "categorical", "choices": ["a", "b"]}},
    "objective": {"metric": "val/loss", "direction": "minimize"},
    "budget": {"trials": 3},
}


def ready(store: Store, **changes: Any) -> Study:
    study = operations.create_study(store, StudySpec.model_validate({**STUDY, **changes}))
    return operations.pass_check(store, study.id, FACTS)


def claimed(store: Store) -> Claim:
    searches = operations.Searches(StudySearch)
    # The first claim after the search queues the runs of the confirmation, and finds none.
    (claim,) = operations.claim_together(store, searches, "w", 10**9) or operations.claim_together(store, searches, "w", 10**9)
    return claim


def finish(store: Store, claim: Claim, value: float, test: bool = False, **result: Any) -> None:
    metrics = {"val/loss": value, "seconds": 1.5}
    reports = [MetricReport(1, {"val/loss": value + 1, "seconds": 0.5}), MetricReport(2, metrics)]
    outcome = Finished(step=2, metrics=metrics, train_seconds=2, peak_memory=3, test=Scores(metrics=metrics) if test else None)
    assert operations.record(store, [Write(claim.lease, reports=reports, result=result, outcome=outcome)]) == []


def test_metrics_of_any_name_rank_the_trials(store: Store) -> None:
    study = ready(store)
    for value in (0.5, 0.25, 0.75):
        finish(store, claimed(store), value)
    (best,) = store.read(queries.best_trials, [store.read(queries.find_study, study.id)]).values()
    assert best is not None and (best.number, best.value, best.metrics) == (1, 0.25, {"val/loss": 0.25, "seconds": 1.5})
    assert store.read(queries.find_study, study.id).state is StudyState.COMPLETE
    assert store.read(queries.metric_names, study.id) == {"seconds", "val/loss"}


def test_a_trial_runs_alone_and_gets_the_config_of_the_study(store: Store) -> None:
    ready(store)
    claim = claimed(store)
    config = claim.spec.config_for(claim.params, claim.lease.number, claim.round)
    assert isinstance(claim.spec, ProgramStudy) and isinstance(config, ScriptConfig)
    assert config.params.keys() == {"lr", "unused"} and dict(claim.demand) == {}


def test_a_worker_that_does_not_accept_the_study_claims_nothing(store: Store) -> None:
    ready(store)
    refused = operations.claim_together(store, operations.Searches(StudySearch), "w", 0, lambda study: study.name != "mine")
    assert refused == [] and claimed(store).lease.number == 0


def test_a_script_without_the_metric_is_not_tried_again(store: Store) -> None:
    study = ready(store)
    lease = claimed(store).lease
    failed = Failed(reason="metric_missing", detail="it reported accuracy")
    assert operations.record(store, [Write(lease, outcome=failed)]) == []
    trial = store.read(queries.find_trial, study.id, 0)
    assert (trial.state, trial.reason, trial.detail) == (TrialState.FAILED, "metric_missing", "it reported accuracy")
    assert claimed(store).lease.number == 1


def test_reports_of_a_lost_attempt_stay_until_the_next_one_replaces_them(store: Store) -> None:
    study = ready(store)
    first = claimed(store)
    reports = [MetricReport(step, {"val/loss": 1 / step}) for step in (1, 2, 3)]
    operations.record(store, [Write(first.lease, reports=reports, outcome=Released("its worker left"))])
    again = claimed(store)
    assert (again.lease.number, again.lease.attempt) == (0, 2)
    operations.record(store, [Write(again.lease, reports=[MetricReport(3, {"val/loss": 0.3}), MetricReport(4, {"val/loss": 0.2})])])
    trial = store.read(queries.find_trial, study.id, 0)
    curve = {one.step: one.value for one in store.read(queries.metrics, trial.id)}
    assert curve == {1: 1.0, 2: 0.5, 3: 0.3, 4: 0.2} and trial.step == 4
    assert [one.resumed for one in store.read(queries.attempts, trial.id)] == [0, 2]  # the step before its first report


def test_an_attempt_that_starts_anew_and_ends_earlier_leaves_no_steps_of_the_lost_one(store: Store) -> None:
    """I19: a script without checkpoints begins at step 1 again; the pruner and the pages must not see the later steps."""
    study = ready(store)
    reports = [MetricReport(step, {"val/loss": 1 / step}) for step in (1, 2, 3)]
    operations.record(store, [Write(claimed(store).lease, reports=reports, outcome=Released("its worker left"))])
    again = claimed(store)
    first, second = (Write(again.lease, reports=[MetricReport(step, {"val/loss": 1 - step / 10})]) for step in (1, 2))
    for write in (first, first, second):  # the first one twice: its answer was lost
        operations.record(store, [write])
    trial = store.read(queries.find_trial, study.id, 0)
    assert {one.step: one.value for one in store.read(queries.metrics, trial.id)} == {1: 0.9, 2: 0.8} and trial.step == 2


def test_a_confirmation_has_means_over_seeds_alone(store: Store) -> None:
    study = ready(store, budget={"trials": 1}, baseline={"lr": 0.5, "unused": "a"}, confirm={"top": 1, "seeds": 2})
    finish(store, claimed(store), 0.5)
    for _ in range(2):
        claim = claimed(store)
        finish(store, claim, 0.5 + claim.lease.number / 100, test=True)
    assert operations.claim_together(store, operations.Searches(StudySearch), "w", 0) == []  # which ends the study
    done = store.read(queries.find_study, study.id)
    verdict = store.read(verdict_of, done)
    assert done.state is StudyState.COMPLETE and verdict is not None and verdict.expected is not None
    assert verdict.expected.value == pytest.approx(0.515) and verdict.new_images is None and verdict.test_images == 0
    words = " ".join(verdict.words)
    assert "over seeds; the script chooses the data that it is scored on" in words and "example" not in words


def test_trials_record_digests_of_their_curves(store: Store) -> None:
    study = ready(store)
    for digest in ("a" * 32, None, "b" * 32):
        finish(store, claimed(store), 0.5, False, **({} if digest is None else {"curve": digest}))
    assert [(one.number, one.digest[0]) for one in store.read(queries.curve_digests, study.id, 5)] == [(0, "a"), (2, "b")]
    assert [one.number for one in store.read(queries.curve_digests, study.id, 1)] == [2]
    assert store.read(recorded_study, study.id).trials[0].epochs == 2  # the steps that it reported


def test_files_that_changed_before_a_study_is_resumed_end_it(store: Store) -> None:
    study = ready(store)
    finish(store, claimed(store), 0.5)
    operations.fail_study(store, study.id, "by hand")
    operations.resume_study(store, study.id)
    changed = operations.pass_check(store, study.id, ScriptInfo.of({"train.py": "1" * 64}))
    assert changed.state is StudyState.FAILED and changed.reason is not None
    assert changed.reason.startswith("the files train.py are not those that the study's trials were trained on")


def test_trials_of_a_script_are_ranked_by_the_objective_alone(store: Store) -> None:
    study = ready(store, budget={"trials": 1})
    finish(store, claimed(store), 0.5)
    with pytest.raises(InvalidInput):
        operations.rerank_study(store, study.id, "seconds")
