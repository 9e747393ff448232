"""A state machine of everything that may be done to a study; a model beside it says what must follow."""

from collections import Counter
from itertools import count
from typing import Any, ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import Table, func, select

from service import operations
from service.domain.budgets import BudgetChange, More
from service.domain.errors import BudgetSpent, LeaseLost, StudyClosed, StudyNotFound, TrialClosed
from service.domain.records import Claim, Lease, MetricReport
from service.domain.states import StudyState, TrialState
from service.operations import TrialOutcome, Write
from service.reaper import Reaper
from service.store import Store, Transaction, queries
from tests.chaos.commands import (
    ATTEMPTS,
    BUDGET,
    CHOICES,
    FAILURES,
    HEADS_ALONE,
    LANE_BYTES,
    LEASE,
    PARALLEL,
    Clock,
    commands,
    objectives,
    reported,
)
from tests.chaos.model import Model
from tests.chaos.promises import ReportedSoFar, numbers_and_budget_are_exact, trials_are_as_expected
from tests.chaos.snapshot import TABLES, same, taken
from tests.operations.driving import FACTS, RandomSearch, checkpoint, claim_trials, decide_one, ready, searches_of

NAMES = count()
COUNTS = Counter[str]()  # of what was done, over all examples


class Machine(RuleBasedStateMachine):
    """Workers, zombies, people and reapers at one study of heads alone, in batches of two sizes. Leases are never forgotten."""

    store: ClassVar[Store]

    def __init__(self) -> None:
        super().__init__()
        self.leases: list[Lease] = []
        self.last: dict[Lease, Write] = {}
        self.words: dict[Lease, TrialOutcome] = {}
        self.clock = Clock()

    @initialize(objective=objectives, claims=st.integers(0, PARALLEL))
    def begin(self, objective: tuple[str, str, int], claims: int) -> None:
        metric, direction, sign = objective
        study = ready(self.store, name=f"model-{next(NAMES)}", objective={"metric": metric, "direction": direction}, **HEADS_ALONE)
        self.model = Model(study.id, metric, sign, budget=BUDGET, attempts=ATTEMPTS, failures=FAILURES)
        self.reported = ReportedSoFar()
        self.sampler = RandomSearch(study.spec, choices=CHOICES)
        self.restart()
        if claims:
            self.claim("v", claims)

    @rule(command=commands)
    def step(self, command: dict[str, Any]) -> None:
        getattr(self, command["do"])(**{name: value for name, value in command.items() if name != "do"})

    # what workers do

    def claim(self, worker: str, limit: int) -> None:
        self._claimed(worker, limit, claim_trials(self.store, self.searches, worker, limit))

    def claim_together(self, worker: str, lanes: int) -> None:
        claims = operations.claim_together(self.store, self.searches, worker, lanes * LANE_BYTES)
        assert len(claims) <= 1 or all(claim.lease.attempt == 1 for claim in claims), "I15: only fresh trials share a pass"
        self._claimed(worker, lanes, claims)

    def _claimed(self, worker: str, limit: int, claims: list[Claim]) -> None:
        """What was claimed could be; and something was, if it could be."""
        model, room = self.model, PARALLEL - len(self.model.running)
        could = model.claimable and room > 0
        for trial in self.store.read(queries.trials, self.model.study)[len(model.trials) :]:
            if trial.source == "sampler":
                assert trial.params == RandomSearch.params(self.sampler, trial.number), "I23: parameters follow from the number"
            model.adds(trial.params, by_user=False)
        assert len(claims) <= min(limit, room), "I15: more run than may"
        for lease in (claim.lease for claim in claims):
            one = model.trials[lease.number]
            assert model.state is StudyState.ACTIVE and one.state is TrialState.QUEUED and one.duplicate_of is None, f"I7: {lease} {one}"
            assert lease.attempt == len(one.tries) + 1, f"I7: attempt {lease.attempt} after {len(one.tries)}"
            model.starts(lease.number, worker, self.clock.now)
        model.completes_if_spent()
        assert claims or not (could and model.claimable), "I11: a trial waits, and nobody gets it"
        COUNTS["claims"] += len(claims)
        self.leases += [claim.lease for claim in claims]

    def report(self, which: int, step: int, value: float, saves: bool) -> None:
        for lease in self._one(which):
            if lease.study == self.model.study:
                step += self.model.trials[lease.number].step
            reports = [MetricReport(step, reported(value))]
            self._tells(Write(lease, reports=reports, checkpoint=checkpoint(step) if saves else None))

    def end(self, which: int, outcome: TrialOutcome, value: float | None) -> None:
        """An attempt has one last word, whether it is heard or not."""
        for lease in self._one(which):
            reports = [] if value is None else [MetricReport(4, reported(value))]
            self._tells(Write(lease, reports=reports, outcome=self.words.setdefault(lease, outcome)))

    def repeat(self, which: int) -> None:
        """The last write of a lease again, however late: its answer was lost, or it lay in a spool."""
        if self.last:
            COUNTS["repeated"] += 1
            write = list(self.last.values())[which % len(self.last)]
            known = self.model.holds(write.lease) and write.outcome is None
            before = self._seq()
            self._tells(write)
            assert not known or self._seq() == before, f"I19: told again: {write}"

    def _seq(self) -> int:
        return self.store.read(queries.find_study, self.model.study).seq

    def _tells(self, write: Write) -> None:
        lost = operations.record(self.store, [write])
        if self.model.hears(write, self.clock.now):
            assert lost == [], f"I8: the holder was refused: {write}"
            COUNTS["ended"] += write.outcome is not None
        else:
            COUNTS["refused"] += 1
            assert lost == [write.lease], f"I8: accepted from a lease that is lost: {write}"
        self.last[write.lease] = write

    def beat(self, which: int) -> None:
        for lease in self._one(which):
            self._decide(lease)
            held = self.model.holds(lease)
            assert operations.heartbeat(self.store, "w", [lease]) == ([] if held else [lease]), "I8: heartbeat"
            if held:
                self.model.trials[lease.number].beaten_at = self.clock.now

    def _decide(self, lease: Lease) -> None:
        """The pruner is asked by holders alone."""
        try:
            decision = decide_one(self.store, self.searches, lease, {9: 0.5})
        except LeaseLost:
            assert not self.model.holds(lease), "I8: no decision for the holder"
        else:
            assert decision.go_on and self.model.holds(lease), "I8: a decision for a lease that is lost"

    def learn(self) -> None:
        """The sampler and the pruner know the accepted values of each trial's present line, and no others."""
        with self.searches.turn(self.store.read(queries.find_study, self.model.study)) as memory:
            memory.refresh(self.store)
            known: RandomSearch = memory.search  # type: ignore[assignment]
        for one in self.model.trials:
            expected = {step: metrics[self.model.objective] for step, metrics in one.curve.items()}
            assert known.known[one.number].state is one.state, f"I19: the search knows of {known.known[one.number]}"
            assert same(known.values[one.number], expected), f"I19: of trial {one.number} the search knows {known.values[one.number]}"

    def _one(self, which: int) -> list[Lease]:
        """Mostly one of the leases that are held, else one of all that ever were; none when there is none."""
        held = [lease for lease in self.leases if self.model.holds(lease)] if which % 4 else []
        some = held or self.leases
        return some[which // 4 % len(some) :][:1] if some else []

    # what reapers do

    def sweep(self, which: int, seconds: float) -> None:
        self.clock.now += seconds
        gone = self._swept(which)
        assert all(self.clock.now - one.beaten_at >= LEASE for one in gone), "I12: a lease was taken that had been renewed"
        self._lost(gone)

    def expire(self, which: int, beats: int) -> None:
        """For longer than a lease only every second trial's worker is heard of, or nobody's, or everybody's."""
        kept = [lease for lease in self._held() if beats and lease.number % beats == 0]
        due = {lease.number for lease in self._held()} - {lease.number for lease in kept}
        gone = set[int]()
        for _ in range(6):
            self.clock.now += LEASE / 4
            assert operations.heartbeat(self.store, "w", kept) == [], "I12: a lease was taken that is renewed"
            for lease in kept:
                self.model.trials[lease.number].beaten_at = self.clock.now
            swept = self._swept(which)
            gone |= {one.number for one in swept}
            self._lost(swept)
        assert gone == due, f"I10: expired are {gone}, due {due}"

    def beat_between_look_and_sweep(self) -> None:
        """What the reaper saw is not true any more when it takes the trial away."""
        suspects = self.store.read(queries.running_leases)
        held = [lease for lease, _ in suspects]
        assert operations.heartbeat(self.store, "w", held) == []
        for lease in held:
            self.model.trials[lease.number].beaten_at = self.clock.now
        assert operations.requeue_lost(self.store, suspects) == 0, "I11: taken although it was renewed"

    def _swept(self, which: int) -> list[Any]:
        """The trials that a sweep takes from their workers."""
        before = self._held()
        found = self.reapers[which].sweep()
        after = set(self._held())
        gone = [self.model.trials[lease.number] for lease in before if lease not in after]
        assert found == len(gone)
        return gone

    def _lost(self, gone: list[Any]) -> None:
        COUNTS["expired"] += len(gone)
        for one in gone:
            if one.state is TrialState.RUNNING:  # the end of another may have ended the study
                self.model.loses(one.number)

    def _held(self) -> list[Lease]:
        return [lease for lease, _ in self.store.read(queries.running_leases)]

    # what people do

    def queue(self, lr: float) -> None:
        params, model = {"lr": lr, "batch_size": 8}, self.model
        refused = model.state.terminal or len(model.trials) >= model.budget
        try:
            queued = operations.queue_trial(self.store, self.model.study, params)
        except (BudgetSpent, StudyClosed):
            assert refused, "I15: no room although there is"
        else:
            assert not refused, "I15: more trials than the budget has"
            assert queued.number == len(model.trials), "I16"
            model.adds(params, by_user=True)

    def cancel(self, number: int) -> None:
        if number < len(self.model.trials):
            over = self.model.trials[number].state.terminal
            try:
                operations.cancel_trial(self.store, self.model.study, number)
            except TrialClosed:
                assert over, "I18: an open trial cannot be cancelled"
            else:
                assert not over, "I18: a trial was cancelled after its end"
                self.model.cancels(number)

    def turn(self, turn: str) -> None:
        """Of the study as a whole. A study that is deleted is followed by another one; leases of the old one are those of zombies."""
        if turn in ("pause", "resume"):
            self._turn(turn)
        elif turn == "delete":
            if self.model.state.terminal:
                self.teardown()
                self.begin(("loss", "minimize", 1), 2)
        elif len(self.model.trials) >= BUDGET // 2:
            self._close(StudyState.FAILED if turn == "fail" else StudyState.STOPPED)

    def _turn(self, turn: str) -> None:
        before, done = self.model.state, self.model.state.terminal and self.model.has_nothing_left
        try:
            (operations.resume_study if turn == "resume" else operations.pause_study)(self.store, self.model.study)
        except StudyClosed:
            assert before.terminal and (turn == "pause" or before is StudyState.COMPLETE), "I17: an open study is closed"
        except BudgetSpent:
            assert turn == "resume" and done, "I15: nothing is left although there is"
        else:
            self._resumed(before) if turn == "resume" else self._paused(before)

    def _paused(self, before: StudyState) -> None:
        assert not before.terminal, "I17: a closed study is paused"
        self.model.state = StudyState.PAUSED

    def _resumed(self, before: StudyState) -> None:
        """Of a study that failed no trial starts before its data was checked again."""
        assert before is not StudyState.COMPLETE, "I17: a complete study is opened without a larger budget"
        self.model.resumes()
        if before is StudyState.FAILED:
            COUNTS["repaired"] += 1
            assert claim_trials(self.store, self.searches, "v") == [], "I36: a trial started on data that nobody has checked"
            operations.pass_check(self.store, self.model.study, FACTS)

    def extend(self, trials: int) -> None:
        """More budget, at most twice what it was."""
        if self.model.budget < 2 * BUDGET:
            operations.extend_study(self.store, self.model.study, BudgetChange(add=More(trials=trials)))
            COUNTS["extended"] += 1
            self.model.extends(trials)

    def _close(self, state: StudyState) -> None:
        before = self.model.state
        try:
            if state is StudyState.FAILED:
                operations.fail_study(self.store, self.model.study, "why")
            else:
                operations.stop_study(self.store, self.model.study)
        except StudyClosed:
            assert before.terminal and before is not state
        else:
            if not before.terminal:
                self.model.closes(state)

    # what processes do

    def restart(self) -> None:
        """Nothing that was only in memory is needed."""
        self.searches = searches_of(choices=CHOICES)
        self.reapers = [Reaper(self.store, LEASE, self.clock) for _ in range(2)]

    # what holds after each of them

    @invariant()
    def every_promise_holds(self) -> None:
        now = self.store.read(taken, self.model.study, self.reported.seq)
        numbers_and_budget_are_exact(now, self.model, PARALLEL)
        trials_are_as_expected(now, self.model)
        self.reported.each_change(now)
        COUNTS["steps"] += 1

    def teardown(self) -> None:
        if hasattr(self, "model"):
            operations.delete_study(self.store, self.model.study)
            with pytest.raises(StudyNotFound):
                self.store.read(queries.find_study, self.model.study)
            left = {table.name: self.store.read(rows_in, table) for table in TABLES}
            assert not any(left.values()), f"a deleted study leaves {left}"


def rows_in(tx: Transaction, table: Table) -> int:
    return tx.scalar(select(func.count()).select_from(table)) or 0
