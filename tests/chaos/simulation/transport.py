"""The database as a process of the simulation reaches it: late, sometimes not at all, and sometimes without its answer."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy import Engine

from service.domain.errors import StoreUnavailable
from service.store import Store, Transaction
from tests.chaos.simulation.world import Process, World


@dataclass
class Weather:
    """What the transport does to whom, until when (seconds of the world)."""

    delay: float = 0.02  # mean
    long_delay: float = 0.0  # share of those that take up to 8 s
    lost_requests: float = 0.0  # shares
    lost_answers: float = 0.0
    outage_until: float = 0.0  # for all
    cut_until: dict[Process, float] = field(default_factory=dict)

    def clears(self) -> None:
        """From now on everything arrives."""
        self.long_delay = self.lost_requests = self.lost_answers = self.outage_until = 0.0
        self.cut_until.clear()


class Remote(Store):
    """The store of one process. Each transaction happens at one moment; before and after it the world goes on."""

    def __init__(self, engine: Engine, world: World, weather: Weather, committed: Callable[[], None]) -> None:
        super().__init__(engine)
        self._world, self._weather, self._committed = world, weather, committed

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        self._go()
        with super().reading() as tx:
            yield tx
        self._come_back()

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        self._go()
        with super().writing() as tx:
            yield tx
        self._committed()
        self._come_back()

    def _go(self) -> None:
        self._pass_time()
        if self._unreachable() or self._world.chance(self._weather.lost_requests):
            self._time_out()

    def _come_back(self) -> None:
        self._pass_time()
        if self._unreachable() or self._world.chance(self._weather.lost_answers):
            self._time_out()

    def _unreachable(self) -> bool:
        return max(self._weather.outage_until, self._weather.cut_until.get(self._world.process, 0.0)) > self._world.now

    def _pass_time(self) -> None:
        chance, long = self._world.random, self._world.chance(self._weather.long_delay)
        self._world.sleep(chance.uniform(0.5, 8.0) if long else chance.expovariate(1 / self._weather.delay))

    def _time_out(self) -> None:
        """A connection that is refused says so at once; one that is cut is given up after a while."""
        self._world.sleep(self._world.random.choice((0.1, 1.0, 5.0, 15.0)))
        raise StoreUnavailable("lost on the way")
