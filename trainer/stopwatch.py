"""Measures the wall time of a run by activity."""

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import get_args

import torch

from trainer.protocol import Activity

ACTIVITIES: tuple[Activity, ...] = get_args(Activity)
STEPS_PER_SAMPLE = 16  # a GPU is measured in one training step of 16; measuring waits for it twice in each activity


class Stopwatch:
    """Wall seconds by activity. Activities nest: while an inner one runs, the outer one is paused.

    A GPU runs asynchronously, so the host's clock cannot time an activity without a synchronisation, and one in every activity would slow
    the training down. Between `begin_step` and `end_step` the stopwatch therefore synchronises in one step of 16 only. The time of the
    other steps is divided among the activities in the proportions of the measured steps.
    """

    def __init__(self, synchronise: Callable[[], object] | None = None, clock: Callable[[], float] = time.perf_counter) -> None:
        self._synchronise, self._clock = synchronise, clock
        self._spans = {activity: Span(self, activity) for activity in ACTIVITIES}
        self._seconds = dict.fromkeys(ACTIVITIES, 0.0)
        self._sampled = dict.fromkeys(ACTIVITIES, 0.0)  # seconds within measured steps
        self._unshared = 0.0  # seconds of the other steps
        self._open: list[Activity] = []
        self._since = 0.0
        self._steps, self._step_began = 0, 0.0
        self._in_step = self._blind = False

    @classmethod
    def of(cls, device: torch.device) -> "Stopwatch":
        """A stopwatch that synchronises with the device if it is a GPU."""
        return cls((lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else None)

    def __call__(self, activity: Activity) -> "Span":
        """A context manager that adds its wall time to the activity."""
        return self._spans[activity]

    @property
    def seconds(self) -> Mapping[Activity, float]:
        """Seconds so far, by activity."""
        sampled = sum(self._sampled.values())
        if not sampled:
            return dict(self._seconds)
        return {name: spent + self._unshared * self._sampled[name] / sampled for name, spent in self._seconds.items()}

    def begin_step(self) -> None:
        """Begin a training step. Must not be called inside an activity."""
        if self._synchronise is None:
            return
        self._in_step, self._step_began = True, self._clock()
        self._blind = self._steps % STEPS_PER_SAMPLE != 0
        self._steps += 1

    def end_step(self) -> None:
        """End the training step."""
        if self._blind:
            self._unshared += self._clock() - self._step_began
        self._in_step = self._blind = False

    def enter(self, activity: Activity) -> None:
        """Begin the activity; called by `Span`."""
        if not self._blind:
            self._turn()
            self._open.append(activity)

    def leave(self) -> None:
        """End the innermost activity; called by `Span`."""
        if not self._blind:
            self._turn()
            self._open.pop()

    def _turn(self) -> None:
        now = self._clock()
        if self._synchronise is not None:
            before = now
            self._synchronise()
            now = self._clock()
            if not self._open:
                self._unshared += now - before  # work that earlier, unmeasured steps queued on the GPU
        if self._open:
            self._seconds[self._open[-1]] += now - self._since
            if self._in_step:
                self._sampled[self._open[-1]] += now - self._since
        self._since = now


class Span:
    """Context manager of one activity: `with stopwatch("data"): …`. Made once for each activity."""

    __slots__ = ("_activity", "_stopwatch")

    def __init__(self, stopwatch: Stopwatch, activity: Activity) -> None:
        self._stopwatch, self._activity = stopwatch, activity

    def __enter__(self) -> None:
        self._stopwatch.enter(self._activity)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopwatch.leave()
