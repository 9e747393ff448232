"""F1: a random process is killed every 0.3 s until all trials are done."""

import os
import signal
import time
from contextlib import suppress
from functools import partial
from itertools import pairwise

from service.domain.errors import StoreUnavailable
from service.domain.records import Attempt, Study, Trial
from service.domain.states import AttemptEnd, TrialState
from service.store import queries
from tests.chaos.checker import check
from tests.chaos.conftest import MakeLab
from tests.chaos.lab import LONG, Lab
from tests.chaos.storm import Storm
from trainer.files import TEMPORARY

TRIALS = 60 if LONG else 20
PAUSE_SECONDS = 0.3
LIMIT_SECONDS = 600
IDLE_SECONDS = 1.0  # that a slot without work waits, at most, before it asks again
KILLS = 8 if LONG else 3
SLOW = ("--step", "0.1")
FOR_EVER = 100_000  # epochs


def test_kills_lose_and_double_nothing(lab: Lab) -> None:
    """I1, I5, I7, I8, I10, I15, I16, I24: what is struck is started again, and nothing of it shows in the end."""
    study = lab.study(trials=TRIALS)
    storm, started = Storm(lab), time.monotonic()
    while not lab.ended(study):
        assert time.monotonic() < started + LIMIT_SECONDS, lab.last_words()
        time.sleep(PAUSE_SECONDS)
        with suppress(StoreUnavailable):  # the frozen one may hold SQLite's lock
            storm.strike()
    storm.calm_down()
    lab.counts["attempts"] = sum(trial.attempt for trial in lab.trials(study))
    lab.measured |= {"seconds": round(time.monotonic() - started, 1), "steps repeated, at most": steps_repeated(lab, study)}
    lab.measured |= {"writes acknowledged": len(lab.reported("acknowledged")), "writes refused": len(lab.reported("refused"))}
    check(lab, study)
    assert lab.now(study).state == "complete"
    assert {trial.state for trial in lab.trials(study)} == {TrialState.COMPLETE}
    nothing_half_written_stays(lab, storm)
    lab.tell("F1")


def steps_repeated(lab: Lab, study: Study) -> int:
    """Of all attempts, the most steps that one had reported and the next did again."""
    pairs = [pair for trial in lab.trials(study) for pair in pairwise(attempts_of(lab, trial))]
    return max(((before.step or 0) - after.resumed for before, after in pairs), default=0)


def nothing_half_written_stays(lab: Lab, storm: Storm) -> None:
    """I5: what a kill left half written goes when the next worker starts; one such file is there for certain."""
    storm.end()
    folder = next(lab.home.glob("checkpoints/*/0/e*"))
    (folder / f"epoch-000099.json.1{TEMPORARY}").write_text("half")
    lab.measured["files half written"] = len(list(lab.home.rglob(f"*{TEMPORARY}"))) - 1
    lab.work()
    lab.until(lambda: not list(lab.home.rglob(f"*{TEMPORARY}")), "no file is left half written")


def test_a_killed_workers_trial_is_taken_up_within_a_lease_and_a_sweep(make_lab: MakeLab) -> None:
    """I10: six heartbeats and a sweep after the kill it waits for another worker, which takes it up as soon as it asks."""
    lab = make_lab(lease_seconds=3.0, heartbeat_seconds=0.5)
    study = lab.study(trials=1, epochs=FOR_EVER)
    workers, requeued, claimed = [lab.work(*SLOW) for _ in range(2)], list[float](), list[float]()
    for kill in range(1, KILLS + 1):
        lab.until(partial(is_under_way, lab, study, kill), "the trial is under way")
        holder = next(one for one in workers if f"-{one.pid}-" in str(only(lab, study).worker))
        holder.kill()
        killed = time.monotonic()
        workers[workers.index(holder)] = lab.work(*SLOW)
        lab.until(partial(is_handed_back, lab, study, kill), "it waits for another worker")
        requeued.append(round(time.monotonic() - killed, 2))
        lab.until(partial(is_tried_again, lab, study, kill), "another worker has it")
        claimed.append(round(time.monotonic() - killed, 2))
    allowed = lab.settings.lease_seconds + lab.settings.heartbeat_seconds
    lab.counts["workers killed"] = KILLS
    lab.measured |= {"seconds until queued": max(requeued), "seconds until claimed": max(claimed), "seconds allowed": allowed}
    assert min(claimed) <= allowed + 0.5, f"with half a second for a busy machine: {claimed}"
    assert max(claimed) <= 2 * allowed + IDLE_SECONDS, claimed
    check(lab, study)
    lab.tell("F1, time until claimed")


def test_a_trial_whose_trainer_is_killed_goes_on_from_its_checkpoint(make_lab: MakeLab) -> None:
    """I10, I14, I21: the death of a trainer alone is its attempt's end, not its worker's; the trial's next attempt goes on."""
    lab = make_lab(lease_seconds=30)
    study = lab.study(trials=1, epochs=20)
    worker = lab.work("--step", "0.05")
    lab.until(lambda: is_under_way(lab, study, 1) and only(lab, study).step > 1, "the trial is under way")
    (trainer,) = worker.family() - {worker.pid}
    os.kill(trainer, signal.SIGKILL)
    lab.counts["trainers killed"] += 1
    lab.until(lambda: lab.ended(study), "the study ends")
    first, second = attempts_of(lab, only(lab, study))
    assert (first.ending, second.ending) == (AttemptEnd.CRASHED, AttemptEnd.COMPLETE)
    assert second.resumed >= (first.step or 0) - 1 > 0
    assert worker.runs and only(lab, study).state is TrialState.COMPLETE
    check(lab, study)
    lab.tell("F1, a trainer alone")


def only(lab: Lab, study: Study) -> Trial:
    """The study's one trial."""
    return lab.store.read(queries.find_trial, study.id, 0)


def is_handed_back(lab: Lab, study: Study, attempt: int) -> bool:
    """Whether this attempt at the one trial has ended, and perhaps the next has begun."""
    return only(lab, study).worker is None or is_tried_again(lab, study, attempt)


def is_tried_again(lab: Lab, study: Study, attempt: int) -> bool:
    return only(lab, study).attempt > attempt


def attempts_of(lab: Lab, trial: Trial) -> list[Attempt]:
    return lab.store.read(queries.attempts, trial.id)


def is_under_way(lab: Lab, study: Study, attempt: int) -> bool:
    """Whether this attempt at the one trial has reported, and there is a checkpoint."""
    for trial in lab.trials(study):
        reported = {metric.attempt for metric in lab.store.read(queries.metrics, trial.id)}
        return trial.attempt == attempt and attempt in reported and bool(trial.checkpoints)
    return False
