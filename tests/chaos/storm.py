"""A server and workers that are struck at random, and replaced."""

import os
import signal
import threading
from contextlib import suppress

from tests.chaos.lab import Lab, Process

WORKERS = 3


class Storm:
    """Each strike hits one process: a worker, a trainer or the server is killed, or a worker is frozen for longer than its lease."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.server = lab.serve()
        self.workers = [lab.work() for _ in range(WORKERS)]
        self._frozen: Process | None = None
        self._thawing = threading.Thread()
        self._blows = {self._freeze: 2, self._kill_worker: 9, self._kill_trainer: 6, self._kill_server: 3}
        self._first = list(self._blows)  # each once for certain

    def strike(self) -> None:
        """Hit someone."""
        (blow,) = [self._first.pop()] if self._first else self.lab.random.choices(list(self._blows), list(self._blows.values()))
        blow(self.lab.random.choice([one for one in self.workers if one is not self._frozen]))

    def calm_down(self) -> None:
        """Wait until nobody is frozen."""
        if self._thawing.is_alive():
            self._thawing.join()

    def end(self) -> None:
        """Kill them all."""
        for one in (self.server, *self.workers):
            one.kill()

    def _kill_worker(self, victim: Process) -> None:
        victim.kill()
        self.workers[self.workers.index(victim)] = self.lab.work()
        self.lab.counts["workers killed"] += 1

    def _kill_trainer(self, owner: Process) -> None:
        trainers = sorted(owner.family() - {owner.pid})
        if not trainers:  # none was started yet
            self._first.insert(0, self._kill_trainer)
        for pid in trainers[:1]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.lab.counts["trainers killed"] += 1

    def _kill_server(self, _: Process) -> None:
        self.server.kill()
        self.server = self.lab.start("serve")
        self.lab.counts["servers killed"] += 1

    def _freeze(self, victim: Process) -> None:
        if self._frozen is None:
            self._frozen, self._thawing = victim, threading.Timer(1.5 * self.lab.settings.lease_seconds, self._thaw)
            self._thawing.start()  # not by whoever strikes: the victim may hold SQLite's lock, and then everyone waits
            _send(victim, signal.SIGSTOP)
            self.lab.counts["workers frozen"] += 1

    def _thaw(self) -> None:
        if self._frozen is not None:
            _send(self._frozen, signal.SIGCONT)
        self._frozen = None


def _send(worker: Process, number: signal.Signals) -> None:
    for pid in worker.family():
        with suppress(ProcessLookupError):
            os.kill(pid, number)
