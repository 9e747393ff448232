"""Any order of operations, compared with a small model of what must hold."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule, run_state_machine_as_test
from sqlalchemy import event

from service import operations
from service.domain.errors import BudgetSpent, StudyClosed, TrialClosed
from service.domain.records import Claim, Lease
from service.domain.states import FOLLOWS, StudyState, TrialState
from service.operations import Pruned, Released, TrialOutcome, Write
from service.store import open_store, queries
from tests.operations.driving import (
    BROKEN,
    CRASH,
    FACTS,
    checkpoint,
    claim_trials,
    finished,
    ready,
    report,
    searches_of,
    study_of,
    trials_of,
)
from trainer.tasks.images import catalogue

BUDGET, PARALLEL, MOST_TRIES, MOST_FAILURES = 8, 4, 2, 3
STAGES = len(catalogue.load("resnet18").stages)
HEADS_ALONE: dict[str, Any] = {
    "model": {"name": "resnet18", "weights": "DEFAULT"},
    "fixed": {"frozen_layers": STAGES},
    "search_space": {"lr": {"type": "float", "low": 0.0, "high": 1.0}, "batch_size": {"type": "int", "low": 8, "high": 16}},
    "sampler": {"name": "random"},
}
LANE_BYTES = 16 * (512 + 1) * 2  # of resnet18's head with two classes, its gradient and the optimizer's state
END_OF = {"finish": TrialState.COMPLETE, "break": TrialState.FAILED, "prune": TrialState.PRUNED, "release": TrialState.QUEUED}
OUTCOME_OF: dict[str, TrialOutcome] = {
    "finish": finished(0.5),
    "break": BROKEN,
    "prune": Pruned("why"),
    "release": Released(),
    "crash": CRASH,
}
LIMITS = {"attempts": MOST_TRIES, "failures": MOST_FAILURES}
ENDED = tuple(state for state in TrialState if state.terminal)


@dataclass
class Expected:
    """What the model knows of a trial that a worker had."""

    state: TrialState
    attempt: int
    spoilt: int = 0  # attempts that ended with the worker lost, or the process

    def spoil(self) -> None:
        self.spoilt += 1
        self.state = TrialState.FAILED if self.spoilt >= MOST_TRIES else TrialState.QUEUED


class Machine(RuleBasedStateMachine):
    """Workers, zombies, people and a reaper at one study of heads alone, in batches of two sizes. Of six points, some come twice."""

    leases = Bundle("leases")
    template: Path

    @initialize()
    def begin(self) -> None:
        self.folder = TemporaryDirectory()
        file = Path(self.folder.name) / "machine.db"
        file.write_bytes(self.template.read_bytes())
        self.store = open_store(f"sqlite:///{file}")
        event.listen(self.store.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))  # no power cuts
        self.study = ready(self.store, budget={"trials": BUDGET, "parallel": PARALLEL}, limits=LIMITS, **HEADS_ALONE)
        self.searches = searches_of(choices=6)
        self.known: dict[int, Expected] = {}
        self.before: dict[int, Any] = {}
        self.failures = 0  # one after the other
        self.closed = False

    def held(self, lease: Lease) -> bool:
        one = self.known[lease.number]
        return (one.state, one.attempt) == (TrialState.RUNNING, lease.attempt)

    @rule(target=leases, limit=st.integers(1, 3))
    def claim(self, limit: int) -> Any:
        return self._claimed(claim_trials(self.store, self.searches, "w", limit))

    @rule(target=leases, lanes=st.integers(1, 5))
    def claim_together(self, lanes: int) -> Any:
        claims = operations.claim_together(self.store, self.searches, "w", lanes * LANE_BYTES)
        assert len(claims) <= min(lanes, PARALLEL)
        assert len(claims) <= 1 or all(claim.lease.attempt == 1 for claim in claims)
        return self._claimed(claims)

    def _claimed(self, claims: list[Claim]) -> Any:
        assert not (claims and self.closed)
        for claim in claims:
            one = self.known.setdefault(claim.lease.number, Expected(TrialState.QUEUED, 0))
            assert (one.state, one.attempt + 1) == (TrialState.QUEUED, claim.lease.attempt)
            one.state, one.attempt = TrialState.RUNNING, claim.lease.attempt
        return multiple(*(claim.lease for claim in claims))

    @rule(lease=leases, step=st.integers(1, 4), saves=st.booleans(), twice=st.booleans())
    def tell(self, lease: Lease, step: int, saves: bool, twice: bool) -> None:
        write = Write(lease, reports=[report(step, step / 10)], checkpoint=checkpoint(step) if saves else None)
        lost = [] if self.held(lease) else [lease]
        assert operations.record(self.store, [write]) == lost
        if twice:  # its answer was lost
            seq = study_of(self.store, self.study).seq
            assert operations.record(self.store, [write]) == lost
            assert study_of(self.store, self.study).seq == seq, "I19: told again"

    @rule(lease=consumes(leases), end=st.sampled_from(sorted(OUTCOME_OF)), twice=st.booleans())
    def end(self, lease: Lease, end: str, twice: bool) -> None:
        one, held = self.known[lease.number], self.held(lease)
        write = Write(lease, outcome=OUTCOME_OF[end])
        lost = operations.record(self.store, [write])
        if held:
            assert lost == []
            if twice:
                assert operations.record(self.store, [write]) == []
            self._ended(one, end)
        else:
            assert lost == [lease] or one.state is END_OF.get(end)

    def _ended(self, one: Expected, end: str) -> None:
        if end == "crash":
            one.spoil()
        else:
            one.state = END_OF[end]
        self.failures = 0 if end in ("finish", "prune") else self.failures + (one.state is TrialState.FAILED)
        if self.failures >= MOST_FAILURES:
            for other in self.known.values():
                other.state = other.state if other.state in ENDED else TrialState.QUEUED

    @rule(lease=leases)
    def beat(self, lease: Lease) -> None:
        assert operations.heartbeat(self.store, "w", [lease]) == ([] if self.held(lease) else [lease])

    @rule(lease=leases, in_time=st.booleans())
    def reap(self, lease: Lease, in_time: bool) -> None:
        counted = dict(self.store.read(queries.running_leases)).get(lease, 0)
        if in_time and self.held(lease):
            assert operations.heartbeat(self.store, "w", [lease]) == []
        taken = self.held(lease) and not in_time
        assert operations.requeue_lost(self.store, [(lease, counted)]) == taken
        if taken:
            self.known[lease.number].spoil()

    @rule(number=st.integers(0, BUDGET - 1))
    def cancel(self, number: int) -> None:
        if number < len(trials_of(self.store, self.study)):
            try:
                operations.cancel_trial(self.store, self.study.id, number)
            except TrialClosed:
                assert self.before[number].state.terminal
            else:
                self.known.setdefault(number, Expected(TrialState.QUEUED, 0)).state = TrialState.CANCELLED

    @rule(lr=st.sampled_from([0.0, 0.5, 0.9]))
    def queue(self, lr: float) -> None:
        created = len(self.before)
        try:
            assert operations.queue_trial(self.store, self.study.id, {"lr": lr, "batch_size": 8}).number == created
        except (BudgetSpent, StudyClosed):
            assert created == BUDGET or self.closed

    @rule()
    def restart(self) -> None:
        self.searches = searches_of(choices=6)

    @rule()
    def pause_and_resume(self) -> None:
        try:
            operations.pause_study(self.store, self.study.id)
        except StudyClosed:
            assert self.closed
        try:
            operations.resume_study(self.store, self.study.id)
        except (BudgetSpent, StudyClosed):
            assert self.closed and all(trial.state.terminal for trial in self.before.values())
        else:
            operations.pass_check(self.store, self.study.id, FACTS)
            self.failures = 0 if self.closed else self.failures

    @invariant()
    def every_promise_holds(self) -> None:
        trials, study = trials_of(self.store, self.study), study_of(self.store, self.study)
        states = [trial.state for trial in trials]
        assert [trial.number for trial in trials] == list(range(study.created))
        assert len(trials) <= BUDGET
        assert states.count(TrialState.RUNNING) <= PARALLEL
        for trial in trials:
            self._follows(trial)
        for number, one in self.known.items():
            assert (trials[number].state, trials[number].attempt) == (one.state, one.attempt)
        events = self.store.read(queries.events_after, study.id, 0, limit=100_000)
        assert [one.seq for one in events] == list(range(1, study.seq + 1))
        ends = [one.body["number"] for one in events if one.body.get("state") in ENDED and "number" in one.body]
        assert sorted(ends) == [trial.number for trial in trials if trial.state.terminal]
        spent = len(trials) == BUDGET and all(state.terminal for state in states)
        failed = self.failures >= MOST_FAILURES
        assert study.state is (StudyState.FAILED if failed else StudyState.COMPLETE if spent else StudyState.ACTIVE)
        self.closed = spent or failed
        for trial in trials[:2]:
            self._attempts_tell(trial)
        self.before = {trial.number: trial for trial in trials}

    def _attempts_tell(self, trial: Any) -> None:
        attempts = self.store.read(queries.attempts, trial.id)
        assert [one.attempt for one in attempts] == list(range(1, trial.attempt + 1))
        running = [one.attempt for one in attempts if one.ending is None]
        assert running == ([trial.attempt] if trial.state is TrialState.RUNNING else [])

    def _follows(self, trial: Any) -> None:
        before = self.before.get(trial.number)
        if before is None or before == trial:
            return
        assert not before.state.terminal
        assert trial.attempt >= before.attempt
        assert trial.changed > before.changed or trial.state is before.state is TrialState.RUNNING
        reached = FOLLOWS[before.state] | {before.state}
        assert trial.state in reached | {after for state in reached for after in FOLLOWS[state]}

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()


def test_no_order_of_operations_breaks_a_promise(sqlite_template: Path) -> None:
    Machine.template = sqlite_template
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    run_state_machine_as_test(
        Machine, settings=settings(max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=checks, database=None)
    )
