"""What must follow from each operation on a study, in as few lines as it takes: the other opinion that the real operations meet."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from service.domain.records import Lease
from service.domain.states import AttemptEnd, StudyState, TrialState
from service.operations import Pruned, Released, TrialOutcome, Write
from trainer.protocol import Failed, Finished

END_OF = {TrialState(end): end for end in AttemptEnd if end.value in list(TrialState)}
TELLING = ("infeasible", "out_of_memory", "diverged")


@dataclass
class Try:
    worker: str
    resumed: int
    ending: AttemptEnd | None = None
    step: int | None = None
    said: TrialOutcome | None = None  # its last word
    reported: dict[int, str] = field(default_factory=dict)  # by step


@dataclass
class Expected:
    """A trial."""

    number: int
    params: Mapping[str, object]
    state: TrialState = TrialState.QUEUED
    duplicate_of: int | None = None
    tries: list[Try] = field(default_factory=list)
    saved: list[int] = field(default_factory=list)  # steps of checkpoints, newest first
    curve: dict[int, dict[str, float]] = field(default_factory=dict)  # metrics by step
    metrics: dict[str, float] = field(default_factory=dict)
    step: int = 0
    lost: int = 0
    crashes: int = 0
    value: float | None = None
    reason: str | None = None
    beaten_at: float = 0.0

    @property
    def answers(self) -> bool:
        return self.state in (TrialState.COMPLETE, TrialState.PRUNED) or (self.state is TrialState.FAILED and self.reason in TELLING)


class Model:
    """A study whose space has more duplicates than a real one."""

    def __init__(self, study: str, objective: str, sign: int, *, budget: int, attempts: int, failures: int) -> None:
        self.study, self.objective, self.sign = study, objective, sign
        self.budget, self.attempts, self.most_failures = budget, attempts, failures
        self.trials: list[Expected] = []
        self.state = StudyState.ACTIVE
        self.failures = 0

    @property
    def running(self) -> list[Expected]:
        return [trial for trial in self.trials if trial.state is TrialState.RUNNING]

    @property
    def claimable(self) -> bool:
        waiting = any(trial.state is TrialState.QUEUED and trial.duplicate_of is None for trial in self.trials)
        return self.state is StudyState.ACTIVE and (waiting or len(self.trials) < self.budget)

    @property
    def best(self) -> int | None:
        complete = [trial for trial in self.trials if trial.state is TrialState.COMPLETE]
        return min(complete, key=lambda one: (self.sign * (one.value or 0.0), one.number)).number if complete else None

    def holds(self, lease: Lease) -> bool:
        return lease.study == self.study and any((one.number, len(one.tries)) == (lease.number, lease.attempt) for one in self.running)

    def adds(self, params: Mapping[str, object], *, by_user: bool) -> None:
        """The next trial; a sampler's waits for an equal one, or has its result."""
        new = Expected(len(self.trials), params)
        equal = [
            one for one in self.trials if one.params == params and one.duplicate_of is None and (one.answers or not one.state.terminal)
        ]
        self.trials.append(new)
        if equal and not by_user:
            original = min(equal, key=lambda one: (not one.answers, one.number))
            new.duplicate_of = original.number
            if original.answers:
                self._copies(new, original)

    def starts(self, number: int, worker: str, now: float) -> None:
        one = self.trials[number]
        resumed = one.saved[0] if one.saved else 0
        if one.step > resumed:
            one.curve = {step: reported for step, reported in one.curve.items() if step <= resumed}
            one.step, one.metrics = resumed, dict(one.curve.get(resumed, {}))
        one.tries.append(Try(worker, resumed))
        one.state, one.beaten_at = TrialState.RUNNING, now

    def hears(self, write: Write, now: float) -> bool:
        """Whether the write's lease counts as held."""
        if not self.holds(write.lease):
            return self._heard_before(write)
        one = self.trials[write.lease.number]
        one.beaten_at = now
        for report in write.reports:
            one.tries[-1].resumed = min(one.tries[-1].resumed, report.step - 1)
            if report.step <= one.step and one.tries[-1].reported.get(report.step) == str(report.metrics):
                continue  # known
            one.tries[-1].reported[report.step] = str(report.metrics)
            one.curve[report.step] = dict(report.metrics)
            one.step, one.metrics = report.step, {**one.metrics, **report.metrics}
        if write.checkpoint is not None:
            one.saved = [write.checkpoint.step, *(step for step in one.saved if step < write.checkpoint.step)]
            self._tidies(one, newest=2)
        if write.outcome is not None:
            one.tries[-1].said = write.outcome
            self._concludes(one, write.outcome)
        return True

    def loses(self, number: int) -> None:
        """A reaper found that the lease stood still."""
        one = self.trials[number]
        one.lost += 1
        self._tries_again(one, AttemptEnd.LOST, "lost")

    def cancels(self, number: int) -> None:
        self._ends(self.trials[number], TrialState.CANCELLED)

    def closes(self, state: StudyState) -> None:
        """The study ends before its trials, which are cancelled when it was stopped and wait when it failed."""
        self.state = state
        for one in self.trials:
            if not one.state.terminal and state is StudyState.STOPPED:
                self._stops(one, TrialState.CANCELLED)
            elif one.state is TrialState.RUNNING:
                self._leaves(one, AttemptEnd.RELEASED)

    @property
    def has_nothing_left(self) -> bool:
        """Whether no trial is open and none may be added."""
        return len(self.trials) >= self.budget and all(one.state.terminal for one in self.trials)

    def resumes(self) -> None:
        """A study that is paused or has ended goes on."""
        self.failures = 0 if self.state.terminal else self.failures
        self.state = StudyState.ACTIVE

    def extends(self, trials: int) -> None:
        """The budget grows; only a complete study goes on by itself."""
        self.budget += trials
        if self.state is StudyState.COMPLETE:
            self.resumes()

    def completes_if_spent(self) -> None:
        if not self.state.terminal and self.has_nothing_left:
            self.state = StudyState.COMPLETE

    def _heard_before(self, write: Write) -> bool:
        """An attempt's outcome may come twice, even after the trial went on; what the study's failure released is released twice too."""
        if write.lease.study != self.study or write.outcome is None:
            return False
        one = self.trials[write.lease.number].tries[write.lease.attempt - 1]
        return one.said == write.outcome or (isinstance(write.outcome, Released) and one.ending is AttemptEnd.RELEASED)

    def _concludes(self, one: Expected, outcome: TrialOutcome) -> None:
        match outcome:
            case Released():
                self._leaves(one, AttemptEnd.RELEASED)
            case Pruned():
                one.value = self._finite(one)
                self._ends(one, TrialState.PRUNED)
            case Failed(reason="crashed"):
                one.crashes += 1
                self._tries_again(one, AttemptEnd.CRASHED, "crashed")
            case Failed():
                self._ends(one, TrialState.FAILED, outcome.reason)
            case Finished():
                one.step, one.metrics = outcome.step, {**one.metrics, **outcome.metrics}
                one.value = self._finite(one)
                failed = "diverged" if self.objective in one.metrics else "script_error"
                self._ends(one, *((TrialState.FAILED, failed) if one.value is None else (TrialState.COMPLETE, None)))

    def _finite(self, one: Expected) -> float | None:
        value = one.metrics.get(self.objective, math.nan)
        return value if math.isfinite(value) else None

    def _tries_again(self, one: Expected, ending: AttemptEnd, reason: str) -> None:
        if one.lost + one.crashes >= self.attempts:
            self._ends(one, TrialState.FAILED, reason, ending)
        else:
            self._leaves(one, ending)

    def _leaves(self, one: Expected, ending: AttemptEnd) -> None:
        one.state = TrialState.QUEUED
        one.tries[-1].ending, one.tries[-1].step = ending, one.step

    def _ends(self, one: Expected, state: TrialState, reason: str | None = None, ending: AttemptEnd | None = None) -> None:
        """And what follows: its duplicates are answered or set free, and perhaps the study ends."""
        self._stops(one, state, reason, ending)
        waiting = [other for other in self.trials if other.duplicate_of == one.number and not other.state.terminal]
        for place, other in enumerate(waiting):
            if one.answers:
                self._copies(other, one)
            else:
                other.duplicate_of = waiting[0].number if place else None
        self._counts(one)
        self.completes_if_spent()

    def _stops(self, one: Expected, state: TrialState, reason: str | None = None, ending: AttemptEnd | None = None) -> None:
        if one.state is TrialState.RUNNING:
            self._leaves(one, ending or END_OF[state])
        one.state, one.reason = state, reason
        self._tidies(one, newest=1)

    def _counts(self, one: Expected) -> None:
        """Failures in a row end the study."""
        if one.state in (TrialState.COMPLETE, TrialState.PRUNED):
            self.failures = 0
        elif one.state is TrialState.FAILED and one.reason != "lost":
            self.failures += 1
        if one.reason == "bad_data" or self.failures >= self.most_failures:
            self.closes(StudyState.FAILED)

    def _copies(self, new: Expected, original: Expected) -> None:
        new.state, new.value, new.reason = original.state, original.value, original.reason
        new.step, new.metrics, new.curve = original.step, dict(original.metrics), {**original.curve}

    def _tidies(self, one: Expected, newest: int) -> None:
        """The newest checkpoints stay, and the best one."""
        if len(one.saved) > newest:
            values = {step: one.curve.get(step, {}).get(self.objective, math.nan) for step in one.saved}
            finite = [step for step in one.saved if math.isfinite(values[step])]
            best = min(finite, key=lambda step: self.sign * values[step], default=None)
            one.saved = [step for place, step in enumerate(one.saved) if place < newest or step == best]
