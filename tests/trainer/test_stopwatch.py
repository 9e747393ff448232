"""The stopwatch's seconds add up, on a device that computes at once and on one that computes behind the host's back."""

import time

import pytest
import torch

from trainer.stopwatch import ACTIVITIES, STEPS_PER_SAMPLE, DeviceQueue, Stopwatch


class Machine:
    """A clock, and a device whose queued work is done while it is waited for."""

    def __init__(self) -> None:
        self.now, self.queued, self.waits = 100.0, 0.0, 0
        self.done = 0.0  # seconds of work that the device has performed

    def clock(self) -> float:
        return self.now

    def synchronise(self) -> None:
        self.waits += 1
        self.advance(self.queued)

    def advance(self, seconds: float) -> None:
        """Let the time pass in which the device works."""
        worked = min(seconds, self.queued)
        self.now, self.done, self.queued = self.now + seconds, self.done + worked, self.queued - worked

    @property
    def queue(self) -> DeviceQueue:
        return DeviceQueue(self.synchronise, lambda: Point(self))


class Point:
    """An event of the machine: reached once the work queued before it is done. Its time is the amount of that work."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.behind = machine, 0.0

    def record(self) -> None:
        self.behind = self.machine.done + self.machine.queued

    def query(self) -> bool:
        return self.machine.done >= self.behind - 1e-9

    def synchronize(self) -> None:
        if not self.query():
            self.machine.waits += 1
            self.machine.advance(self.behind - self.machine.done)

    def elapsed_time(self, end: "Point") -> float:
        assert self.query() and end.query(), "only points that the device has reached have a time"
        return (end.behind - self.behind) * 1000


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
    stopwatch = Stopwatch(machine.queue, machine.clock)
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


def test_a_step_waits_for_nothing_and_its_events_are_read_when_they_are_reached() -> None:
    machine = Machine()
    stopwatch = Stopwatch(machine.queue, machine.clock)
    for step in range(3 * STEPS_PER_SAMPLE):
        stopwatch.begin_step()
        with stopwatch("data"):
            machine.queued += 0.5
        with stopwatch("forward"):
            machine.queued += 1.0
            with stopwatch("backward"):
                machine.queued += 2.0
            machine.queued += 0.5
        stopwatch.end_step()
        machine.advance(2.0)  # the device falls behind
        assert machine.waits == 0
        assert len(stopwatch._unread) <= step // STEPS_PER_SAMPLE + 1
    assert len(stopwatch._unread) == 2, "the first of three measured steps was over when the second and the third ended"
    found = stopwatch.seconds
    assert not stopwatch._unread
    assert found["data"] == pytest.approx(found["forward"] / 3) and found["backward"] == pytest.approx(4 * found["data"])


def test_a_step_that_breaks_is_ended_once() -> None:
    machine = Machine()
    stopwatch = Stopwatch(machine.queue, machine.clock)
    stopwatch.begin_step()
    with pytest.raises(ValueError, match="broken"), stopwatch("forward"):
        machine.queued += 3
        machine.now += 1
        raise ValueError("broken")
    stopwatch.end_step()
    machine.now += 5
    stopwatch.end_step()
    assert stopwatch.seconds["forward"] == 1.0


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
