"""The warm trainer process: orders in, lines of progress out, one task after the other."""

import ctypes
import gc
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import assert_never

import torch

from trainer import memory
from trainer.cache import Cache
from trainer.checkpoints import Checkpoints
from trainer.chronicle import log_listing
from trainer.data.examples import BadData
from trainer.group import Group, failed
from trainer.heads import HeadEnsemble, fits
from trainer.learners import Member, ModelLearner
from trainer.loop import Build, TrainingLoop
from trainer.models.errors import Infeasible, UnfitModel
from trainer.pipe import Lines, Orders, Unreadable, private_output
from trainer.preparation import Expected, inspect, unfit
from trainer.protocol import Check, Checked, Failed, Lanes, Ready, Run, Unavailable
from trainer.stopwatch import Stopwatch

PR_SET_PDEATHSIG = 1


def serve(device: torch.device, cache: Cache | None = None, disk_floor_bytes: int = 0) -> None:
    """Answer orders until standard input ends; then the process is gone at once. Never returns."""
    lines = Lines(private_output())
    _live_and_die_with_the_supervisor()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    orders = Orders()
    host = Host(device, cache or Cache.none(), orders, lines, disk_floor_bytes)
    gc.freeze()  # what was imported stays; without this each collection between tasks takes 0.2 s
    while True:
        lines.tell(Ready())
        host.perform(orders.next_task())
        memory.release(device)


class Host:
    """What all tasks of the process have in common."""

    def __init__(self, device: torch.device, cache: Cache, orders: Orders, lines: Lines, disk_floor_bytes: int = 0) -> None:
        self._device, self._cache, self._orders, self._lines = device, cache, orders, lines
        self._disk_floor_bytes = disk_floor_bytes

    def perform(self, task: Check | Run | Lanes | Unreadable) -> None:
        """Do it, and tell how it went; whatever goes wrong is told as the outcome."""
        try:
            match task:
                case Check():
                    with threads(task.threads):
                        self._lines.tell(self._checked(task))
                case Run():
                    self._train([task])
                case Lanes():
                    with threads(task.threads):
                        self._train(task.runs)
                case Unreadable():
                    raise task
                case _:
                    assert_never(task)
        except Exception as error:  # a task that breaks is an outcome; the process stays usable
            traceback.print_exc(limit=-12)
            count = len(task.runs) if isinstance(task, Lanes) else 1
            self._lines.tell(*(failed(error, lane) for lane in range(count)))

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
        Group(members, loop.end, self._lines, self._orders, stopwatch).follow(loop.events())

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
