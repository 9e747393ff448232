"""Studies that have ended and are ranked by another metric."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from service import operations
from service.domain.budgets import BudgetChange, More
from service.domain.errors import InvalidInput, StudyClosed
from service.domain.records import MetricReport, Study
from service.domain.spec import StudySpec
from service.domain.states import StudyState, TrialState
from service.operations import Idempotency, Pruned, Searches
from service.store import Store, queries
from tests.operations.driving import RandomSearch, claim_one, claim_trials, finished, kinds_of, ready, study_of, tell, trial_of, trials_of
from trainer.protocol import Failed

VALUES = [(0.9, 0.5), (0.8, 0.7), (0.7, 0.7)]  # accuracy and F1 of the trials


def ended(store: Store, searches: Searches) -> Study:
    """A complete study with three complete trials, a pruned one and a failed one."""
    study = ready(store, budget={"trials": 5})
    claims = claim_trials(store, searches, limit=5)
    for claim, (accuracy, f1) in zip(claims, VALUES, strict=False):
        outcome = finished(accuracy).model_copy(update={"metrics": {"accuracy": accuracy, "f1": f1, "loss": 1 - f1}})
        assert tell(store, claim.lease, outcome=outcome)
    assert tell(store, claims[3].lease, reports=[MetricReport(1, {"accuracy": 0.1, "f1": 0.2})], outcome=Pruned("slow"))
    assert tell(store, claims[4].lease, outcome=Failed(reason="diverged", detail="no number"))
    assert study_of(store, study).state is StudyState.COMPLETE
    return study


def best_of(store: Store, study: Study) -> int | None:
    found = store.read(queries.best_trial, study_of(store, study))
    return None if found is None else found.number


def test_the_best_trial_is_that_of_the_other_metric_the_first_of_equal_ones(store: Store, searches: Searches) -> None:
    study = ended(store, searches)
    assert best_of(store, study) == 0
    before = trials_of(store, study)
    operations.rerank_study(store, study.id, "f1")
    now = study_of(store, study)
    assert (now.spec.objective.metric, now.spec.objective.direction, best_of(store, study)) == ("f1", "maximize", 1)
    assert [trial.value for trial in trials_of(store, study)] == [0.5, 0.7, 0.7, 0.2, None]
    for old, new in zip(before, trials_of(store, study), strict=True):
        assert (old.state, old.params, old.metrics, old.finished_at) == (new.state, new.params, new.metrics, new.finished_at)
        assert (new.changed == now.seq) == (new.state is not TrialState.FAILED), "a page reads again what changed"


def test_the_direction_is_that_of_the_metric(store: Store, searches: Searches) -> None:
    study = ended(store, searches)
    operations.rerank_study(store, study.id, "loss")
    assert study_of(store, study).spec.objective.direction == "minimize" and best_of(store, study) == 1
    operations.rerank_study(store, study.id, "accuracy")
    assert best_of(store, study) == 0 and [trial.value for trial in trials_of(store, study)][:4] == [0.9, 0.8, 0.7, 0.1]


def test_the_event_names_the_best_trial_before_and_after(store: Store, searches: Searches) -> None:
    study = ended(store, searches)
    operations.rerank_study(store, study.id, "f1")
    (event,) = [one for one in store.read(queries.events_after, study.id, 0, 1_000) if one.kind == "study_reranked"]
    assert event.body["objective"] == {"metric": "f1", "direction": "maximize"} and event.body["best"] == 1
    assert event.body["was"] == {"metric": "accuracy", "direction": "maximize", "best": 0}


def test_the_same_metric_changes_nothing(store: Store, searches: Searches) -> None:
    study = ended(store, searches)
    before = study_of(store, study)
    operations.rerank_study(store, study.id, "accuracy")
    assert study_of(store, study) == before


def test_a_repeated_request_ranks_once(store: Store, searches: Searches) -> None:
    study, key = ended(store, searches), Idempotency("one", "a" * 64, lambda tx, changed: "")
    operations.rerank_study(store, study.id, "f1", key)
    with pytest.raises(operations.Replay):
        operations.rerank_study(store, study.id, "f1", key)
    assert kinds_of(store, study).count("study_reranked") == 1


def test_a_study_that_has_not_ended_is_refused(store: Store, searches: Searches) -> None:
    study = ready(store)
    for change in (lambda: None, lambda: operations.pause_study(store, study.id)):
        change()
        with pytest.raises(StudyClosed, match="its search still follows accuracy"):
            operations.rerank_study(store, study.id, "f1")


def test_a_study_whose_best_configurations_were_compared_again_is_refused(store: Store, searches: Searches) -> None:
    study = ready(store, budget={"trials": 1}, data={"path": "data/pets", "test": 0.2}, confirm={"seeds": 2})
    outcome = finished(0.9).model_copy(update={"metrics": {"accuracy": 0.9, "f1": 0.9}})
    assert tell(store, claim_one(store, searches).lease, outcome=outcome)
    claim_trials(store, searches)
    assert study_of(store, study).confirmation is not None
    operations.stop_study(store, study.id)
    with pytest.raises(StudyClosed, match="confirmation of this study compared"):
        operations.rerank_study(store, study.id, "f1")


@pytest.mark.parametrize(("metric", "message"), [("poetry", "no such metric"), ("recall", "3 trials, the first of them 0, ended")])
def test_a_metric_that_was_not_recorded_is_refused(metric: str, message: str, store: Store, searches: Searches) -> None:
    study = ended(store, searches)
    with pytest.raises(InvalidInput) as refused:
        operations.rerank_study(store, study.id, metric)
    assert message in refused.value.faults[0].message and study_of(store, study).spec.objective.metric == "accuracy"


def test_a_study_that_goes_on_searches_by_the_other_metric(store: Store) -> None:
    made = list[str]()

    class Search(RandomSearch):
        def __init__(self, spec: StudySpec) -> None:
            super().__init__(spec)
            made.append(spec.objective.metric)

    searches = Searches(Search)  # type: ignore[arg-type]
    study = ended(store, searches)
    operations.rerank_study(store, study.id, "f1")
    operations.extend_study(store, study.id, BudgetChange(add=More(trials=1)))
    claim_one(store, searches)
    assert made == ["accuracy", "f1"]


def test_nothing_else_of_an_ended_trial_changes(store: Store, searches: Searches) -> None:
    study = ended(store, searches)
    for number, change in ((0, "step = step + 1"), (0, "state = 'cancelled'"), (0, "metrics = '{}'"), (4, "value_kind = 'nan'")):
        with pytest.raises(DatabaseError), store.writing() as tx:
            tx.execute(text(f"UPDATE trial SET {change} WHERE id = :its_id"), {"its_id": trial_of(store, study, number).id})  # noqa: S608
