"""How much of its device a run keeps at work."""

import logging
import time
from collections.abc import Callable
from statistics import fmean
from typing import Protocol

import torch

log = logging.getLogger(__name__)

SAMPLE_SECONDS = 1.0  # the driver's own figure covers a sixth of a second to a second
Clock = Callable[[], float]


class Utilization(Protocol):
    """Watches a device while a run uses it."""

    def look(self) -> None:
        """Called after each batch; cheap."""

    def share(self) -> float | None:
        """Since it was last asked, or since the run began: from 0 to 1. None where nobody can tell."""


def utilization_of(device: torch.device) -> Utilization:
    """One that suits the device: of a GPU the share of the time in which kernels ran (its driver's figure, other processes' kernels
    among them), else the share of the processor time that the run's threads could have used."""
    return OfGpu(lambda: torch.cuda.utilization(device)) if device.type == "cuda" else OfProcessor(torch.get_num_threads)


class OfProcessor:
    """Processor time of this process over wall time and threads."""

    def __init__(self, threads: Callable[[], int], used: Clock = time.process_time, clock: Clock = time.perf_counter) -> None:
        self._threads, self._used, self._clock = threads, used, clock
        self._then = used(), clock()

    def look(self) -> None:
        """The kernel counts."""

    def share(self) -> float | None:
        """Of the threads' time; at most 1, though helpers beside them may add to it."""
        (used, at), self._then = self._then, (self._used(), self._clock())
        possible = (self._then[1] - at) * self._threads()
        return min(1.0, (self._then[0] - used) / possible) if possible > 0 else None


class OfGpu:
    """The mean of what the driver says once a second. `percent` raises whatever it likes where the driver cannot be asked."""

    def __init__(self, percent: Callable[[], int], clock: Clock = time.perf_counter) -> None:
        self._percent, self._clock = percent, clock
        self._seen = list[int]()
        self._next = clock() + SAMPLE_SECONDS

    def look(self) -> None:
        """Ask when a second has passed."""
        if self._clock() >= self._next:
            self._sample()

    def share(self) -> float | None:
        """The mean; of a run that took less than a second, the figure at its end."""
        if not self._seen:
            self._sample()
        seen, self._seen = self._seen, []
        return fmean(seen) / 100 if seen else None

    def _sample(self) -> None:
        try:
            self._seen.append(self._percent())
        except Exception as error:  # nvidia-ml-py is missing or does not know the driver: not a reason to end a run
            if self._next != float("inf"):
                log.info("how busy the GPU is cannot be told: %s", error)
            self._next = float("inf")
            return
        self._next = self._clock() + SAMPLE_SECONDS
