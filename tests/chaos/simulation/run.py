"""One seed: a study, workers, reapers, people and faults, until the study has ended and nothing is broken."""

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from sqlalchemy import event

from service import operations
from service.domain.records import Lease
from service.reaper import Reaper
from service.settings import Settings
from service.store import Store, open_store
from service.worker import context, store_client, trial_run
from tests.chaos.simulation.oracle import RATES, Oracle
from tests.chaos.simulation.people import People
from tests.chaos.simulation.transport import Remote, Weather
from tests.chaos.simulation.worker import IDLE_SECONDS, Never, Spool, Trainer, Worker
from tests.chaos.simulation.world import Process, World
from tests.operations.driving import ready
from trainer.tasks.images import catalogue

LONGEST = 80.0
LAST_WORDS_SECONDS = 20.0
HEADS_ALONE: dict[str, Any] = {
    "model": {"name": "resnet18", "weights": "DEFAULT"},
    "fixed": {"frozen_layers": len(catalogue.load("resnet18").stages)},
}
LANE_BYTES = 3 * 16 * (512 + 1) * 2  # of three heads


def open_quickly(file: Path) -> Store:
    """A store on SQLite that survives nothing."""
    store = open_store(f"sqlite:///{file}")

    def prepare(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA journal_mode = MEMORY")

    event.listen(store.engine, "connect", prepare)
    return store


class Simulation:
    """All that the seed decides."""

    def __init__(self, local: Store, seed: int) -> None:
        self.local, self.seed = local, seed
        self.world = World(seed)
        self.weather = Weather()
        self.counts = Counter[str]()
        self.settings = Settings(lease_seconds=30, heartbeat_seconds=5)
        self.acknowledged: list[dict[str, Any]] = []
        self.trainers: list[Trainer] = []
        self.workers: list[Worker] = []
        self.spools: dict[str, Spool] = {}
        self.never = Never(self.world)
        chance = self.world.random
        self.fault_seconds = chance.uniform(60, 200)
        self.epochs, self.interval = chance.randint(2, 4), chance.randint(1, 2)
        self.step_seconds = chance.choice((3.0, 8.0, 20.0))
        self.lane_bytes = chance.choice((0, 0, LANE_BYTES))
        fates = (None, None, "crashes", "pruned", "out_of_memory")
        self.fates = {number: chance.choice(fates) for number in range(8) if chance.random() < 0.3}
        self.workers_reap = chance.random() < 0.5
        self.crash_share = chance.choice((0.0, 0.02, 0.1))
        trials, attempts = chance.randint(2, 5), chance.choice((2, 3, 5))
        budget = {"trials": trials, "parallel": chance.choice((None, 1, 2))}
        space = {"lr": {"type": "float", "low": 0.25, "high": 1.0}}
        wanted = {"sampler": {"name": "random", "seed": seed % 1_000}, "search_space": space, "budget": budget}
        wanted |= {"limits": {"attempts": attempts, "failures": None}, **self._confirmation()}
        self.study = ready(local, name=f"seed-{seed}", **(HEADS_ALONE if self.lane_bytes else {}), **wanted)
        repeats = 0 if self.study.spec.confirm is None else (self.study.spec.confirm.top + 1) * self.study.spec.confirm.seeds
        longest = (trials + repeats) * attempts * (self.epochs * 1.5 * self.step_seconds + IDLE_SECONDS)
        self.calm_seconds = 10 * self.settings.lease_seconds + longest
        self.oracle = Oracle(self, str(local.engine.url.database))

    def _confirmation(self) -> dict[str, Any]:
        """A third of the studies confirm their best. Drawn apart, so that the others go as they went without."""
        chance = random.Random(f"confirm {self.seed}")
        if chance.random() < 2 / 3:
            return {}
        confirm = {"top": chance.randint(1, 2), "seeds": chance.randint(2, 5)}
        return {"confirm": confirm, "baseline": {"lr": 0.5}, "data": {"path": "data/pets", "test": 0.2}}

    def store(self) -> Remote:
        """For one process."""
        return Remote(self.local.engine, self.world, self.weather, self.oracle.look)

    def fate_of(self, lease: Lease) -> str | None:
        """What a step of the trial comes to, if it is not just a step."""
        return "crashes" if self.world.chance(self.crash_share) else self.fates.get(lease.number)

    def run(self) -> None:
        """Raises AssertionError that names what is broken."""
        self._serve()
        for host in range(self.world.random.randint(1, 3)):
            self._employ(f"host-{host}")
        self.people = People(self)
        self.world.spawn(Process(self.world, "nature"), self._nature)
        latest = self.fault_seconds + LONGEST + self.calm_seconds
        self.world.run(over=self._is_over, deadline=latest)
        self.oracle.judge()

    def _is_over(self) -> bool:
        """Soon after the study's end: zombies of its last trials have come and gone."""
        return self.oracle.ended_at is not None and self.world.now > self.oracle.ended_at + LAST_WORDS_SECONDS

    def _rate(self) -> float:
        return self.world.random.uniform(1 - RATES, 1 + RATES)

    def _employ(self, host: str) -> None:
        self.workers.append(Worker(self, host, self._rate()))

    def _serve(self) -> None:
        """A server, as far as its sweeper goes."""
        self.server = Process(self.world, "server", self._rate())
        reaper = Reaper(self.store(), self.settings.lease_seconds, clock=self.server.clock)

        def sweep() -> None:
            while True:
                reaper.sweep()
                self.world.sleep(self.settings.look_seconds)

        self.world.spawn(self.server, sweep)

    # faults

    def _nature(self) -> None:
        chance = self.world.random
        self.weather.long_delay, self.weather.lost_requests, self.weather.lost_answers = (chance.choice((0.0, 0.02, 0.1)) for _ in range(3))
        pause = chance.choice((4, 10, 30))
        faults = (self._kill, self._kill, self._freeze, self._freeze, self._cut, self._cut, self._restart_server, self._outage)
        while self.world.now < self.fault_seconds:
            self.world.sleep(chance.expovariate(1 / pause))
            chance.choice(faults)()
        self.weather.clears()

    def _victim(self) -> Worker:
        """Mostly one that has something to lose."""
        alive = [worker for worker in self.workers if not worker.process.dead]
        busy = [worker for worker in alive if worker.leases.held()]
        return self.world.random.choice(busy if busy and self.world.chance(0.8) else alive)

    def _kill(self) -> None:
        victim = self._victim()
        victim.process.dead = True
        self.counts["workers killed"] += 1
        self.world.sleep(self.world.random.uniform(0, 20))
        self._employ(victim.host)

    def _freeze(self) -> None:
        process = self.server if self.world.chance(0.2) else self._victim().process
        process.frozen_until = max(process.frozen_until, self.world.now + self._while())
        self.counts["processes frozen"] += 1

    def _cut(self) -> None:
        self.weather.cut_until[self._victim().process] = self.world.now + self._while()
        self.counts["workers cut off"] += 1

    def _while(self) -> float:
        """Seconds that a lease survives, or does not."""
        return self.world.random.choice((self.world.random.uniform(1, 25), self.world.random.uniform(25, LONGEST)))

    def _outage(self) -> None:
        self.weather.outage_until = self.world.now + self.world.random.uniform(1, 60)
        self.counts["outages"] += 1

    def _restart_server(self) -> None:
        self.server.dead = True
        self._serve()
        self.counts["servers restarted"] += 1

    def trace(self) -> list[Any]:
        """All that a run of the same seed must give again."""
        return [*self.oracle.changes, self.world.now, sorted(self.counts.items())]

    def close(self) -> None:
        """Leave nothing of it."""
        self.world.close()
        self.oracle.close()
        operations.delete_study(self.local, self.study.id)


@contextmanager
def virtual_time(world: World) -> Iterator[None]:
    """What the worker's modules take for the time is that of the process whose thread is at work."""
    clock = SimpleNamespace(monotonic=lambda: world.process.clock())
    with patch.object(context, "time", clock), patch.object(store_client, "time", clock), patch.object(trial_run, "time", clock):
        yield


def simulate(local: Store, seed: int) -> Simulation:
    """Run one seed; all that happened in it. Raises AssertionError that names the seed and what is broken."""
    random.seed(seed)  # of the backoffs' jitter
    simulation = Simulation(local, seed)
    try:
        with virtual_time(simulation.world):
            simulation.run()
    except Exception as error:
        raise AssertionError(f"seed {seed} (THAW_CHAOS_SEED={seed} runs it alone): {error}") from error
    finally:
        simulation.close()
    return simulation
