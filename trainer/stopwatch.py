"""Measures the wall time of a run by activity."""

import time
from collections import deque
from collections.abc import Callable, Mapping
from itertools import pairwise
from types import TracebackType
from typing import Any, NamedTuple, Protocol, get_args

import torch

from trainer.protocol import Activity

ACTIVITIES: tuple[Activity, ...] = get_args(Activity)
STEPS_PER_SAMPLE = 16  # the activities of a GPU are measured in one training step of 16, by some ten events in its queue


class QueueEvent(Protocol):
    """A point in a device's queue with its time; as torch.cuda.Event(enable_timing=True)."""

    def record(self) -> None:
        """Set the point behind the work that is queued. Does not wait."""

    def query(self) -> bool:
        """Whether the device has reached the point. Does not wait."""

    def synchronize(self) -> None:
        """Wait until the device has reached the point."""

    def elapsed_time(self, end: Any, /) -> float:
        """Milliseconds between two points that the device has reached."""


class DeviceQueue(NamedTuple):
    """The queue of a device that computes behind the host."""

    synchronize: Callable[[], object]  # waits until it is empty
    event: Callable[[], QueueEvent]


def queue_of(device: torch.device) -> DeviceQueue | None:
    """The queue of a GPU; None for other devices."""
    if device.type != "cuda":
        return None
    return DeviceQueue(lambda: torch.cuda.synchronize(device), lambda: torch.cuda.Event(enable_timing=True))  # type: ignore[no-untyped-call]


class Stopwatch:
    """Wall seconds by activity. Activities nest: while an inner one runs, the outer one is paused.

    A GPU runs asynchronously, so the host's clock cannot time an activity without a synchronisation, and one in every activity would slow
    the training down. Between `begin_step` and `end_step` the stopwatch therefore waits for nothing: it takes the host's time of the whole
    step, and records events at the activities' ends in one step of 16. The time of all steps is divided among the activities in the
    proportions between these events, which are read when the GPU has passed them.
    """

    def __init__(self, queue: DeviceQueue | None = None, clock: Callable[[], float] = time.perf_counter) -> None:
        self._queue, self._clock = queue, clock
        self._spans = {activity: Span(self, activity) for activity in ACTIVITIES}
        self._seconds = dict.fromkeys(ACTIVITIES, 0.0)
        self._sampled = dict.fromkeys(ACTIVITIES, 0.0)  # seconds of the device within measured steps
        self._unshared = 0.0  # seconds of the host in all steps
        self._open: list[Activity] = []
        self._since = 0.0
        self._steps, self._step_began = 0, 0.0
        self._in_step = self._is_measured = False
        self._marks = list[_Mark]()  # of the current step
        self._unread = deque[list[_Mark]]()  # of earlier steps

    @classmethod
    def of(cls, device: torch.device) -> "Stopwatch":
        """A stopwatch for work on the device."""
        return cls(queue_of(device))

    def __call__(self, activity: Activity) -> "Span":
        """A context manager that adds its wall time to the activity."""
        return self._spans[activity]

    @property
    def seconds(self) -> Mapping[Activity, float]:
        """Seconds so far, by activity. Waits for the measured steps."""
        self._read_marks(wait=True)
        sampled = sum(self._sampled.values())
        if not sampled:
            return dict(self._seconds)
        return {name: spent + self._unshared * self._sampled[name] / sampled for name, spent in self._seconds.items()}

    def begin_step(self) -> None:
        """Begin a training step. Must not be called inside an activity."""
        if self._queue is None:
            return
        self._in_step, self._step_began = True, self._clock()
        self._is_measured = self._steps % STEPS_PER_SAMPLE == 0
        self._steps += 1

    def end_step(self) -> None:
        """End the training step, if one has begun."""
        if not self._in_step:
            return
        self._unshared += self._clock() - self._step_began
        self._in_step = self._is_measured = False
        if self._marks:
            self._read_marks(wait=False)
            self._unread.append(self._marks)
            self._marks = []

    def enter(self, activity: Activity) -> None:
        """Begin the activity; called by `Span`."""
        if not self._in_step:
            self._turn()
        self._open.append(activity)
        if self._is_measured:
            self._mark()

    def leave(self) -> None:
        """End the innermost activity; called by `Span`."""
        if not self._in_step:
            self._turn()
        self._open.pop()
        if self._is_measured:
            self._mark()

    def _turn(self) -> None:
        now = self._clock()
        if self._queue is not None:
            before = now
            self._queue.synchronize()
            now = self._clock()
            if not self._open:
                self._unshared += now - before  # work that the steps queued on the GPU
        if self._open:
            self._seconds[self._open[-1]] += now - self._since
        self._since = now

    def _mark(self) -> None:
        assert self._queue is not None  # noqa: S101  (only steps with a queue are measured)
        event = self._queue.event()
        event.record()
        self._marks.append(_Mark(event, self._open[-1] if self._open else None))

    def _read_marks(self, *, wait: bool) -> None:
        """Add the times between the events of earlier steps that the device has passed; with `wait` of all of them."""
        while self._unread and (wait or self._unread[0][-1].event.query()):
            marks = self._unread.popleft()
            marks[-1].event.synchronize()
            for mark, following in pairwise(marks):
                if mark.activity is not None:
                    self._sampled[mark.activity] += mark.event.elapsed_time(following.event) / 1000


class _Mark(NamedTuple):
    event: QueueEvent
    activity: Activity | None  # that follows


class Span:
    """Context manager of one activity: `with stopwatch("data"): …`. Made once for each activity."""

    __slots__ = ("_activity", "_stopwatch")

    def __init__(self, stopwatch: Stopwatch, activity: Activity) -> None:
        self._stopwatch, self._activity = stopwatch, activity

    def __enter__(self) -> None:
        self._stopwatch.enter(self._activity)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopwatch.leave()
