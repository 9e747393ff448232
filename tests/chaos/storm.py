"""A server and workers that are struck at random, and replaced."""

import os
import signal
import threading
import time
from contextlib import suppress

from service.domain.errors import StoreUnavailable
from service.domain.records import Lease
from service.store import queries
from tests.chaos.lab import Lab, Process

WORKERS = 3


class Storm:
    """Each strike hits one process: a worker, a trainer or the server is killed, or a worker is frozen until it has lost its trial."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.server = lab.serve()
        self.workers = [lab.work() for _ in range(WORKERS)]
        self._frozen: Process | None = None
        self._thawing = threading.Timer(0, self._thaw)
        self._blows = {self._freeze: 6, self._kill_worker: 9, self._kill_trainer: 6, self._kill_server: 3}
        self._first = list(self._blows)  # each once for certain

    def strike(self) -> None:
        """Hit someone."""
        (blow,) = [self._first.pop()] if self._first else self.lab.random.choices(list(self._blows), list(self._blows.values()))
        blow(self.lab.random.choice([one for one in self.workers if one is not self._frozen]))

    def calm_down(self) -> None:
        """Wait until nobody is frozen."""
        self.lab.until(lambda: self._frozen is None, "the frozen worker goes on")

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

    def _freeze(self, _: Process) -> None:
        """A worker at work, with its trainer or without. It goes on when another attempt at its trial has begun."""
        leases = {str(lease.worker): lease for lease, _ in self.lab.store.read(queries.running_leases)}
        held = [(one, lease) for worker, lease in leases.items() for one in self.workers if f"-{one.pid}-" in worker]
        if self._frozen is None and held:
            self._frozen, lease = self.lab.random.choice(held)
            _send(self._frozen, signal.SIGSTOP, self.lab.random.random() < 0.5)
            self.lab.counts["workers frozen"] += 1
            # Not by whoever strikes: the victim may hold SQLite's lock, and then everyone waits.
            self._thawing = threading.Timer(3 * self.lab.settings.lease_seconds, self._thaw)
            self._thawing.start()
            threading.Thread(target=self._thaw_after, args=(lease, self._frozen), daemon=True).start()
        elif not self.lab.counts["workers frozen"]:
            self._first.insert(0, self._freeze)

    def _thaw_after(self, lease: Lease, frozen: Process) -> None:
        with suppress(StoreUnavailable):
            while self._frozen is frozen:
                if self.lab.store.read(queries.find_trial, lease.study, lease.number).attempt > lease.attempt:
                    self.lab.counts["woken beside a successor"] += 1
                    self._thaw()
                time.sleep(0.02)

    def _thaw(self) -> None:
        self._thawing.cancel()
        if (frozen := self._frozen) is not None:
            _send(frozen, signal.SIGCONT)
        self._frozen = None


def _send(worker: Process, number: signal.Signals, trainer_too: bool = True) -> None:
    for pid in worker.family() if trainer_too else {worker.pid}:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
