"""The checker finds every violation: each is put into data that is sound otherwise. A checker that cannot fail proves nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from service.domain.records import CONFIRMATION, Attempt, Confirmation, Event, Study, Trial
from service.domain.spec import Confirm
from service.domain.states import StudyState, TrialState
from service.store import Store, queries
from tests.chaos import checker
from tests.operations.driving import checkpoint, claim_one, finish, lose, ready, report, searches_of, tell


@dataclass(frozen=True, kw_only=True)
class History:
    """A study as the database has it, and what was acknowledged."""

    study: Study
    trials: Mapping[int, Trial]
    attempts: Mapping[int, Sequence[Attempt]]
    events: Sequence[Event]
    acknowledged: Sequence[Mapping[str, Any]]

    def broken(self) -> list[str]:
        return [
            *checker.acknowledged_is_there(self.acknowledged, self.trials),
            *checker.budget_is_exact(self.study, self.trials),
            *checker.confirmation_is_exact(self.study, self.trials),
            *checker.events_are_gapless(self.study, self.trials, self.events),
            *checker.reports_follow_each_other(self.events),
            *checker.attempts_follow_each_other(self.attempts, self.trials, interval=1),
        ]

    def with_trial(self, number: int, **changes: Any) -> "History":
        return replace(self, trials={**self.trials, number: replace(self.trials[number], **changes)})

    def with_another(self, **changes: Any) -> "History":
        """One trial more, like the first."""
        number = len(self.trials)
        trials = {**self.trials, number: replace(self.trials[0], number=number, **changes)}
        attempts = {**self.attempts, number: self.attempts[0]}
        return replace(self, trials=trials, attempts=attempts, study=replace(self.study, created=len(trials)))

    def confirmed(self, *runs: tuple[int, int]) -> "History":
        """Followed by a confirmation, whose repeats are of these trials in these rounds."""
        one = replace(self, study=replace(self.study, confirmation=Confirmation(arms=(0, 1), baseline=1))).confirming()
        for confirms, round in runs:
            one = one.with_another(source=CONFIRMATION, confirms=confirms, round=round)
        return one

    def confirming(self) -> "History":
        spec = self.study.spec.model_copy(update={"confirm": Confirm(top=1, seeds=2)})
        return replace(self, study=replace(self.study, spec=spec))

    def with_attempts(self, number: int, *attempts: Attempt) -> "History":
        return replace(self, attempts={**self.attempts, number: attempts})

    def without_event(self, kind: str) -> "History":
        return replace(self, events=[event for event in self.events if event.kind != kind])


@pytest.fixture
def sound(embedded_store: Store) -> History:
    """Two trials; the first one lost its worker at step 2 and went on from step 1."""
    study, searches = ready(embedded_store, budget={"trials": 2}), searches_of()
    first = claim_one(embedded_store, searches)
    tell(embedded_store, first.lease, reports=[report(1, 0.1)], checkpoint=checkpoint(1))
    tell(embedded_store, first.lease, reports=[report(2, 0.2)])
    lose(embedded_store, first)
    for _ in range(2):
        claim = claim_one(embedded_store, searches)
        tell(embedded_store, claim.lease, reports=[report(step, 0.1 * step) for step in range(2 - claim.lease.number, 4)])
        finish(embedded_store, claim, 0.5)
    with embedded_store.reading() as tx:
        trials = {trial.number: trial for trial in queries.trials(tx, study.id)}
        return History(
            study=queries.find_study(tx, study.id),
            trials=trials,
            attempts={number: queries.attempts(tx, trial.id) for number, trial in trials.items()},
            events=queries.events_after(tx, study.id, 0, 1_000),
            acknowledged=[acknowledged(trial, trial.attempt) for trial in trials.values()],
        )


def acknowledged(trial: Trial, attempt: int, **changes: Any) -> dict[str, Any]:
    whole = {"trial": trial.id, "number": trial.number, "attempt": attempt, "steps": [], "outcome": "finished", "metrics": trial.metrics}
    return whole | changes


def test_a_sound_history_breaks_nothing(sound: History) -> None:
    assert sound.study.state is StudyState.COMPLETE
    assert [len(attempts) for attempts in sound.attempts.values()] == [2, 1]
    assert sound.broken() == []
    whole = sound.confirmed((0, 1), (0, 2), (1, 1), (1, 2))
    assert not list(checker.confirmation_is_exact(whole.study, whole.trials))


Doctoring = Callable[[History], History]
VIOLATIONS: dict[str, tuple[str, Doctoring]] = {
    "a result is gone": ("I1", lambda one: one.with_trial(1, metrics={"accuracy": 0.1})),
    "a finished trial is back in the queue": ("I1", lambda one: one.with_trial(1, state=TrialState.QUEUED)),
    "a trial is gone": ("I1", lambda one: replace(one, trials={0: one.trials[0]})),
    "a reported step is gone": (
        "I1",
        lambda one: replace(one, acknowledged=[acknowledged(one.trials[1], 1, outcome=None, steps=[9])]),
    ),
    "another attempt's result was taken": ("I1", lambda one: replace(one, acknowledged=[acknowledged(one.trials[0], 1)])),
    "two attempts were told that theirs is the result": (
        "I8",
        lambda one: replace(one, acknowledged=[acknowledged(one.trials[0], 1), acknowledged(one.trials[0], 2)]),
    ),
    "a report of another attempt was taken": ("I8", lambda one: replace(one, events=[jumped(event) for event in one.events])),
    "an attempt was never begun": ("I7", lambda one: one.with_attempts(0, one.attempts[0][1])),
    "two attempts overlap": ("I7", lambda one: one.with_attempts(0, replace(one.attempts[0][0], ending=None), one.attempts[0][1])),
    "a start was not told": ("I7", lambda one: one.with_trial(0, attempt=3)),
    "more than an interval was repeated": (
        "I10",
        lambda one: one.with_attempts(0, one.attempts[0][0], replace(one.attempts[0][1], resumed=0)),
    ),
    "there is a trial too many": ("I15", lambda one: one.with_another()),
    "a repeat nobody asked for": ("I33", lambda one: one.with_another(source=CONFIRMATION, confirms=0, round=1)),
    "a configuration twice in a round": ("I33", lambda one: one.confirmed((0, 1), (0, 1), (1, 1), (1, 2))),
    "a round that was left out": ("I33", lambda one: one.confirmed((0, 2), (1, 1), (1, 2))),
    "a baseline without its last round": ("I33", lambda one: one.confirmed((0, 1), (0, 2), (1, 1))),
    "complete, and nothing confirmed": ("I33", lambda one: one.confirming()),
    "complete, with a trial open": ("I15", lambda one: one.with_trial(1, state=TrialState.RUNNING)),
    "a number was left out": ("I16", lambda one: replace(one, trials={0: one.trials[0], 2: one.trials[1]})),
    "something happened after the end": ("I17", lambda one: replace(one, events=[*one.events, replace(one.events[3], seq=99)])),
    "an event is missing": ("I24", lambda one: one.without_event("trial_requeued")),
    "an end was not told": ("I24", lambda one: one.without_event("trial_completed")),
    "the event tells another end": ("I24", lambda one: one.with_trial(0, state=TrialState.PRUNED)),
}


def jumped(event: Event) -> Event:
    if "reports" not in event.body:
        return event
    return replace(event, body={**event.body, "reports": [{"step": one["step"] + 5, "metrics": {}} for one in event.body["reports"]]})


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_violation_is_found(sound: History, name: str) -> None:
    invariant, doctor = VIOLATIONS[name]
    assert any(line.startswith(invariant) for line in doctor(sound).broken())
