"""The trainer process: reads orders, drives the runs of one generator, writes messages."""

import ctypes
import gc
import logging
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol, assert_never

import torch
from pydantic import ValidationError

from trainer import devices
from trainer.cache import Cache
from trainer.checkpoints import Checkpoints
from trainer.data.examples import BadData
from trainer.heads import HeadEnsemble, fits
from trainer.learners import Member, ModelLearner
from trainer.loop import Build, Event, Events, TrainingLoop
from trainer.models import Infeasible, UnfitModel
from trainer.preparation import Expected, inspect, unfit
from trainer.protocol import (
    LINES,
    ORDERS,
    BatchedRuns,
    BatchProgress,
    Cancel,
    Check,
    Checked,
    CheckpointSaved,
    EpochMetrics,
    Failed,
    Finished,
    ModelExported,
    Progress,
    PruningDecision,
    Run,
    RunPrepared,
    Stopped,
    TrainerReady,
    Unavailable,
)
from trainer.run_logger import RunLogger, log_listing
from trainer.stopwatch import Stopwatch

ADVANCED_SECONDS = 0.25  # at most one BatchProgress line in so many
log = logging.getLogger(__name__)

Line = Progress | Checked | ModelExported | Stopped | TrainerReady


class MessageWriter:
    """What this process tells."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._held = list[bytes]()
        self._advanced_at = 0.0

    def hold(self, line: Line) -> None:
        """Tell the line together with the next one that is told: lanes speak in chorus, and one write wakes the supervisor once."""
        self._held.append(LINES.dump_json(line) + b"\n")

    def send(self, *lines: Line) -> None:
        """Write what is held, and the lines, whole; some of the many BatchProgress are left out."""
        for line in lines:
            if not isinstance(line, BatchProgress) or self._is_time():
                self.hold(line)
        rest = memoryview(b"".join(self._held))
        self._held.clear()
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def _is_time(self) -> bool:
        now = time.monotonic()
        if now - self._advanced_at < ADVANCED_SECONDS:
            return False
        self._advanced_at = now
        return True


def private_output() -> int:
    """Keep standard output for our lines alone: whatever else prints, prints to standard error."""
    sys.stdout.flush()
    private = os.dup(1)
    os.dup2(2, 1)
    return private


class UnreadableOrder(Exception):
    """What came in is no order."""


ReceivedOrder = Check | Run | BatchedRuns | UnreadableOrder


class Orders:
    """What the supervisor says, in the order in which it said it, read by a thread of its own."""

    def __init__(self) -> None:
        self._queue = queue.SimpleQueue[ReceivedOrder | PruningDecision | Cancel]()
        threading.Thread(target=self._read, name="orders", daemon=True).start()

    def _read(self) -> None:
        with open(0, "rb", closefd=False) as stream:
            for line in stream:
                try:
                    self._queue.put(ORDERS.validate_json(line))
                except ValidationError as error:
                    self._queue.put(
                        UnreadableOrder(f"{error.error_count()} faults in an order: {error.errors(include_url=False)[0]['msg']}")
                    )
        os._exit(0)  # the supervisor is gone, or wants this process gone

    def next_task(self) -> ReceivedOrder:
        """Wait for something to do. An answer or cancel that came too late for its run is passed over."""
        while True:
            match order := self._queue.get():
                case Check() | Run() | BatchedRuns() | UnreadableOrder():
                    return order
                case PruningDecision() | Cancel():
                    continue
                case _:
                    assert_never(order)

    def cancels(self) -> list[Cancel]:
        """The cancels that have come for the present runs. Does not wait."""
        found = list[Cancel]()
        while not self._queue.empty():
            if isinstance(order := self._queue.get(), Cancel):
                found.append(order)
            elif isinstance(order, PruningDecision):
                log.info("an answer to lane %d came after its end", order.lane)
            else:
                log.warning("an order that does not belong here was passed over: %s", type(order).__name__)
        return found

    def decisions(self, due: Collection[int]) -> list[PruningDecision | Cancel]:
        """Wait until each of the lanes has its answer or is cancelled; what came, in that order, cancels of other lanes too."""
        waiting, found = set(due), list[PruningDecision | Cancel]()
        while waiting:
            if isinstance(order := self._queue.get(), PruningDecision | Cancel):
                found.append(order)
                waiting -= waiting if order.lane is None else {order.lane}
        return found


class MessageSink(Protocol):
    """Whom it is told; `trainer.host.MessageWriter`."""

    def hold(self, line: Line) -> None: ...
    def send(self, *lines: Line) -> None: ...


class OrderSource(Protocol):
    """Who may end runs; `trainer.host.Orders`."""

    def cancels(self) -> list[Cancel]: ...
    def decisions(self, due: Collection[int]) -> list[PruningDecision | Cancel]: ...


class RunGroup:
    """The runs of one training generator. Run `i` has lane `i` in the messages; a run alone is a group of one.

    The runs send RunPrepared and EpochMetrics in rounds: each open run once, in any order. When the last EpochMetrics of a round has come,
    the round is written in one piece, and only then the group waits for the pruning decisions.
    """

    def __init__(
        self, members: Sequence[Member], end: Callable[[int], None], sink: MessageSink, orders: OrderSource, stopwatch: Stopwatch
    ) -> None:
        self._members, self._end = members, end
        self._sink, self._orders, self._stopwatch = sink, orders, stopwatch
        self._open = set(range(len(members)))  # lanes that have not come to an end
        self._round = dict[int, RunPrepared | EpochMetrics]()  # by lane, what was told of the present round
        self._chronicle = RunLogger(members)

    def follow(self, facts: Events) -> None:
        """Until all runs have come to an end. Whatever breaks the generator ends those still open as Failed."""
        try:
            with closing(facts):
                for fact in facts:
                    self._pass_on(fact)
                    if self._is_stopped(fact):
                        break
        except Exception as error:  # a run that breaks is an outcome; the process stays usable
            traceback.print_exc(limit=-12)
            for lane in sorted(self._open):
                self._sink.hold(failed(error, lane, self._members[lane].checkpoints.step))
        self._chronicle.close()
        self._sink.send()

    def _pass_on(self, fact: Event) -> None:
        """Tell it, in the log first: who hears of an epoch finds its line there."""
        match fact:
            case RunPrepared() | EpochMetrics():
                self._round[fact.lane] = fact
            case Failed() | Unavailable() | ModelExported():
                self._open.discard(fact.lane)
            case Finished() if self._members[fact.lane].model_file is None:
                self._open.discard(fact.lane)
        self._chronicle.on_event(fact)
        if self._complete:
            self._chronicle.on_round(self._round.values())
        if len(self._members) == 1 or isinstance(fact, BatchProgress | CheckpointSaved):
            self._sink.send(fact)
        else:
            self._sink.hold(fact)

    @property
    def _complete(self) -> bool:
        """Whether all that are open have told of the present round."""
        return bool(self._round) and self._round.keys() >= self._open

    def _is_stopped(self, fact: Event) -> bool:
        """Obey what was said meanwhile; whether that ended the last of the runs."""
        words = list[PruningDecision | Cancel]()
        if complete := self._complete:
            words += self._answers()
        if isinstance(fact, BatchProgress) or (complete and isinstance(fact, RunPrepared)):  # in the middle of a round nobody leaves
            words += self._orders.cancels()
        for word in words:
            if isinstance(word, Cancel) or not word.go_on:
                for lane in sorted(self._open if word.lane is None else self._open & {word.lane}):
                    self._stop(lane, save=isinstance(word, Cancel) and word.save)
        if words:
            self._sink.send()
        return bool(words) and not self._open

    def _answers(self) -> list[PruningDecision | Cancel]:
        """What is said to the round, which is complete."""
        due = {
            lane
            for lane, fact in self._round.items()
            if lane in self._open and isinstance(fact, EpochMetrics) and fact.step in self._members[lane].decision_steps
        }
        self._round.clear()
        self._sink.send()
        if not due:
            return []
        with self._stopwatch("waiting"):
            return self._orders.decisions(due)

    def _stop(self, lane: int, *, save: bool) -> None:
        checkpoints = self._members[lane].checkpoints
        self._end(lane)
        self._open.discard(lane)
        self._chronicle.stopped(lane)
        if save and (written := checkpoints.write()):
            self._sink.hold(CheckpointSaved(lane=lane, checkpoint=written))
        self._sink.hold(Stopped(lane=lane, step=checkpoints.step))


def failed(error: Exception, lane: int, step: int = 0) -> Failed:
    """How a run ended that broke with the error."""
    if (lack := devices.lack(error)) is not None:
        return Failed(lane=lane, reason="out_of_memory", detail=lack, step=step)
    return Failed(lane=lane, reason="crashed", detail=f"{type(error).__name__}: {error}", step=step)


PR_SET_PDEATHSIG = 1


def serve(device: torch.device, cache: Cache | None = None, disk_floor_bytes: int = 0) -> None:
    """PruningDecision orders until standard input ends; then the process is gone at once. Never returns."""
    lines = MessageWriter(private_output())
    _live_and_die_with_the_supervisor()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    orders = Orders()
    host = Host(device, cache or Cache.none(), orders, lines, disk_floor_bytes)
    gc.freeze()  # what was imported stays; without this each collection between tasks takes 0.2 s
    while True:
        lines.send(TrainerReady())
        host.perform(orders.next_task())
        devices.release(device)


class Host:
    """What all tasks of the process have in common."""

    def __init__(self, device: torch.device, cache: Cache, orders: Orders, lines: MessageWriter, disk_floor_bytes: int = 0) -> None:
        self._device, self._cache, self._orders, self._lines = device, cache, orders, lines
        self._disk_floor_bytes = disk_floor_bytes

    def perform(self, task: Check | Run | BatchedRuns | UnreadableOrder) -> None:
        """Do it, and tell how it went; whatever goes wrong is told as the outcome."""
        try:
            match task:
                case Check():
                    with threads(task.threads):
                        self._lines.send(self._checked(task))
                case Run():
                    self._train([task])
                case BatchedRuns():
                    with threads(task.threads):
                        self._train(task.runs)
                case UnreadableOrder():
                    raise task
                case _:
                    assert_never(task)
        except Exception as error:  # a task that breaks is an outcome; the process stays usable
            traceback.print_exc(limit=-12)
            count = len(task.runs) if isinstance(task, BatchedRuns) else 1
            self._lines.send(*(failed(error, lane) for lane in range(count)))

    def _checked(self, order: Check) -> Checked | Failed | Unavailable:
        try:
            checked = inspect(order.config, self._device, self._cache, order.batch_sizes)
            log_listing(checked.facts)
            return checked
        except Infeasible as error:
            return Failed(reason="infeasible", detail=str(error))
        except (BadData, UnfitModel) as error:
            return unfit(error, order.config, Expected())

    def _train(self, runs: Sequence[Run]) -> None:
        stopwatch = Stopwatch.of(self._device)
        members = [self._member(run) for run in runs]
        build: Build = HeadEnsemble.build if len(runs) > 1 or fits(runs[0].config) else ModelLearner.build
        loop = TrainingLoop(members, build, device=self._device, cache=self._cache, stopwatch=stopwatch)
        RunGroup(members, loop.end, self._lines, self._orders, stopwatch).follow(loop.events())

    def _member(self, run: Run) -> Member:
        folder = Path(run.checkpoint_folder) if run.checkpoint_folder is not None else None
        return Member(
            config=run.config,
            checkpoints=Checkpoints(folder, seconds=run.checkpoint_seconds, resume=run.resume, floor_bytes=self._disk_floor_bytes),
            expected=Expected(run.expected, run.manifest),
            decision_steps=run.decision_steps,
            model_file=Path(run.model_file) if run.model_file is not None else None,
            score_test=run.score_test,
            demand=run.demand,
            depths=run.depths,
        )


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """So many threads of PyTorch on the CPU meanwhile; None leaves them as they are."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _live_and_die_with_the_supervisor() -> None:
    """Signals meant for the supervisor's whole group are the supervisor's to judge; its death is ours, even if we hang."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
