"""Virtual time, and processes whose threads take turns: one thing happens at a time, in an order that follows from the seed alone."""

import heapq
import random
from collections.abc import Callable
from contextlib import suppress
from itertools import count

from greenlet import getcurrent, greenlet


class Killed(BaseException):
    """The thread's process has ended. Nothing of it runs on."""


class Process:
    """What ends, freezes and keeps its own time as one. Its clock is monotonic, and may be fast or slow."""

    def __init__(self, world: "World", name: str, rate: float = 1.0) -> None:
        self.world, self.name, self.rate = world, name, rate
        self.born_at = world.now
        self.frozen_until = 0.0
        self.dead = False

    def clock(self) -> float:
        """Monotonic seconds of this process."""
        return 1_000.0 + self.world.now * self.rate

    @property
    def frozen(self) -> bool:
        """Whether it cannot know what time it is: it stands still, or has woken this moment."""
        return self.world.now <= self.frozen_until


class Thread(greenlet):  # type: ignore[misc]  # greenlet has no types
    """One of a process's threads."""

    def __init__(self, process: Process, live: Callable[[], None], world: "World") -> None:
        super().__init__(live, parent=world.hub)
        self.process = process


class World:
    """Who lives in it sleeps most of the time. Between two sleeps nobody else does anything."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.hub = getcurrent()
        self._order = count()
        self._sleepers: list[tuple[float, int, Thread]] = []

    @property
    def process(self) -> Process:
        """Whose thread is at work."""
        thread = getcurrent()
        assert isinstance(thread, Thread)
        return thread.process

    def spawn(self, process: Process, live: Callable[[], None]) -> None:
        """Start a thread."""
        self._put(self.now, Thread(process, live, self))

    def sleep(self, seconds: float) -> None:
        """The running thread waits for so many seconds of its process's clock."""
        thread = getcurrent()
        assert isinstance(thread, Thread)
        self._put(self.now + seconds / thread.process.rate, thread)
        self.hub.switch()

    def run(self, over: Callable[[], bool], deadline: float) -> None:
        """Until it is over, or the deadline has passed."""
        while self._sleepers and self.now <= deadline and not over():
            at, _, thread = heapq.heappop(self._sleepers)
            self.now = max(self.now, at)
            if thread.process.dead:
                self._end(thread)
            elif thread.process.frozen_until > self.now:
                self._put(thread.process.frozen_until, thread)
            else:
                thread.switch()

    def close(self) -> None:
        """End all threads."""
        for _, _, thread in self._sleepers:
            self._end(thread)
        self._sleepers.clear()

    def chance(self, share: float) -> bool:
        """True in such a share of all cases."""
        return self.random.random() < share

    def _put(self, at: float, thread: Thread) -> None:
        heapq.heappush(self._sleepers, (at, next(self._order), thread))

    @staticmethod
    def _end(thread: Thread) -> None:
        if thread:  # a thread that never ran has nothing to unwind
            with suppress(Killed):
                thread.throw(Killed)
