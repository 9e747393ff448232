"""F1: a random process is killed every 0.3 s until all trials are done."""

import os
import signal
import time
from contextlib import suppress

from tests.chaos.checker import check
from tests.chaos.lab import LONG, Lab

TRIALS = 60 if LONG else 20
PAUSE_SECONDS = 0.3
LIMIT_SECONDS = 600 if LONG else 120


def test_kills_lose_and_double_nothing(lab: Lab) -> None:
    """I1, I7, I8, I10, I15, I16, I24: workers, their trainers and the server die by `kill -9` and are started again."""
    study = lab.study(trials=TRIALS)
    server, workers = lab.serve(), [lab.work() for _ in range(3)]
    deadline = time.monotonic() + LIMIT_SECONDS
    while not lab.now(study).state.terminal:
        assert time.monotonic() < deadline, lab.last_words()
        time.sleep(PAUSE_SECONDS)
        victim = lab.random.choice([*workers, *workers, *workers, server])
        if victim is server and server.runs:
            server.kill()
            server = lab.start("serve")
            lab.counts["servers killed"] += 1
            continue
        if (family := victim.family() - {victim.pid}) and lab.random.random() < 0.3:
            with suppress(ProcessLookupError):
                os.kill(lab.random.choice(sorted(family)), signal.SIGKILL)
            lab.counts["trainers killed"] += 1
        else:
            victim.kill()
            workers[workers.index(victim)] = lab.work()
            lab.counts["workers killed"] += 1
    lab.counts["attempts"] = sum(trial.attempt for trial in lab.trials(study))
    check(lab, study)
    lab.tell("F1")
