"""Looks at the database after every transaction, with statements of its own, and at the end once more with the suite's checker."""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.domain.states import FOLLOWS, AttemptEnd, StudyState, TrialState
from service.store import queries
from tests.chaos import checker

if TYPE_CHECKING:
    from tests.chaos.simulation.run import Simulation

TRIALS = "SELECT number, state, attempt, heartbeat, lost FROM trial WHERE study_id = ? ORDER BY number"
STUDY = "SELECT state, created, seq, (SELECT count(*) FROM event WHERE study_id = study.id) FROM study WHERE id = ?"
RATES = 0.05  # by which a clock may be fast or slow


@dataclass
class Seen:
    state: TrialState
    attempt: int
    heartbeat: int
    lost: int
    beaten_at: float


class Oracle:
    """What was seen, and when (seconds of the world)."""

    def __init__(self, simulation: "Simulation", file: str) -> None:
        self._simulation = simulation
        self._connection = sqlite3.connect(file, isolation_level=None)
        self._seen: dict[int, Seen] = {}
        self.ended_at: float | None = None
        self.changes: list[tuple[float, int, str, int]] = []  # when which trial came into which state by which attempt

    def look(self) -> None:
        """After a transaction. Raises AssertionError that names the invariant."""
        state, created, seq, events = self._connection.execute(STUDY, (self._simulation.study.id,)).fetchone()
        rows = self._connection.execute(TRIALS, (self._simulation.study.id,)).fetchall()
        budget = self._simulation.study.spec.budget
        assert [row[0] for row in rows] == list(range(created)), f"I16: {[row[0] for row in rows]}, created are {created}"
        confirm = self._simulation.study.spec.confirm
        repeats = 0 if confirm is None else (confirm.top + 1) * confirm.seeds
        assert created <= budget.max_trials + repeats, f"I15: {created} trials"
        running = sum(row[1] == "running" for row in rows)
        assert budget.parallel is None or running <= budget.parallel, f"I15: {running} run"
        assert events == seq, f"I24: {events} events up to {seq}"
        if StudyState(state).terminal and self.ended_at is None:
            self.ended_at = self._simulation.world.now
        for number, stands, attempt, heartbeat, lost in rows:
            self._follow(number, Seen(TrialState(stands), attempt, heartbeat, lost, self._simulation.world.now))
        self._nobody_trains_beside_a_successor()

    def _follow(self, number: int, now: Seen) -> None:
        before = self._seen.get(number)
        if before is not None:
            self._may_follow(number, before, now)
            if before.heartbeat == now.heartbeat:
                now.beaten_at = before.beaten_at
        if before is None or before.state is not now.state:
            self.changes.append((self._simulation.world.now, number, now.state, now.attempt))
        self._seen[number] = now

    def _may_follow(self, number: int, before: Seen, now: Seen) -> None:
        changed = now.state is not before.state
        restarted = before.state is now.state is TrialState.RUNNING and now.attempt != before.attempt
        assert not restarted, f"I7: attempt {now.attempt} of trial {number} began before {before.attempt} ended"
        assert not changed or now.state in FOLLOWS[before.state], f"I17: trial {number} became {now.state} after {before.state}"
        began = changed and now.state is TrialState.RUNNING
        assert now.attempt == before.attempt + began, f"I7: trial {number} has attempt {now.attempt} after {before.attempt}"
        if now.lost > before.lost:
            self._simulation.counts["leases expired"] += 1
            still = self._simulation.world.now - before.beaten_at
            least = self._simulation.settings.lease_seconds * (1 - RATES)
            assert still >= least, f"I12: trial {number} was taken {still:.1f} s after a heartbeat"

    def _nobody_trains_beside_a_successor(self) -> None:
        """I9: but for machines that stand still and cannot know."""
        for trainer in self._simulation.trainers:
            if trainer.at_work and not trainer.owner.frozen:
                for lease in trainer.leases:
                    now = self._seen[lease.number]
                    holds = now.attempt == lease.attempt or now.state is not TrialState.RUNNING
                    assert holds, f"I9: {trainer.owner.name} trains attempt {lease.attempt} of trial {lease.number} beside {now.attempt}"

    def judge(self) -> None:
        """At the end. Raises AssertionError with every invariant that is broken."""
        broken = list(self._broken())
        assert not broken, "\n".join(broken)

    def _broken(self) -> Iterator[str]:
        simulation, store = self._simulation, self._simulation.local
        study = store.read(queries.find_study, simulation.study.id)
        trials = {trial.number: trial for trial in store.read(queries.trials, study.id, limit=1_000)}
        attempts = {trial.number: store.read(queries.attempts, trial.id) for trial in trials.values()}
        if not study.state.terminal:
            yield f"I11: the study is {study.state} although nothing has failed for {simulation.calm_seconds:.0f} s"
        yield from checker.acknowledged_is_there(simulation.acknowledged, trials)
        yield from checker.budget_is_exact(study, trials)
        yield from checker.confirmation_is_exact(study, trials)
        yield from checker.events_are_gapless(study, trials, checker.events_of(store, study))
        yield from checker.attempts_follow_each_other(attempts, trials, simulation.interval)
        for number, trial in trials.items():
            handed_back = sum(one.ending is AttemptEnd.RELEASED for one in attempts[number])
            if trial.attempt > study.spec.limits.attempts + handed_back:
                yield f"I14: trial {number} had {trial.attempt} attempts"
        yield from simulation.people.broken(list(trials.values()))

    def close(self) -> None:
        self._connection.close()
