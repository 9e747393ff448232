"""Where the time of a run goes."""

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import get_args

import torch

from trainer.protocol import Activity

ACTIVITIES: tuple[Activity, ...] = get_args(Activity)
STEPS_PER_SAMPLE = 16  # on a GPU; each sample waits for the device twice an activity


class Stopwatch:
    """Wall seconds by activity. Inside an activity another may begin: the outer one stands still for so long.

    A GPU works behind the host's back, so there a host's clock tells nothing of a single activity. Between `begin_step` and `end_step`
    it is therefore waited for in one step of 16 only, and the time of the others is shared out as those have it.
    """

    def __init__(self, synchronise: Callable[[], object] | None = None, clock: Callable[[], float] = time.perf_counter) -> None:
        self._synchronise, self._clock = synchronise, clock
        self._spans = {activity: Span(self, activity) for activity in ACTIVITIES}
        self._seconds = dict.fromkeys(ACTIVITIES, 0.0)
        self._sampled = dict.fromkeys(ACTIVITIES, 0.0)  # within the steps that were waited for
        self._unshared = 0.0  # of the steps that were not
        self._open: list[Activity] = []
        self._since = 0.0
        self._steps, self._step_began = 0, 0.0
        self._in_step = self._blind = False

    @classmethod
    def of(cls, device: torch.device) -> "Stopwatch":
        """One that suits the device."""
        return cls((lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else None)

    def __call__(self, activity: Activity) -> "Span":
        """A context whose wall time goes to that activity."""
        return self._spans[activity]

    @property
    def seconds(self) -> Mapping[Activity, float]:
        """Spent so far, by activity."""
        sampled = sum(self._sampled.values())
        if not sampled:
            return dict(self._seconds)
        return {name: spent + self._unshared * self._sampled[name] / sampled for name, spent in self._seconds.items()}

    def begin_step(self) -> None:
        """A training step begins. Not inside an activity."""
        if self._synchronise is None:
            return
        self._in_step, self._step_began = True, self._clock()
        self._blind = self._steps % STEPS_PER_SAMPLE != 0
        self._steps += 1

    def end_step(self) -> None:
        """The training step is done."""
        if self._blind:
            self._unshared += self._clock() - self._step_began
        self._in_step = self._blind = False

    def enter(self, activity: Activity) -> None:
        """Begin the activity; `Span` does it."""
        if not self._blind:
            self._turn()
            self._open.append(activity)

    def leave(self) -> None:
        """End the activity that was begun last; `Span` does it."""
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
                self._unshared += now - before  # what earlier steps left to do is theirs
        if self._open:
            self._seconds[self._open[-1]] += now - self._since
            if self._in_step:
                self._sampled[self._open[-1]] += now - self._since
        self._since = now


class Span:
    """`with stopwatch("data"): …`; one for each activity, made once."""

    __slots__ = ("_activity", "_stopwatch")

    def __init__(self, stopwatch: Stopwatch, activity: Activity) -> None:
        self._stopwatch, self._activity = stopwatch, activity

    def __enter__(self) -> None:
        self._stopwatch.enter(self._activity)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopwatch.leave()
