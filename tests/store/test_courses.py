"""What the estimate of a study's time left is made from."""

from sqlalchemy import event

from service import operations
from service.domain.progress import StudyProgress
from service.operations import Write
from service.store import Store, queries
from tests.operations.driving import claim_one, claim_trials, finish, ready, searches_of, spec_of, study_of, trial_of


def test_a_study_that_nobody_has_begun_has_an_empty_course(store: Store) -> None:
    study = ready(store)
    assert store.read(queries.study_progress, [study.id]) == {study.id: StudyProgress()}
    with_baseline = operations.create_study(store, spec_of(name="other", baseline={"lr": 0.5}))
    assert store.read(queries.study_progress, [with_baseline.id]) == {with_baseline.id: StudyProgress(waiting=1)}


def test_waiting_running_and_ended_trials_count_and_duplicates_do_not(store: Store) -> None:
    study, searches = ready(store, budget={"trials": 100}), searches_of(choices=6)
    claims = claim_trials(store, searches, limit=5)
    other = ready(store, name="other")
    finish(store, claims[0])
    finish(store, claims[1])
    reported = [Write(claim.lease, result={"pace": {"seconds_left": left}}) for claim, left in zip(claims[2:], (4.0, 9.0), strict=False)]
    operations.record(store, reported)
    operations.queue_trial(store, study.id, {"lr": 0.123})
    course = store.read(queries.study_progress, [study.id, other.id])[study.id]
    first, second, third = (trial_of(store, study, claim.lease.number) for claim in claims[:3])
    assert study_of(store, study).created > len(claims) + 1  # duplicates were met on the way
    assert course == StudyProgress(
        waiting=1, running=len(claims) - 2, running_since=third.started_at, running_seconds_left=9.0,
        ended=2, first_start=first.started_at, last_end=second.finished_at,
    )  # fmt: skip


def test_studies_that_are_not_under_way_are_left_out_and_the_others_take_one_statement(store: Store) -> None:
    active, stopped = ready(store, name="active"), ready(store, name="stopped")
    claim_one(store, searches_of())
    operations.stop_study(store, stopped.id)
    statements = list[str]()
    event.listen(store.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    assert store.read(queries.study_progress, [active.id, stopped.id, "nobody"]).keys() == {active.id}
    assert len([one for one in statements if one.startswith("SELECT")]) == 1
    assert study_of(store, stopped).finished_at is not None
