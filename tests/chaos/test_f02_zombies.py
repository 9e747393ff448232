"""F2: a worker stops for longer than its lease, wakes when its trial belongs to another attempt, and goes on as if nothing had happened."""

import hashlib
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from service.domain.records import Study, Trial
from service.worker.supervisor import LEAVE_SECONDS
from tests.chaos.checker import check
from tests.chaos.conftest import MakeLab
from tests.chaos.lab import LONG, Lab, Process
from tests.processes import below

LEASE_SECONDS = 3.0
EPOCHS = 12
LEAVING = "during the graceful stop"
POINTS = (
    "after the claim",
    "before a metric",
    "before the checkpoint's rename",
    "between rename and pointer",
    "before the end",
    "after the end, before its acknowledgement",
    "inside a heartbeat",
    LEAVING,
)
ENDED = "after the end, before its acknowledgement"  # nobody else may get this trial
LONGEST = "last step after waking, ms"
HAVE_WORDS = ("before a metric", "before the end", LEAVING)  # that they say when they wake
VARIANTS = [(wake, too) for wake in ("claimed", "ended") for too in (False, True)] if LONG else [("claimed", False)]


class Zombie:
    """A worker that stops at a point, with its trial as it was then."""

    def __init__(self, lab: Lab, point: str, trainer_too: bool) -> None:
        faults = {"THAW_CHAOS_FREEZE_AT": point, "THAW_CHAOS_FAULTS": "tests.chaos.faults.freezing"}
        faults["THAW_CHAOS_TOY_FAULTS"] = "tests.chaos.faults.toy_steps,tests.chaos.faults.toy_freezing"
        slowness = "5" if point == LEAVING else "0.05"  # it is to be told to leave before its trial ends
        self.worker: Process = lab.work("--step", slowness, **faults, **({"THAW_CHAOS_FREEZE_TRAINER": "1"} if trainer_too else {}))
        self.point, self._lab = point, lab
        self.woken_at = 0.0

    @property
    def frozen(self) -> dict[str, Any] | None:
        """What it noted when it stopped: the number of its trial, and its attempt."""
        return next((line for line in self._lab.reported("frozen") if line["point"] == self.point), None)

    def wake(self) -> None:
        """Its trainer first, so that it does what it was about to do."""
        self.woken_at = time.monotonic()
        for pid in (*below(self.worker.pid), self.worker.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def reported(self, kind: str) -> list[dict[str, Any]]:
        """What was noted of its attempt after it woke."""
        stopped = self.frozen
        assert stopped
        lines = [line for line in self._lab.reported(kind) if line["at"] > self.woken_at]
        return [line for line in lines if (line["number"], line["attempt"]) == (stopped["number"], stopped["attempt"])]


@pytest.mark.parametrize(("wake", "trainer_too"), VARIANTS)
def test_a_zombie_changes_nothing(make_lab: MakeLab, wake: str, trainer_too: bool) -> None:
    """I8, I7, I1: at each of eight points; the zombie wakes once another attempt has `claimed` its trial, or `ended` it."""
    lab = make_lab(lease_seconds=LEASE_SECONDS)
    study = lab.study(trials=len(POINTS), epochs=EPOCHS)
    zombies = [Zombie(lab, point, trainer_too) for point in POINTS]
    leaver = zombies[POINTS.index(LEAVING)]
    lab.until(
        lambda: any(f"-{leaver.worker.pid}-" in str(trial.worker) for trial in lab.trials(study)), "the one that is to leave has a trial"
    )
    leaver.worker.signal(signal.SIGTERM)
    lab.until(lambda: all(zombie.frozen and stopped(zombie.worker.pid) for zombie in zombies), "all are frozen")
    successors = [lab.work("--step", "0.1", THAW_CHAOS_SLOTS="2", THAW_CHAOS_TOY_FAULTS="tests.chaos.faults.toy_steps") for _ in range(2)]
    left = set(zombies)
    while left:
        lab.until(lambda: any(may_wake(lab, study, zombie, wake) for zombie in left), "a zombie's trial is another's")
        for zombie in [one for one in left if may_wake(lab, study, one, wake)]:
            zombie.wake()
            left.remove(zombie)
    done = {trial.number: trial for trial in lab.trials(study) if trial.state.terminal}
    kept = {number: digests(trial) for number, trial in done.items()}
    lab.until(lambda: lab.now(study).state.terminal, "the study ends")
    for zombie in zombies:
        judge(lab, study, zombie)
    for trial in lab.trials(study):
        assert digests(trial) == [one.sha256 for one in trial.checkpoints], f"a checkpoint of trial {trial.number} is another's"
        assert trial.number not in kept or (trial, digests(trial)) == (done[trial.number], kept[trial.number]), "changed after its end"
    assert leaver.worker.end() == 0
    assert all(one.runs for one in (*successors, *(zombie.worker for zombie in zombies if zombie is not leaver)))
    lab.counts["zombies woken"] = len(zombies)
    check(lab, study)
    lab.tell("F2")


def stopped(pid: int) -> bool:
    """Whether the kernel has stopped the process."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def may_wake(lab: Lab, study: Study, zombie: Zombie, wake: str) -> bool:
    """Whether another attempt has claimed its trial, or ended it, as the variant asks."""
    assert zombie.frozen
    trial = lab.trials(study)[zombie.frozen["number"]]
    if zombie.point == ENDED:
        return trial.state.terminal and sum(one.attempt > 1 for one in lab.trials(study)) >= len(POINTS) // 2
    return trial.attempt > zombie.frozen["attempt"] and (trial.state.terminal if wake == "ended" else trial.worker is not None)


def judge(lab: Lab, study: Study, zombie: Zombie) -> None:
    """Nothing that it said after it woke was taken, and its trainer stopped at once."""
    assert zombie.frozen
    trial, point = lab.trials(study)[zombie.frozen["number"]], zombie.point
    if point == ENDED:
        assert trial.attempt == zombie.frozen["attempt"], "an ended trial was started again"
        lab.counts["repeats acknowledged"] += len(zombie.reported("acknowledged"))
        return
    assert trial.attempt > zombie.frozen["attempt"]
    assert not zombie.reported("acknowledged"), f"I8: a zombie's word was taken, {point}"
    refused = zombie.reported("refused")
    late = point == LEAVING and zombie.woken_at - zombie.frozen["at"] > LEAVE_SECONDS  # then it ends without handing back
    assert refused or late or point not in HAVE_WORDS, f"the zombie had nothing to say, {point}"
    lab.counts["refused writes"] += len(refused)
    if steps := zombie.reported("step"):
        milliseconds = round(1_000 * (steps[-1]["at"] - zombie.woken_at))
        assert milliseconds <= 1_000 * LEASE_SECONDS, f"a zombie trained on for {milliseconds} ms, {point}"
        lab.measured[LONGEST] = max(lab.measured.get(LONGEST, 0), milliseconds)


def digests(trial: Trial) -> list[str | None]:
    """Of the checkpoints that its row names, as their files are now; None where there is none."""
    files = [Path(one.path) for one in trial.checkpoints]
    return [hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else None for file in files]
