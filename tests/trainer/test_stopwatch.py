"""The stopwatch's seconds add up, on a device that computes at once and on one that computes behind the host's back."""

import time

import pytest
import torch

from trainer.stopwatch import ACTIVITIES, STEPS_PER_SAMPLE, Stopwatch


class Machine:
    """A clock, and a device whose work is done when it is waited for."""

    def __init__(self) -> None:
        self.now, self.queued = 100.0, 0.0

    def clock(self) -> float:
        return self.now

    def synchronise(self) -> None:
        self.now, self.queued = self.now + self.queued, 0.0


def test_an_activity_within_another_is_taken_out_of_it() -> None:
    machine = Machine()
    stopwatch = Stopwatch(clock=machine.clock)
    with stopwatch("measure"):
        machine.now += 1
        with stopwatch("features"):
            machine.now += 2
        machine.now += 4
    machine.now += 8  # nobody's
    assert stopwatch.seconds == dict.fromkeys(ACTIVITIES, 0.0) | {"measure": 5.0, "features": 2.0}


def test_an_activity_that_breaks_is_over() -> None:
    machine = Machine()
    stopwatch = Stopwatch(clock=machine.clock)
    with pytest.raises(ValueError, match="broken"), stopwatch("data"):
        machine.now += 1
        raise ValueError("broken")
    machine.now += 1
    with stopwatch("forward"):
        machine.now += 1
    assert (stopwatch.seconds["data"], stopwatch.seconds["forward"]) == (1.0, 1.0)


def test_on_a_device_that_lags_behind_the_steps_that_are_waited_for_tell_of_the_others() -> None:
    machine = Machine()
    stopwatch = Stopwatch(machine.synchronise, machine.clock)
    steps = 4 * STEPS_PER_SAMPLE
    for _ in range(steps):
        stopwatch.begin_step()
        for activity, seconds in (("forward", 1.0), ("backward", 3.0)):
            with stopwatch(activity):  # type: ignore[arg-type]
                machine.queued += seconds
        stopwatch.end_step()
    with stopwatch("measure"):
        machine.queued += 5
    found = stopwatch.seconds
    assert found["measure"] == 5.0, "what is left in the queue is waited for before it"
    assert found["backward"] == pytest.approx(3 * found["forward"])
    assert sum(found.values()) == pytest.approx(machine.now - 100)
    assert found["forward"] == pytest.approx(steps)


def test_a_cpu_is_not_waited_for_and_every_step_counts() -> None:
    machine = Machine()
    stopwatch = Stopwatch.of(torch.device("cpu"))
    stopwatch._clock = machine.clock
    for _ in range(10):
        stopwatch.begin_step()
        with stopwatch("forward"):
            machine.now += 1
        stopwatch.end_step()
    assert stopwatch.seconds["forward"] == 10.0


def test_an_activity_costs_next_to_nothing() -> None:
    stopwatch = Stopwatch()
    best = min(_seconds_of(stopwatch, 1_000) for _ in range(20))
    assert best / 1_000 < 10e-6, "a training step of small heads takes a millisecond"


def _seconds_of(stopwatch: Stopwatch, count: int) -> float:
    started = time.perf_counter()
    for _ in range(count):
        with stopwatch("data"):
            pass
    return time.perf_counter() - started
