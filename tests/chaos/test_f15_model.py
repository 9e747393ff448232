"""F15: any order of operations on real databases, compared with a small model after each of them."""

import json
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import event, func, select

from service import operations
from service.domain.errors import BudgetSpent, LeaseLost, StudyClosed, StudyNotFound, TrialClosed
from service.domain.records import Claim, Lease, Report
from service.domain.states import StudyState, TrialState
from service.operations import Outcome, Pruned, Released, Write
from service.reaper import Reaper
from service.store import Store, open_store, queries
from tests.chaos.lab import LONG, planted
from tests.chaos.model import Model
from tests.chaos.promises import Told, numbers_and_budget_are_exact, trials_are_as_expected
from tests.chaos.snapshot import TABLES, same, taken
from tests.operations.driving import RandomSearch, checkpoint, finished, ready, searches_of
from trainer import catalogue
from trainer.contract import Failed, Finished

EXAMPLES = {"sqlite": 14_000, "postgresql": 6_000} if LONG else {"sqlite": 130, "postgresql": 70}
STEPS = 50 if LONG else 30
BUDGET, PARALLEL, ATTEMPTS, FAILURES = 8, 4, 2, 4
LEASE = 30.0
STAGES = len(catalogue.load("resnet18").stages)
HEADS_ALONE: dict[str, Any] = {
    "model": {"name": "resnet18", "weights": "DEFAULT"},
    "fixed": {"frozen_layers": STAGES},
    "search_space": {"lr": {"type": "float", "low": 0.0, "high": 1.0}, "batch_size": {"type": "int", "low": 8, "high": 16}},
    "sampler": {"name": "random"},
    "budget": {"trials": BUDGET, "parallel": PARALLEL},
    "limits": {"attempts": ATTEMPTS, "failures": FAILURES},
}
LANE_BYTES = 16 * (512 + 1) * 2  # of resnet18's head with two classes, its gradient and the optimizer's state
CHOICES = 6  # of parameters, so that duplicates come
VALUES = (0.05, 0.5, 0.5, 0.9, math.nan, math.inf, -math.inf)
REASONS = ("crashed", "crashed", "crashed", "out_of_memory", "diverged", "timeout", "script_error", "bad_data")
NAMES = count()
COUNTS = Counter[str]()
values = st.sampled_from(VALUES)
which = st.integers(0, 31)
workers = st.sampled_from("vw")
objectives = st.sampled_from([("accuracy", "maximize", -1), ("loss", "minimize", 1)])


def told(value: float) -> dict[str, float]:
    """The metrics of one step: what is good for one objective is bad for the other."""
    return {"accuracy": value, "loss": value}


def ended(value: float | None, step: int) -> Finished:
    """The outcome of a run that came to its end, perhaps without its objective."""
    return finished(0.0, step).model_copy(update={"metrics": {} if value is None else told(value)})


outcomes: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(ended, st.one_of(values, st.none()), st.integers(1, 6)),
    st.sampled_from(REASONS).map(lambda reason: Failed(reason=reason, detail="why")),  # type: ignore[arg-type]
    st.just(Pruned("why")),
    st.just(Released()),
)


def command(name: str, **arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A method of the machine with its arguments."""
    return st.fixed_dictionaries({"do": st.just(name), **arguments})


CLAIM = command("claim", worker=workers, limit=st.integers(1, 3))
CLAIM_TOGETHER = command("claim_together", worker=workers, lanes=st.integers(1, 5))
REPORT = command("report", which=which, step=st.integers(1, 3), value=values, saves=st.booleans())
END = command("end", which=which, outcome=outcomes, value=st.one_of(values, st.none()))
COMMANDS = st.one_of(
    CLAIM,
    CLAIM,
    CLAIM_TOGETHER,
    REPORT,
    REPORT,
    REPORT,
    END,
    END,
    END,
    command("repeat", which=which),
    command("beat", which=which),
    command("sweep", which=st.integers(0, 1), seconds=st.sampled_from([1.0, LEASE / 4, LEASE / 2])),
    command("expire", which=st.integers(0, 1), beats=st.integers(0, 2)),
    command("beat_between_look_and_sweep"),
    command("queue", lr=st.sampled_from([0.0, 0.5, 0.9])),
    command("cancel", number=st.integers(0, BUDGET - 1)),
    command("turn", turn=st.sampled_from(("pause", "resume", "resume", "stop", "fail", "delete"))),
    command("learn"),
    command("restart"),
)  # fmt: skip  (one rule with weights, since Hypothesis leaves half of the rules out of each example)


class Clock:
    """Moves when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Machine(RuleBasedStateMachine):
    """Workers, zombies, people and reapers at one study of heads alone, in batches of two sizes. Leases are never forgotten."""

    store: ClassVar[Store]

    def __init__(self) -> None:
        super().__init__()
        self.leases: list[Lease] = []
        self.last: dict[Lease, Write] = {}
        self.words: dict[Lease, Outcome] = {}
        self.clock = Clock()

    @initialize(objective=objectives, claims=st.integers(0, PARALLEL))
    def begin(self, objective: tuple[str, str, int], claims: int) -> None:
        metric, direction, sign = objective
        study = ready(self.store, name=f"model-{next(NAMES)}", objective={"metric": metric, "direction": direction}, **HEADS_ALONE)
        self.model = Model(study.id, metric, sign, budget=BUDGET, attempts=ATTEMPTS, failures=FAILURES)
        self.told = Told()
        self.sampler = RandomSearch(study.spec, choices=CHOICES)
        self.restart()
        if claims:
            self.claim("v", claims)

    @rule(command=COMMANDS)
    def step(self, command: dict[str, Any]) -> None:
        getattr(self, command["do"])(**{name: value for name, value in command.items() if name != "do"})

    # what workers do

    def claim(self, worker: str, limit: int) -> None:
        self._claimed(worker, limit, operations.claim(self.store, self.searches, worker, limit))

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
            reports = [Report(step, told(value))]
            self._tells(Write(lease, reports=reports, checkpoint=checkpoint(step) if saves else None))

    def end(self, which: int, outcome: Outcome, value: float | None) -> None:
        """An attempt has one last word, whether it is heard or not."""
        for lease in self._one(which):
            reports = [] if value is None else [Report(4, told(value))]
            self._tells(Write(lease, reports=reports, outcome=self.words.setdefault(lease, outcome)))

    def repeat(self, which: int) -> None:
        """The last write of a lease again, however late: its answer was lost, or it lay in a spool."""
        if self.last:
            COUNTS["repeated"] += 1
            self._tells(list(self.last.values())[which % len(self.last)])

    def _tells(self, write: Write) -> None:
        lost = operations.record(self.store, [write])
        if self.model.hears(write, self.clock.now):
            assert lost == [], f"I8: the holder was refused: {write}"
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
            decision = operations.decide(self.store, self.searches, lease, {9: 0.5})
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
        refused = model.state.terminal or len(model.trials) >= BUDGET
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
        over = self.model.state.terminal
        try:
            (operations.resume_study if turn == "resume" else operations.pause_study)(self.store, self.model.study)
        except StudyClosed:
            assert over, "I17: an open study is closed"
        else:
            assert not over, "I17: a closed study is opened"
            self.model.state = StudyState.ACTIVE if turn == "resume" else StudyState.PAUSED

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
        now = self.store.read(taken, self.model.study, self.told.seq)
        numbers_and_budget_are_exact(now, self.model, PARALLEL)
        trials_are_as_expected(now, self.model)
        self.told.each_change(now)
        COUNTS["steps"] += 1

    def teardown(self) -> None:
        if hasattr(self, "model"):
            operations.delete_study(self.store, self.model.study)
            with pytest.raises(StudyNotFound):
                self.store.read(queries.find_study, self.model.study)
            left = {
                table.name: self.store.read(lambda tx, table=table: tx.scalar(select(func.count()).select_from(table))) for table in TABLES
            }
            assert not any(left.values()), f"a deleted study leaves {left}"


@pytest.fixture
def quick_store(database_url: str) -> Iterator[Store]:
    """A store that need not survive power cuts."""
    with closing(open_store(database_url)) as opened:
        if opened.embedded:
            event.listen(opened.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
        yield opened


def test_no_order_of_operations_breaks_a_promise(quick_store: Store) -> None:
    """I7, I8, I10, I11, I14-I20, I23, I24: claims, reports, ends, repeats, zombies, cancels, stops, expiries, restarts and deletions."""
    COUNTS.clear()
    Machine.store, database = quick_store, quick_store.engine.dialect.name
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    phases = [Phase.generate] if planted() else [Phase.generate, Phase.shrink]  # a mutant's smallest example interests nobody
    chosen = settings(
        max_examples=EXAMPLES[database], stateful_step_count=STEPS, deadline=None, database=None, derandomize=False, print_blob=True,
        report_multiple_bugs=False, phases=phases, suppress_health_check=checks,
    )  # fmt: skip
    run_state_machine_as_test(Machine, settings=chosen)
    figures = {"scenario": "F15", "database": database, "examples": EXAMPLES[database], **COUNTS}
    assert all(COUNTS[kind] for kind in ("claims", "repeated", "refused", "expired")), figures
    print(json.dumps(figures))
