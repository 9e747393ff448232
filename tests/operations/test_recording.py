"""What a worker may write, and what its outcomes become."""

import math
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError

from service import operations
from service.domain.records import Claim, Lease, MetricReport, Study
from service.domain.states import TrialState, ValueKind
from service.operations import Pruned, Released, Searches, Write
from service.store import Store, queries, schema
from tests.operations.driving import (
    BROKEN,
    CRASH,
    PICTURE,
    WRONG,
    checkpoint,
    claim_one,
    claim_trials,
    finish,
    finished,
    kinds_of,
    lose,
    ready,
    report,
    searches_of,
    tell,
    trial_of,
    trials_of,
    with_examples,
)
from trainer.protocol import Failed, Finished, Scores

EVERY_WRITE: list[dict[str, Any]] = [
    {"reports": [report(1, 0.9)]},
    {"checkpoint": checkpoint(1)},
    {"memory": {"rung": 1}},
    {"result": {"environment": {"torch": "2"}}},
    {"log": "epoch 1\n"},
    {"outcome": finished(0.9)},
    {"outcome": BROKEN},
    {"outcome": CRASH},
    {"outcome": Pruned("too low")},
    {"outcome": Released()},
]
ENDS = {"complete": finished(0.5), "failed": BROKEN, "pruned": Pruned("too low")}


@pytest.fixture
def zombie(store: Store, study: Study, searches: Searches) -> Lease:
    """The lease of a worker that was thought dead, while another one runs its trial."""
    first = claim_one(store, searches, "zombie")
    lose(store, first)
    assert claim_one(store, searches, "successor").lease.attempt == 2
    return first.lease


@pytest.mark.parametrize("said", EVERY_WRITE, ids=lambda said: str(next(iter(said))))
def test_a_stale_attempt_cannot_write(store: Store, study: Study, zombie: Lease, said: dict[str, Any]) -> None:
    before, events = trial_of(store, study, 0), kinds_of(store, study)
    assert operations.record(store, [Write(zombie, **said)]) == [zombie]
    assert operations.heartbeat(store, "zombie", [zombie]) == [zombie]
    assert trial_of(store, study, 0) == before
    assert store.read(queries.metrics, zombie.trial) == []
    assert kinds_of(store, study) == events


def test_a_lost_lease_does_not_take_the_others_writes_with_it(store: Store, study: Study, zombie: Lease, searches: Searches) -> None:
    other = claim_one(store, searches)
    lost = operations.record(store, [Write(zombie, outcome=finished(0.9)), Write(other.lease, outcome=finished(0.4))])
    assert lost == [zombie]
    assert [trial.state for trial in trials_of(store, study)] == [TrialState.RUNNING, TrialState.COMPLETE]


def test_heartbeats_tell_apart_held_and_lost_leases(store: Store, zombie: Lease, searches: Searches) -> None:
    other = claim_one(store, searches).lease
    assert operations.heartbeat(store, "w", [zombie, other]) == [zombie]
    assert operations.heartbeat(store, "w", [other]) == []
    assert dict(store.read(queries.running_leases))[other] == 3


def test_a_lease_of_a_deleted_study_renews_no_strangers(store: Store, searches: Searches) -> None:
    """SQLite gives the keys of deleted trials again."""
    gone = ready(store, name="gone")
    old = claim_one(store, searches).lease
    operations.delete_study(store, gone.id)
    ready(store, name="next")
    new = claim_one(store, searches).lease
    assert operations.heartbeat(store, "w", [old]) == [old]
    assert operations.record(store, [Write(old, reports=[report(1, 0.5)])]) == [old]
    assert operations.heartbeat(store, "w", [new]) == []
    assert (new.trial == old.trial) == store.embedded


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_an_outcome_that_is_sent_again_counts_as_written_once(store: Store, study: Study, searches: Searches, end: Any) -> None:
    claim = claim_one(store, searches)
    write = Write(claim.lease, reports=[report(3, 0.5)], outcome=end)
    assert operations.record(store, [write]) == []
    trial, events = trial_of(store, study, 0), kinds_of(store, study)
    assert operations.record(store, [write]) == []
    assert (trial_of(store, study, 0), kinds_of(store, study)) == (trial, events)


def test_what_is_sent_again_is_told_once(store: Store, study: Study, searches: Searches) -> None:
    claim = claim_one(store, searches)
    reports, file = [report(1, 0.5), report(2, math.nan)], checkpoint(2)
    write = Write(claim.lease, reports=reports, checkpoint=file, result={"pace": {"samples_per_second": 1.0}})
    assert operations.record(store, [write]) == []
    trial, events = trial_of(store, study, 0), kinds_of(store, study)
    assert operations.record(store, [write]) == []
    assert (trial_of(store, study, 0), kinds_of(store, study)) == (trial, events)
    assert operations.record(store, [replace(write, reports=[*reports, report(3, 0.75)])]) == []  # with what came since
    reported = store.read(queries.events_after, study.id, len(events))
    assert [[one["step"] for one in event.body["reports"]] for event in reported] == [[3]]
    assert tell(store, claim.lease, reports=[report(3, 0.25)])  # an attempt that has computed it anew
    assert trial_of(store, study, 0).metrics == {"accuracy": 0.25}
    assert len(kinds_of(store, study)) == len(events) + 2


def test_a_result_that_comes_after_the_trial_was_cancelled_or_given_up_is_not_acknowledged(store: Store, searches: Searches) -> None:
    study = ready(store, limits={"attempts": 1})
    cancelled, given_up = claim_trials(store, searches, limit=2)
    for claim in (cancelled, given_up):
        assert tell(store, claim.lease, reports=[report(3, 0.5)])  # the last epoch's: all that the outcome says, but the end
    operations.cancel_trial(store, study.id, cancelled.lease.number)
    lose(store, given_up)
    assert trial_of(store, study, given_up.lease.number).reason == "lost"
    assert [tell(store, claim.lease, outcome=finished(0.5)) for claim in (cancelled, given_up)] == [False, False]


@pytest.mark.parametrize("value", [math.nan, None], ids=["diverged", "no value"])
def test_a_finish_that_was_judged_a_failure_counts_as_written_too(
    store: Store, study: Study, searches: Searches, value: float | None
) -> None:
    claim = claim_one(store, searches)
    outcome = finished(0.0).model_copy(update={"metrics": {} if value is None else {"accuracy": value}})
    assert [tell(store, claim.lease, outcome=outcome) for _ in range(2)] == [True, True]
    assert trial_of(store, study, 0).state is TrialState.FAILED


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_trial_that_has_ended_takes_no_other_outcome(store: Store, study: Study, searches: Searches, end: Any) -> None:
    claim = claim_one(store, searches)
    assert tell(store, claim.lease, reports=[report(3, 0.5)], outcome=end)
    trial = trial_of(store, study, 0)
    others = [one for one in (finished(0.9), Failed(reason="timeout", detail=""), Pruned("why"), Released()) if type(one) is not type(end)]
    assert [tell(store, claim.lease, outcome=other) for other in others] == [False] * 3
    assert not tell(store, claim.lease, reports=[report(4, 0.9)])
    assert trial_of(store, study, 0) == trial


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_the_database_itself_refuses_to_change_a_trial_that_has_ended(store: Store, study: Study, searches: Searches, end: Any) -> None:
    assert tell(store, claim_one(store, searches).lease, outcome=end)
    trial = trial_of(store, study, 0)
    changes: list[dict[str, Any]] = [{"state": "running"}, {"value": 0.99, "attempt": 7}, {"attempt": 7}, {"heartbeat": 9}]
    if trial.state not in (TrialState.COMPLETE, TrialState.PRUNED):  # their value may become that of another metric
        changes.append({"value": 0.99})
    for change in changes:
        with pytest.raises(IntegrityError, match="never changes"), store.writing() as tx:
            tx.execute(update(schema.trial).values(change))
    assert trial_of(store, study, 0) == trial


def test_what_a_run_tells_is_kept(store: Store, study: Study, searches: Searches) -> None:
    lease = claim_one(store, searches).lease
    assert tell(store, lease, result={"environment": {"torch": "2.14"}}, memory={"rung": 0})
    assert tell(store, lease, reports=[report(1, 0.1), report(2, 0.2)], checkpoint=checkpoint(2), memory={"next": 4})
    assert tell(store, lease, reports=[report(3, 0.3)], checkpoint=checkpoint(3))
    assert tell(store, lease, reports=[report(4, 0.4)], checkpoint=checkpoint(4), outcome=finished(0.4, step=4))
    trial = trial_of(store, study, 0)
    assert (trial.state, trial.value, trial.value_kind, trial.step, trial.metrics) == (
        TrialState.COMPLETE,
        0.4,
        ValueKind.FINITE,
        4,
        {"accuracy": 0.4},
    )
    assert [saved.step for saved in trial.checkpoints] == [4], "the last is the best"
    assert trial.memory == {"drawn_for": 0, "rung": 0, "next": 4}
    assert trial.result["environment"] == {"torch": "2.14"}
    assert trial.result["confusion_matrix"] == [[1, 0], [1, 0]]
    assert [(metric.step, metric.value) for metric in store.read(queries.metrics, trial.id)] == [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]


PACE = {"samples_per_second": 900.0, "seconds_left": 3.0, "seconds": {"forward": 1.5}}
REUSE = {"pixels": "cached", "depth": 12, "place": "memory", "lanes": 8}


def test_what_a_write_brings_into_the_result_replaces_what_had_its_name_and_the_pace_is_told(
    store: Store, study: Study, searches: Searches
) -> None:
    lease = claim_one(store, searches).lease
    assert tell(store, lease, result={"environment": {"torch": "2"}, "reuse": REUSE, "pace": PACE | {"seconds_left": 9.0}})
    assert tell(store, lease, reports=[report(1, 0.5)], result={"pace": PACE})
    assert tell(store, lease, reports=[report(2, 0.6)])
    assert trial_of(store, study, 0).result == {"environment": {"torch": "2"}, "reuse": REUSE, "pace": PACE}
    events = store.read(queries.events_after, study.id, 0)
    reported = [event.body.get("pace") for event in events if event.kind == "trial_reported"]
    assert reported == [PACE | {"seconds_left": 9.0}, PACE, None]
    assert tell(store, lease, outcome=finished(0.6))
    assert trial_of(store, study, 0).result.keys() == {
        "environment", "reuse", "pace", "per_class_recall", "confusion_matrix", "train_seconds", "peak_memory",
    }  # fmt: skip


def test_a_pace_that_is_no_finite_number_is_kept_as_unknown_and_harms_no_other_write(
    store: Store, study: Study, searches: Searches
) -> None:
    first, second = claim_trials(store, searches, limit=2)
    odd = {"seconds_left": math.inf, "seconds": {"forward": math.nan, "data": 1.0}, "device": "a\0b"}
    writes = [Write(first.lease, result={"pace": odd}), Write(second.lease, reports=[report(1, 0.5)])]
    assert operations.record(store, writes) == []
    assert trial_of(store, study, 0).result["pace"] == {"seconds_left": None, "seconds": {"forward": None, "data": 1.0}, "device": "ab"}
    assert trial_of(store, study, 1).step == 1


def test_the_next_attempt_begins_without_the_pace_and_reuse_of_the_one_before(store: Store, study: Study, searches: Searches) -> None:
    lease = claim_one(store, searches).lease
    assert tell(store, lease, result={"environment": {"torch": "2"}, "reuse": REUSE, "pace": PACE}, outcome=Released())
    claim_one(store, searches)
    assert trial_of(store, study, 0).result == {"environment": {"torch": "2"}}


def test_an_attempt_that_goes_on_from_a_checkpoint_reads_what_the_one_before_read(store: Store, study: Study, searches: Searches) -> None:
    lease = claim_one(store, searches).lease
    read = REUSE | {"depth": 5, "validation_depth": 9}
    assert tell(store, lease, result={"reuse": read, "pace": PACE}, checkpoint=checkpoint(1), outcome=Released())
    assert claim_one(store, searches).depths == (5, 9)
    assert trial_of(store, study, 0).result == {"reuse": read}


def test_a_duplicate_takes_the_result_but_saved_and_reused_nothing_itself(store: Store, study: Study) -> None:
    searches = searches_of(choices=1)
    lease = claim_one(store, searches).lease
    assert tell(store, lease, result={"environment": {"torch": "2"}, "reuse": REUSE, "pace": PACE}, outcome=finished(0.5))
    assert claim_trials(store, searches) == []
    original, duplicate = trials_of(store, study)[:2]
    assert original.result.keys() - duplicate.result.keys() == {"reuse", "pace"}
    assert duplicate.result["environment"] == {"torch": "2"}


def test_numbers_that_no_database_agrees_on_come_back_as_they_were(store: Store, study: Study, searches: Searches) -> None:
    lease = claim_one(store, searches).lease
    numbers = {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 0.1 + 0.2, "e": 5e-324}
    assert tell(store, lease, reports=[MetricReport(1, numbers)])
    stored = {metric.name: metric.value for metric in store.read(queries.metrics, lease.trial)}
    assert repr(stored) == repr(numbers)
    assert repr(dict(trial_of(store, study, 0).metrics)) == repr(numbers)
    body = store.read(queries.events_after, study.id, 0)[-1].body
    assert body["metrics"] == {"a": "nan", "b": "pos_inf", "c": "neg_inf", "d": 0.1 + 0.2, "e": 5e-324}


@pytest.mark.parametrize(("value", "kind"), [(math.nan, ValueKind.NAN), (math.inf, ValueKind.POS_INF), (-math.inf, ValueKind.NEG_INF)])
def test_a_run_whose_objective_is_not_finite_has_diverged(
    store: Store, study: Study, searches: Searches, value: float, kind: ValueKind
) -> None:
    assert tell(store, claim_one(store, searches).lease, outcome=finished(value))
    trial = trial_of(store, study, 0)
    assert (trial.state, trial.reason, trial.value, trial.value_kind) == (TrialState.FAILED, "diverged", None, kind)


def test_a_run_that_ends_without_its_objective_has_failed(store: Store, study: Study, searches: Searches) -> None:
    nothing = Finished(
        step=3, metrics={"loss": 1.0}, report={"per_class_recall": {}, "confusion_matrix": ()}, train_seconds=1.0, peak_memory=1
    )
    assert tell(store, claim_one(store, searches).lease, outcome=nothing)
    trial = trial_of(store, study, 0)
    assert (trial.state, trial.reason, trial.value_kind) == (TrialState.FAILED, "script_error", ValueKind.MISSING)
    assert "accuracy" in (trial.detail or "")


@pytest.mark.parametrize(
    ("outcome", "place"),
    [
        (finished(0.9).model_copy(update={"report": {"per_class_recall": {}, "confusion_matrix": ((1, 0),)}}), "#/confusion_matrix"),
        (finished(0.9).model_copy(update={"report": {"residuals": [0.1]}}), "#/per_class_recall"),
        (finished(0.9).model_copy(update={"test": Scores(metrics={"accuracy": 0.9})}), "#/test/per_class_recall"),
    ],
)
def test_a_report_that_is_not_of_the_task_fails_the_trial(
    store: Store, study: Study, searches: Searches, outcome: Finished, place: str
) -> None:
    lease = claim_one(store, searches).lease
    assert tell(store, lease, outcome=outcome) and tell(store, lease, outcome=outcome)  # said again it is a repeat
    trial = trial_of(store, study, 0)
    assert (trial.state, trial.reason, trial.metrics["accuracy"]) == (TrialState.FAILED, "script_error", 0.9)
    assert (trial.detail or "").startswith(f"the run's report does not fit the task image_classification: {place}: ")


def test_a_pruned_trial_keeps_its_last_objective_and_the_reason(store: Store, study: Study, searches: Searches) -> None:
    assert tell(store, claim_one(store, searches).lease, reports=[report(1, 0.3), report(2, 0.2)], outcome=Pruned("worse than the median"))
    trial = trial_of(store, study, 0)
    assert (trial.state, trial.value, trial.detail, trial.reason) == (TrialState.PRUNED, 0.2, "worse than the median", None)


def test_what_a_trainer_says_is_stored_even_if_no_database_takes_it(store: Store, study: Study, searches: Searches) -> None:
    assert tell(store, claim_one(store, searches).lease, outcome=Failed(reason="script_error", detail="a\0b \ud800" + "x" * 10_000))
    detail = trial_of(store, study, 0).detail or ""
    assert detail.startswith("ab ?xxx")
    assert len(detail) <= 4_000


def test_a_trial_that_is_handed_back_is_queued_and_not_counted_as_lost(store: Store, study: Study, searches: Searches) -> None:
    for attempt in range(1, 6):
        claim = claim_one(store, searches)
        assert (claim.lease.number, claim.lease.attempt) == (0, attempt)
        assert tell(store, claim.lease, outcome=Released())
        assert trial_of(store, study, 0).worker is None


def test_texts_and_pictures_of_examples_are_in_the_answer_about_their_trial_alone(store: Store, study: Study, searches: Searches) -> None:
    claim, shown = claim_one(store, searches), [WRONG | {"picture": PICTURE}, WRONG | {"text": "Grüße \U0001f600", "text_b": ""}]
    assert tell(store, claim.lease, outcome=with_examples(*shown))
    trial = trial_of(store, study, 0)
    assert trial.state is TrialState.COMPLETE and trial.result["worst_classes"] == shown
    listed = [
        *trials_of(store, study),
        *store.read(queries.trials_changed_after, study.id, 0),
        *store.read(queries.changed_since, study.id, 0).trials,
    ]
    assert len(listed) == 3 and not any("worst_classes" in one.result for one in listed)
    events = store.read(queries.events_after, study.id, 0, 100)
    assert events[-1].kind == "trial_completed" and not any("worst_classes" in event.body for event in events)


def test_a_picture_that_is_none_fails_its_trial(store: Store, study: Study, searches: Searches) -> None:
    claim = claim_one(store, searches)
    assert tell(store, claim.lease, outcome=with_examples(WRONG | {"picture": "PHN2Zy8+"}))
    trial = trial_of(store, study, 0)
    assert (trial.state, trial.reason) == (TrialState.FAILED, "script_error") and "worst_classes" not in trial.result
    assert trial.detail is not None and "#/worst_classes/0/picture: a picture is base64 of a lossy WebP file" in trial.detail


def test_a_lease_that_beat_since_it_was_suspected_is_kept(store: Store, study: Study, searches: Searches) -> None:
    claim = claim_one(store, searches)
    suspects = store.read(queries.running_leases)
    assert operations.heartbeat(store, "w", [claim.lease]) == []
    assert operations.requeue_lost(store, suspects) == 0
    assert trial_of(store, study, 0).state is TrialState.RUNNING


def test_two_reapers_take_a_trial_once(store: Store, study: Study, searches: Searches) -> None:
    claim_one(store, searches)
    suspects = store.read(queries.running_leases)
    assert [operations.requeue_lost(store, suspects) for _ in range(2)] == [1, 0]


def test_writes_of_several_studies_go_in_one_call(store: Store, searches: Searches) -> None:
    studies = [ready(store, name=name) for name in ("one", "two", "three")]
    claims: list[Claim] = [claim_one(store, searches) for _ in studies]
    assert operations.record(store, [Write(claim.lease, outcome=finished(0.5)) for claim in claims]) == []
    assert [trial_of(store, study, 0).state for study in studies] == [TrialState.COMPLETE] * 3


def test_a_write_to_a_deleted_study_is_lost(store: Store, study: Study, searches: Searches) -> None:
    claim = claim_one(store, searches)
    operations.delete_study(store, study.id)
    assert not tell(store, claim.lease, outcome=finished(0.5))
    assert operations.heartbeat(store, "w", [claim.lease]) == [claim.lease]


def test_the_end_of_the_last_trial_completes_the_study(store: Store, study: Study, searches: Searches) -> None:
    for claim in claim_trials(store, searches, limit=30):
        finish(store, claim)
    kinds = kinds_of(store, study)
    assert kinds[-2:] == ["trial_completed", "study_completed"]
    assert claim_trials(store, searches) == []
