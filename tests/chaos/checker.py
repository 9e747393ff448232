"""What must hold after any faults, checked offline: the database as it is, against what was acknowledged while they were injected."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from service.domain.records import CONFIRMATION, Attempt, Event, Study, Trial
from service.domain.states import TrialState
from service.store import Store, queries
from tests.chaos.lab import Lab

ENDS = {"trial_completed": "complete", "trial_pruned": "pruned", "trial_failed": "failed", "trial_cancelled": "cancelled"}


def check(lab: Lab, study: Study, *, interval: int = 1) -> None:
    """Fail with every invariant that is broken. `interval` is the number of steps between two checkpoints."""
    broken = list(_broken(lab, lab.now(study), interval))
    assert not broken, f"seed {lab.seed}:\n" + "\n".join(broken)


def _broken(lab: Lab, study: Study, interval: int) -> Iterator[str]:
    trials = {trial.number: trial for trial in lab.trials(study)}
    attempts = {trial.number: lab.store.read(queries.attempts, trial.id) for trial in trials.values()}
    yield from acknowledged_is_there(lab.reported("acknowledged"), trials)
    yield from budget_is_exact(study, trials)
    yield from events_are_gapless(study, trials, events := events_of(lab.store, study))
    yield from reports_follow_each_other(events)
    yield from attempts_follow_each_other(attempts, trials, interval)


def events_of(store: Store, study: Study) -> list[Event]:
    """All of the study's events."""
    found = list[Event]()
    while page := store.read(queries.events_after, study.id, found[-1].seq if found else 0, 1_000):
        found += page
    return found


def acknowledged_is_there(acknowledged: Iterable[Mapping[str, Any]], trials: Mapping[int, Trial]) -> Iterator[str]:
    """I1, I8: what was acknowledged is in the database, from that attempt; nobody finishes a trial that another attempt has finished."""
    finishers = dict[int, int]()
    for line in acknowledged:
        if (trial := trials.get(line["number"])) is None or trial.id != line["trial"]:
            yield f"I1: an acknowledged write of trial {line['number']} has no trial"
        elif line["outcome"] == "finished":
            sound = all(map(math.isfinite, line["metrics"].values()))  # a result that is no number is a failure, and kept all the same
            ended = TrialState.COMPLETE if sound else TrialState.FAILED
            if (trial.state, trial.attempt, repr(sorted(trial.metrics.items()))) != (
                ended,
                line["attempt"],
                repr(sorted(line["metrics"].items())),
            ):
                yield f"I1: trial {trial.number} was finished by attempt {line['attempt']}, is {trial.state}: {trial.metrics}"
            if finishers.setdefault(trial.number, line["attempt"]) != line["attempt"]:
                yield f"I8: trial {trial.number} was finished by attempts {finishers[trial.number]} and {line['attempt']}"
        elif trial.step < max(line["steps"], default=0) and trial.attempt == line["attempt"]:
            yield f"I1: step {max(line['steps'])} of trial {trial.number} was acknowledged, and it is at {trial.step}"


def budget_is_exact(study: Study, trials: Mapping[int, Trial]) -> Iterator[str]:
    """I15, I16."""
    if sorted(trials) != list(range(study.created)):
        yield f"I16: the numbers are {sorted(trials)}, created are {study.created}"
    searched = sum(one.source != CONFIRMATION for one in trials.values())
    if searched > study.spec.budget.max_trials:
        yield f"I15: {searched} trials of {study.spec.budget.max_trials}"
    if study.state == "complete" and (searched != study.spec.budget.max_trials or not all(one.state.terminal for one in trials.values())):
        yield f"I15: complete with {searched} trials, open: {[one.number for one in trials.values() if not one.state.terminal]}"


def confirmation_is_exact(study: Study, trials: Mapping[int, Trial]) -> Iterator[str]:
    """I33: each configuration once in each of its rounds, none before the search is over; at the end, as many as were promised."""
    repeats = [one for one in trials.values() if one.source == CONFIRMATION]
    if study.spec.confirm is None or study.confirmation is None:
        if repeats or (study.spec.confirm is not None and study.state == "complete" and has_result(trials.values())):
            yield f"I33: {len(repeats)} repeats, and the confirmation is {study.confirmation}"
        return
    runs = Counter((one.confirms, one.round) for one in repeats)
    if twice := [run for run, count in runs.items() if count > 1]:
        yield f"I33: trained more than once: {twice}"
    if repeats and min(one.number for one in repeats) < study.spec.budget.max_trials:
        yield "I33: a repeat is among the trials of the search"
    for arm in study.confirmation.arms:
        rounds = sorted(round for confirms, round in runs if confirms == arm and round is not None)
        whole = all(one.state is TrialState.COMPLETE for one in repeats if one.confirms == arm)
        if rounds != list(range(1, len(rounds) + 1)) or len(rounds) > study.spec.confirm.seeds:
            yield f"I33: the rounds of {arm} are {rounds}"
        if study.state == "complete" and arm == study.confirmation.baseline and whole and len(rounds) != study.spec.confirm.seeds:
            yield f"I33: the baseline, {arm}, had {len(rounds)} rounds"


def has_result(trials: Iterable[Trial]) -> bool:
    """Whether one of them is complete."""
    return any(one.state is TrialState.COMPLETE for one in trials)


def events_are_gapless(study: Study, trials: Mapping[int, Trial], events: Sequence[Event]) -> Iterator[str]:
    """I24: each change has one event, in one sequence; an end comes once, and nothing of the trial after it (I17)."""
    if [event.seq for event in events] != list(range(1, study.seq + 1)):
        yield f"I24: {len(events)} events up to {study.seq}"
    ended = dict[int, str]()
    started = Counter[int]()
    for event in events:
        if (number := event.body.get("number")) is None:
            continue
        if number in ended:
            yield f"I17: {event.kind} of trial {number} after {ended[number]}"
        if event.kind in ENDS:
            ended[number] = event.kind
        started[number] += event.kind == "trial_started"
    for trial in trials.values():
        if trial.state.terminal and ENDS.get(ended.get(trial.number, "")) != trial.state:
            yield f"I24: trial {trial.number} is {trial.state}, its event says {ended.get(trial.number)}"
        if started[trial.number] != trial.attempt:
            yield f"I7: trial {trial.number} has attempt {trial.attempt} and was started {started[trial.number]} times"


def reports_follow_each_other(events: Iterable[Event]) -> Iterator[str]:
    """I8: an attempt reports step by step; a report from further on is another attempt's. I19: it is told once."""
    last, reported = dict[int, int](), dict[int, list[Any]]()
    for event in events:
        if event.kind == "trial_started":
            last[event.body["number"]], reported[event.body["number"]] = event.body["step"], []
        for report in event.body.get("reports", ()):
            number = event.body["number"]
            if report in reported[number]:
                yield f"I19: step {report['step']} of trial {number} is told again by event {event.seq}"
            reported[number].append(report)
            if report["step"] > last[number] + 1:
                yield f"I8: step {report['step']} of trial {number} was reported after step {last[number]}, in event {event.seq}"
            last[number] = report["step"]


def attempts_follow_each_other(by_number: Mapping[int, Sequence[Attempt]], trials: Mapping[int, Trial], interval: int) -> Iterator[str]:
    """I7, I10: attempts count up without overlap, and each goes on at most one interval of checkpoints behind what was reported before."""
    for trial in trials.values():
        attempts = by_number[trial.number]
        if [one.attempt for one in attempts] != list(range(1, trial.attempt + 1)):
            yield f"I7: trial {trial.number} has attempts {[one.attempt for one in attempts]}"
        for before, after in pairwise(attempts):
            if before.ending is None:
                yield f"I7: attempt {after.attempt} of trial {trial.number} began before {before.attempt} ended"
            if (before.step or 0) - after.resumed > interval:
                yield f"I10: attempt {after.attempt} of trial {trial.number} goes on from {after.resumed}, {before.step} was reported"
