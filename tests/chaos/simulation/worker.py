"""A worker as its protocol has it: it claims, trains, reports, saves and ends, renews its leases, and stops when it cannot trust them.

Leases, control plane and reaper are the real ones. The trainer is a thought: a step takes its time, and may be the last.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from service.domain.errors import StoreUnavailable
from service.domain.records import Claim, Lease, MetricReport
from service.operations import Pruned, Released, Write
from service.reaper import Reaper
from service.worker.context import HeldLease, Leases, StopReason
from service.worker.store_client import StoreClient
from service.worker.trial_run import WriteBuffer
from tests.chaos.launch import facts_of
from tests.chaos.simulation.world import Process, World
from tests.operations.driving import checkpoint, finished, scored
from trainer.protocol import Failed, Finished

if TYPE_CHECKING:
    from tests.chaos.simulation.run import Simulation

WATCH_SECONDS, IDLE_SECONDS, RETRY_SECONDS = 0.5, 6.0, 1.0


class Spool:
    """The disk of a machine: it outlives the worker."""

    def __init__(self) -> None:
        self._writes: dict[tuple[int, int], Write] = {}

    def keep(self, write: Write) -> bool:
        self._writes.setdefault((write.lease.trial, write.lease.attempt), write)
        return True

    def forget(self, lease: Lease) -> None:
        self._writes.pop((lease.trial, lease.attempt), None)

    def set_aside(self, write: Write, why: str) -> None:
        raise AssertionError(f"a result is set aside: {why}")

    def count_set_aside(self) -> int:
        return 0

    def kept(self, *, again: bool = False) -> Iterator[Write]:
        return iter(list(self._writes.values()))


class Never:
    """A worker that leaves only by being killed."""

    def __init__(self, world: World) -> None:
        self._world = world

    def wait(self, seconds: float) -> bool:
        self._world.sleep(seconds)
        return False


class AccountedControl(StoreClient):
    """Notes what was acknowledged, and counts what was refused."""

    simulation: "Simulation"

    def record(self, writes: Sequence[Write]) -> list[Lease]:
        lost = super().record(writes)
        self.simulation.counts["writes refused"] += len(lost)
        self.simulation.acknowledged += [facts_of(write) for write in writes if write.lease not in lost]
        return lost


class Trainer:
    """A process that trains for some leases, until it is done or killed."""

    def __init__(self, owner: Process, leases: Sequence[Lease]) -> None:
        self.owner, self.leases = owner, leases
        self.ready = self.killed = False

    @property
    def at_work(self) -> bool:
        return not (self.ready or self.killed or self.owner.dead)

    def kill(self, wait_seconds: float = 0) -> None:
        self.killed = True


class Lane:
    """One attempt."""

    def __init__(self, claim: Claim, holding: HeldLease) -> None:
        self.claim, self.holding = claim, holding
        self.step = claim.checkpoints[0].step if claim.checkpoints else 0
        self.unwritten = WriteBuffer()
        self.over = False  # nothing of it is to be written any more

    @property
    def trains(self) -> bool:
        return not self.over and self.unwritten.outcome is None and self.holding.halt is not StopReason.LOST

    def outcome(self, value: float) -> Finished:
        """In the confirmation, with a score that follows from configuration and round."""
        if self.claim.round is None:
            return finished(value, self.step)
        lr = self.claim.params["lr"]
        assert isinstance(lr, float)
        self.unwritten.result["trainable"] = 1_000
        return scored(value, 0.4 + 0.4 * lr + 0.01 * (self.claim.round * 7 % 5), self.step)

    def measure(self, fate: str | None, epochs: int, interval: int) -> None:
        """One step more, as fate has it for this trial."""
        self.step += 1
        number, value = self.claim.lease.number, self.step / (2 + self.claim.lease.number)
        self.unwritten.measured(MetricReport(self.step, {"accuracy": value}))
        if self.step >= epochs:
            self.unwritten.ended(self.outcome(value))
        elif fate == "pruned" and self.step == 2 and self.claim.round is None:
            self.unwritten.ended(Pruned("why"))
        elif fate == "out_of_memory" and self.step == 2:
            self.unwritten.ended(Failed(reason="out_of_memory", detail=f"trial {number}"))
        elif self.step % interval == 0:
            self.unwritten.saved(checkpoint(self.step))


class Worker:
    """A process with one slot."""

    def __init__(self, simulation: "Simulation", host: str, rate: float) -> None:
        self.simulation, self.world, self.host = simulation, simulation.world, host
        self.process = Process(self.world, f"{host}-{len(simulation.workers)}", rate)
        store = simulation.store()
        spool = simulation.spools.setdefault(host, Spool())
        self.control = AccountedControl(store, self.process.name, spool, simulation.lane_bytes)  # type: ignore[arg-type]
        self.control.simulation = simulation
        self.leases = Leases(simulation.settings.trust_seconds)
        self.reaper = Reaper(store, simulation.settings.lease_seconds, clock=self.process.clock)
        for live in (self.work, self.renew, self.watch, *([self.reap] if simulation.workers_reap else [])):
            self.world.spawn(self.process, live)

    def renew(self) -> None:
        """As `Worker._renew`; what has no lease needs no heartbeat."""
        while True:
            asked_at, leases = self.process.clock(), self.leases.held()
            pause = self.simulation.settings.heartbeat_seconds
            try:
                if leases:
                    self.leases.renewed(leases, self.control.heartbeat(leases), asked_at)
            except StoreUnavailable:
                pause = min(RETRY_SECONDS, pause)
            self.world.sleep(pause)

    def reap(self) -> None:
        while True:
            self.world.sleep(self.simulation.settings.look_seconds)
            self.reaper.sweep()

    def watch(self) -> None:
        while True:
            self.world.sleep(WATCH_SECONDS)
            self.leases.end_untrusted()

    def work(self) -> None:
        while True:
            try:
                self.control.deliver_spooled()
                asked_at = self.process.clock()
                claims = self.control.claim()
            except StoreUnavailable:
                claims = []
            if claims:
                self.run(claims, asked_at)
            else:
                self.world.sleep(IDLE_SECONDS)

    def run(self, claims: Sequence[Claim], asked_at: float) -> None:
        """All that were claimed together, on one trainer."""
        trainer = Trainer(self.process, [claim.lease for claim in claims])
        lanes = [Lane(claim, self.leases.take(claim.lease, trainer, asked_at)) for claim in claims]  # type: ignore[arg-type]
        self.simulation.trainers.append(trainer)
        while any(lane.trains for lane in lanes):
            self.world.sleep(self.simulation.step_seconds * self.world.random.uniform(0.5, 1.5))
            self.advance(trainer, [lane for lane in lanes if lane.trains])
            if any(not lane.unwritten.empty for lane in lanes):
                self.write(lanes)
        trainer.ready = True
        self.conclude(lanes)
        self.simulation.trainers.remove(trainer)
        for lane in lanes:
            self.leases.drop(lane.holding)

    def advance(self, trainer: Trainer, lanes: Sequence[Lane]) -> None:
        """A step of all; or the end of the trainer, by the watch's hand or of itself."""
        fates = [self.simulation.fate_of(lane.claim.lease) for lane in lanes]
        if trainer.killed or "crashes" in fates:
            blamed = not trainer.killed and len(trainer.leases) == 1
            trainer.killed = True
            for lane in lanes:
                lane.unwritten.ended(Failed(reason="crashed", detail="signal 11") if blamed else Released())
        else:
            for lane, fate in zip(lanes, fates, strict=True):
                lane.measure(fate, self.simulation.epochs, self.simulation.interval)

    def write(self, lanes: Sequence[Lane]) -> None:
        """What is unwritten, in one transaction; it waits while the store does not answer."""
        try:
            writes = self.unwritten(lanes)
            self.written(writes, self.control.record([write for _, write in writes]))
        except StoreUnavailable:
            self.simulation.counts["writes not answered"] += 1

    def conclude(self, lanes: Sequence[Lane]) -> None:
        if writes := self.unwritten(lanes):
            lost = self.control.conclude([write for _, write in writes], self.simulation.never)  # type: ignore[arg-type]
            self.written(writes, lost or [])

    def unwritten(self, lanes: Sequence[Lane]) -> list[tuple[Lane, Write]]:
        reported = [lane for lane in lanes if not (lane.over or lane.unwritten.empty or lane.holding.halt is StopReason.LOST)]
        return [(lane, lane.unwritten.as_write(lane.claim.lease)) for lane in reported]

    def written(self, writes: Sequence[tuple[Lane, Write]], lost: Sequence[Lease]) -> None:
        for lane, write in writes:
            lane.unwritten = WriteBuffer()
            if write.lease in lost:
                lane.holding.stop(StopReason.LOST)
            lane.over = write.outcome is not None or write.lease in lost
