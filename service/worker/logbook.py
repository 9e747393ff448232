"""What goes into the logs of the trials on one trainer, and when."""

import time
from collections.abc import Sequence

from service.worker.lane import Lane
from service.worker.process import TrainerProcess

SHARED_CHARACTERS = 4_096  # of what a pass printed, for each of the trials that shared it


class Logbook:
    """A trial alone has all that its trainer prints. Of several that share one, each has the last of it when the trial ends.

    The worker's own word on a trial's end comes last.
    """

    def __init__(self, process: TrainerProcess, lanes: Sequence[Lane]) -> None:
        self._process, self._lanes = process, lanes
        self._closed = set[int]()
        self._last = ""  # of a shared pass

    def gather(self) -> None:
        """Give the trials what was printed since the last time, and to those that have ended their last lines."""
        if len(self._lanes) > 1:
            self._last = _end_of(self._last + self._process.printed())
        elif (alone := self._lanes[0]).takes_log:
            alone.logged(self._process.printed(all_of_it=not alone.open))
        for lane in self._lanes:
            if lane.outcome is not None and lane.index not in self._closed:
                self._closed.add(lane.index)
                lane.logged(self._shared() + (_line(lane.why) if lane.why else ""))

    def _shared(self) -> str:
        if len(self._lanes) == 1:
            return ""
        return _line(f"{len(self._lanes)} trials shared this pass over the data; the end of what it printed:") + self._last


def _line(words: str) -> str:
    """A line of the worker's own, as the trainer's look."""
    return f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} INFO worker: {words}\n"


def _end_of(printed: str) -> str:
    """The last lines of it."""
    if len(printed) <= SHARED_CHARACTERS:
        return printed
    return printed[-SHARED_CHARACTERS:].partition("\n")[2]
