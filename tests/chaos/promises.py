"""What must hold of a study at every moment, whatever was done: as the database has it, beside what the model expects."""

from service.domain.states import FOLLOWS, TrialState, ValueKind
from tests.chaos.model import Expected, Model
from tests.chaos.snapshot import News, Snapshot, same


def numbers_and_budget_are_exact(now: Snapshot, model: Model, parallel: int) -> None:
    """I11, I15, I16, I20, and the study's own state."""
    running = [one for one in now.trials if one.state is TrialState.RUNNING]
    assert [one.number for one in now.trials] == list(range(now.study.created)), "I16: the numbers have a gap"
    assert len(now.trials) <= model.budget, f"I15: {len(now.trials)} trials"
    assert len(now.trials) == len(model.trials), f"I15: {len(now.trials)} trials, expected {len(model.trials)}"
    assert len(running) <= parallel, f"I15: {len(running)} run"
    assert now.study.state is model.state, f"I17: the study is {now.study.state}, expected {model.state}"
    if now.news is not None:
        best = now.news.best and now.news.best.number
        assert best == model.best, f"I20: the best is {best}, expected {model.best}"
        leases = {(lease.number, lease.attempt) for lease in now.news.leases}
        assert leases == {(one.number, one.attempt) for one in running}, f"I11: leases are {leases}"


def trials_are_as_expected(now: Snapshot, model: Model) -> None:
    """I7, I8, I14, I17, I19, I20."""
    for trial, one in zip(now.trials, model.trials, strict=True):
        name = f"trial {trial.number}"
        assert trial.state is one.state, f"I17: {name} is {trial.state}, expected {one.state}"
        assert (trial.attempt, trial.lost, trial.crashes) == (len(one.tries), one.lost, one.crashes), f"I14: attempts of {name}: {trial}"
        assert (trial.value, trial.reason) == (one.value, one.reason), f"I20: {name} has {trial.value}, {trial.reason}, expected {one}"
        assert (trial.value is not None) == (trial.value_kind is ValueKind.FINITE), f"I20: {name} is {trial.value_kind}"
        assert trial.duplicate_of == one.duplicate_of, f"{name} is a duplicate of {trial.duplicate_of}, expected {one.duplicate_of}"
        assert [saved.step for saved in trial.checkpoints] == one.saved, f"I8: checkpoints of {name}: {trial.checkpoints}, expected {one}"
        assert trial.step == one.step, f"I19: {name} is at {trial.step}, expected {one}"
        assert same(trial.metrics, one.metrics), f"I19: {name} has {trial.metrics}, expected {one}"
        if now.news is not None:
            _course_is_as_expected(name, now.news, one)


def _course_is_as_expected(name: str, news: News, one: Expected) -> None:
    curve = news.curves.get(one.number, {})
    assert same(curve, one.curve), f"I19: {name} has {curve}, expected {one.curve}"
    tries = [(place, each.worker, each.resumed, each.ending, each.step) for place, each in enumerate(one.tries, 1)]
    attempts = news.attempts.get(one.number, [])
    assert attempts == tries, f"I7: {name} has {attempts}, expected {tries}"


class ReportedSoFar:
    """What a reader of the events knows of a study."""

    def __init__(self) -> None:
        self.seq = 0
        self.stand: dict[int, tuple[TrialState, int]] = {}  # state and attempt by number

    def each_change(self, now: Snapshot) -> None:
        """I17, I24: the new events are without a gap, may follow each other, and lead to where the rows are."""
        events = now.news.events if now.news is not None else []
        assert [one.seq for one in events] == list(range(self.seq + 1, now.study.seq + 1)), "I24: the sequence has a gap"
        self.seq = now.study.seq
        for event in events:
            if (number := event.body.get("number")) is None:
                continue
            state, attempt = TrialState(event.body["state"]), event.body["attempt"]
            before, attempts = self.stand.get(number, (TrialState.QUEUED, 0))
            may_follow = state in FOLLOWS[before] or (state is before and not state.terminal)
            assert may_follow, f"I17: {event.kind} of trial {number} after {before}"
            assert attempt == attempts + (event.kind == "trial_started"), f"I24: {event.kind} of attempt {attempt} after {attempts}"
            self.stand[number] = (state, attempt)
        stand = {one.number: (one.state, one.attempt) for one in now.trials}
        assert self.stand == stand, f"I24: the events tell {self.stand}, the rows say {stand}"
