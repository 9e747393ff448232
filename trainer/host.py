"""The trainer process: reads orders from standard input, trains, and writes messages to standard output."""

import gc
import logging
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, assert_never

import torch

from trainer import memory, proof
from trainer.cache import Cache
from trainer.checkpoints import Checkpoints
from trainer.configuration import TrainConfig, narrowing
from trainer.data.examples import BadData
from trainer.features import Inputs
from trainer.graphs import GraphMode
from trainer.heads import HeadEnsemble, fits
from trainer.learners import Learner, Member, ModelLearner
from trainer.loop import Events, TrainingEvent, TrainingLoop
from trainer.models import Infeasible, UnfitModel
from trainer.pipes import HostMessage, MessageWriter, Orders, UnreadableOrder, ignore_signals_and_exit_with_supervisor, private_output
from trainer.preparation import Expected, PreparedRun, inspect, unfit
from trainer.protocol import (
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
    PruningDecision,
    Run,
    RunPrepared,
    Stopped,
    TrainerReady,
    Unavailable,
)
from trainer.run_logger import RunLogger, log_listing
from trainer.stopwatch import Stopwatch

SLOW_PROOF_SECONDS = 12.0  # after which the test of a device that has not ended is reported
UNUSABLE_EXIT_CODE = 71
STICKY_EXIT_CODE = 70
DEVICE_ERROR = re.compile(r"\b(?:CUDA|HIP) error:")
log = logging.getLogger(__name__)
trained = narrowing(TrainConfig, "is not trained by this process")


class MessageSink(Protocol):
    """Receives messages; implemented by MessageWriter."""

    def hold(self, line: HostMessage) -> None: ...
    def send(self, *lines: HostMessage) -> None: ...


class OrderSource(Protocol):
    """Provides cancels and pruning decisions; implemented by Orders."""

    def cancels(self) -> list[Cancel]: ...
    def decisions(self, due: Collection[int]) -> list[PruningDecision | Cancel]: ...


class RunGroup:
    """The runs of one training generator. Run `i` is lane `i` in the messages; a single run is a group of one.

    The generator yields RunPrepared and EpochMetrics in rounds: one for each open run, in any order. The messages of a complete round are
    written at once; only then does the group wait for the pruning decisions. Waiting earlier would deadlock: the supervisor decides
    only when it has the metrics of the whole round.
    """

    def __init__(
        self, members: Sequence[Member], end: Callable[[int], None], sink: MessageSink, orders: OrderSource, stopwatch: Stopwatch
    ) -> None:
        self._members, self._end = members, end
        self._sink, self._orders, self._stopwatch = sink, orders, stopwatch
        self._open = set(range(len(members)))  # lanes that have not ended
        self._round = dict[int, RunPrepared | EpochMetrics]()  # events of the current round, by lane
        self._run_logger = RunLogger(members)

    def follow(self, facts: Events) -> Exception | None:
        """Handle the events until all runs have ended. An error of the generator ends the open runs as Failed and is returned."""
        ended_by: Exception | None = None
        try:
            with closing(facts):
                for event in facts:
                    self._handle(event)
                    if self._apply_orders(event):
                        break
        except Exception as error:  # reported as Failed; the process can train further runs unless `is_sticky`
            ended_by = error
            traceback.print_exc(limit=-12)
            for lane in sorted(self._open):
                self._sink.hold(failed(error, lane, self._members[lane].checkpoints.step))
        self._run_logger.close()
        self._sink.send()
        return ended_by

    def _handle(self, event: TrainingEvent) -> None:
        """Log the event, then send it. In this order a reader of the message finds the epoch's line in the log."""
        match event:
            case RunPrepared() | EpochMetrics():
                self._round[event.lane] = event
            case Failed() | Unavailable() | ModelExported():
                self._open.discard(event.lane)
            case Finished() if self._members[event.lane].model_file is None:  # else ModelExported is the run's last event
                self._open.discard(event.lane)
        self._run_logger.on_event(event)
        if self._complete:
            self._run_logger.on_round(self._round.values())
        if len(self._members) == 1 or isinstance(event, BatchProgress | CheckpointSaved):
            self._sink.send(event)
        else:
            self._sink.hold(event)

    @property
    def _complete(self) -> bool:
        """Whether every open run has sent its event of the current round."""
        return bool(self._round) and self._round.keys() >= self._open

    def _apply_orders(self, event: TrainingEvent) -> bool:
        """Stop the runs that were pruned or cancelled. Returns whether that ended the last open run."""
        orders = list[PruningDecision | Cancel]()
        if complete := self._complete:
            orders += self._decisions()
        # Cancels are applied between rounds only: a run that left in the middle of one would make the round complete too early.
        if isinstance(event, BatchProgress) or (complete and isinstance(event, RunPrepared)):
            orders += self._orders.cancels()
        for order in orders:
            if isinstance(order, Cancel) or not order.go_on:
                for lane in sorted(self._open if order.lane is None else self._open & {order.lane}):
                    self._stop(lane, save=isinstance(order, Cancel) and order.save)
        if orders:
            self._sink.send()
        return bool(orders) and not self._open

    def _decisions(self) -> list[PruningDecision | Cancel]:
        """Send the complete round, and wait for its decisions."""
        due = {
            lane
            for lane, event in self._round.items()
            if lane in self._open and isinstance(event, EpochMetrics) and event.step in self._members[lane].decision_steps
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
        self._run_logger.stopped(lane)
        if save and (written := checkpoints.write()):
            self._sink.hold(CheckpointSaved(lane=lane, checkpoint=written))
        self._sink.hold(Stopped(lane=lane, step=checkpoints.step))


def failed(error: Exception, lane: int, step: int = 0, own: memory.DeviceMemory | None = None) -> Failed:
    """The message of a run that ended with the error; `own` as in `memory.lack`."""
    if (lack := memory.lack(error, own)) is not None:
        return Failed(lane=lane, reason="out_of_memory", detail=lack.detail, step=step)
    return Failed(lane=lane, reason="crashed", detail=f"{type(error).__name__}: {error}", step=step)


def is_sticky(error: BaseException | None, own: memory.DeviceMemory | None = None) -> bool:
    """Whether the error, or the one that it followed, leaves the process unable to use its device.

    After an illegal memory access, a failed assertion in a kernel or a hardware error every later call of CUDA returns the same error. A
    lack of memory does not have this effect.
    """
    if error is None:
        return False
    is_device_error = isinstance(error, torch.AcceleratorError) or DEVICE_ERROR.search(str(error)) is not None
    return (is_device_error and memory.lack(error, own) is None) or is_sticky(error.__cause__ or error.__context__, own)


IDLE_SECONDS = 60.0  # without an order, until caches on the device are dropped


@dataclass(frozen=True, slots=True, kw_only=True)
class HostOptions:
    """Options of the process beside its device and its cache."""

    share: float = 1.0  # of the device's memory, for caches
    idle_seconds: float = IDLE_SECONDS
    step_graphs: GraphMode = "off"
    report_examples: int = 0  # as `PreparedRun.shown`


def serve(device: torch.device, cache: Cache | None = None, disk_floor_bytes: int = 0, options: HostOptions | None = None) -> None:
    """Perform orders until standard input ends, which ends the process at once. Never returns."""
    options = options or HostOptions()
    lines = MessageWriter(private_output())
    ignore_signals_and_exit_with_supervisor()
    ready = TrainerReady() if device.type == "cpu" else _proved(device, lines)
    memory.set_share(options.share)
    orders = Orders()
    host = Host(device, cache or Cache.none(), orders, lines, disk_floor_bytes, options)
    gc.freeze()  # imported modules are never freed; scanning them would make each collection between tasks take 0.2 s
    while True:
        lines.send(ready)
        host.perform(orders.next_task(options.idle_seconds, partial(release_when_idle, device)))
        memory.release(device)
        ready = TrainerReady()


def release_when_idle(device: torch.device) -> None:
    """Drop what is kept on the device for later runs, and return the memory to it."""
    if memory.of(device) is not None:
        if dropped := memory.drop_caches(device):
            log.info("idle: %s kept on the device are dropped", memory.readable(dropped))
        memory.release(device)


def _proved(device: torch.device, lines: MessageWriter) -> TrainerReady:
    """Test the device. If it fails, send DeviceUnusable and end the process; if the test takes long, send it and wait on."""
    slow = threading.Timer(SLOW_PROOF_SECONDS, lambda: lines.send(proof.slow(SLOW_PROOF_SECONDS)))
    slow.daemon = True
    slow.start()
    started_at = time.monotonic()
    try:
        if device.type == "cuda":
            torch.cuda.set_device(device)
        proof.prove(device)
    except Exception as error:  # of any type: torch reports a missing driver by RuntimeError, a missing CUDA by AssertionError
        traceback.print_exc(limit=-12)
        slow.cancel()
        slow.join()
        lines.send(proof.unusable(error, device))
        os._exit(UNUSABLE_EXIT_CODE)
    slow.cancel()
    slow.join()  # so that its message does not follow TrainerReady
    memory.release(device)
    return TrainerReady(proof_seconds=time.monotonic() - started_at)


class Host:
    """Performs the tasks of the process on one device with one cache."""

    def __init__(
        self,
        device: torch.device,
        cache: Cache,
        orders: Orders,
        lines: MessageWriter,
        disk_floor_bytes: int = 0,
        options: HostOptions | None = None,
    ) -> None:
        self._device, self._cache, self._orders, self._lines = device, cache, orders, lines
        self._disk_floor_bytes, self._options = disk_floor_bytes, options or HostOptions()

    def perform(self, task: Check | Run | BatchedRuns | UnreadableOrder) -> None:
        """Perform the task and send its result. Any error is sent as Failed.

        Ends the process after an error that leaves the device unusable; the supervisor then starts another one.
        """
        own, ended_by = memory.of(self._device), None
        try:
            match task:
                case Check():
                    with threads(task.threads):
                        self._lines.send(self._checked(task))
                case Run():
                    _set_share(task.device_share)
                    ended_by = self._train([task])
                case BatchedRuns():
                    _set_share(task.device_share)
                    with threads(task.threads):
                        ended_by = self._train(task.runs)
                case UnreadableOrder():
                    raise task
                case _:
                    assert_never(task)
        except Exception as error:  # reported as Failed; the process can perform further tasks unless `is_sticky`
            ended_by = error
            traceback.print_exc(limit=-12)
            count = len(task.runs) if isinstance(task, BatchedRuns) else 1
            self._lines.send(*(failed(error, lane, own=own) for lane in range(count)))
        if is_sticky(ended_by, own):
            log.error("the process ends, because it cannot use its device any more: %s", ended_by)
            sys.stderr.flush()
            os._exit(STICKY_EXIT_CODE)

    def _checked(self, order: Check) -> Checked | Failed | Unavailable:
        memory.start_run(self._device)
        try:
            checked = inspect(trained(order.config), self._device, self._cache, order.batch_sizes)
            log_listing(checked.facts)
            return checked
        except Infeasible as error:
            return Failed(reason="infeasible", detail=str(error))
        except (BadData, UnfitModel) as error:
            return unfit(error, trained(order.config), Expected())

    def _train(self, runs: Sequence[Run]) -> Exception | None:
        stopwatch = Stopwatch.of(self._device)
        members = [self._member(run) for run in runs]
        shown = self._options.report_examples
        loop = TrainingLoop(members, self._learner, device=self._device, cache=self._cache, stopwatch=stopwatch, shown=shown)
        return RunGroup(members, loop.end, self._lines, self._orders, stopwatch).follow(loop.events())

    def _learner(self, run: PreparedRun, members: Sequence[Member], cache: Cache, stopwatch: Stopwatch) -> tuple[Learner, Inputs]:
        """The learner of prepared runs, and its inputs: one for heads if there are several runs, or if the run trains only a head."""
        learner = HeadEnsemble if len(members) > 1 or fits(members[0].config, run.info) else ModelLearner
        return learner.build(run, members, cache, stopwatch, graphs=self._options.step_graphs)

    def _member(self, run: Run) -> Member:
        folder = Path(run.checkpoint_folder) if run.checkpoint_folder is not None else None
        return Member(
            config=trained(run.config),
            checkpoints=Checkpoints(folder, seconds=run.checkpoint_seconds, resume=run.resume, floor_bytes=self._disk_floor_bytes),
            expected=Expected(run.expected, run.manifest),
            decision_steps=run.decision_steps,
            model_file=Path(run.model_file) if run.model_file is not None else None,
            score_test=run.score_test,
            demand=run.demand,
            depths=run.depths,
        )


def _set_share(share: float | None) -> None:
    if share is not None:
        memory.set_share(share)


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Set PyTorch's number of CPU threads within the context; None leaves it unchanged."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
