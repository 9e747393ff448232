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

from trainer import lanes, memory
from trainer.cache import Cache
from trainer.checkpoints import Checkpoints
from trainer.contract import Check, Checked, Failed, Lanes, Ready, Run
from trainer.data import BadData
from trainer.group import Group, Member, failed
from trainer.models.errors import UnfitModel
from trainer.pipe import Lines, Orders, Unreadable, private_output
from trainer.stopwatch import Stopwatch
from trainer.task import Expected, inspect
from trainer.train import train

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

    def _checked(self, order: Check) -> Checked | Failed:
        try:
            return inspect(order.config, self._device, self._cache)
        except (BadData, UnfitModel) as error:
            return Failed(reason="bad_data", detail=str(error))

    def _train(self, runs: Sequence[Run]) -> None:
        stopwatch = Stopwatch.of(self._device)
        members = [Member(run, self._checkpoints(run)) for run in runs]
        if len(runs) > 1 or lanes.fits(runs[0].config):
            shared = lanes.Pass([_lane(member) for member in members], device=self._device, cache=self._cache, stopwatch=stopwatch)
            Group(members, shared.end, self._lines, self._orders, stopwatch).follow(shared.facts())
        else:
            (member,) = members
            facts = train(
                member.run.config,
                device=self._device,
                cache=self._cache,
                demand=member.run.demand,
                depths=member.run.depths,
                checkpoints=member.checkpoints,
                expected=_expected(member.run),
                model_file=_model_file(member.run),
                score_test=member.run.score_test,
                stopwatch=stopwatch,
            )
            Group(members, lambda lane: None, self._lines, self._orders, stopwatch).follow(facts)

    def _checkpoints(self, run: Run) -> Checkpoints:
        folder = Path(run.checkpoint_folder) if run.checkpoint_folder is not None else None
        return Checkpoints(folder, seconds=run.checkpoint_seconds, resume=run.resume, floor_bytes=self._disk_floor_bytes)


def _lane(member: Member) -> lanes.LaneRun:
    run = member.run
    return lanes.LaneRun(
        config=run.config,
        checkpoints=member.checkpoints,
        expected=_expected(run),
        model_file=_model_file(run),
        score_test=run.score_test,
        demand=run.demand,
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


def _expected(run: Run) -> Expected:
    return Expected(run.fingerprint, run.weights_sha256, run.manifest, run.split)


def _model_file(run: Run) -> Path | None:
    return Path(run.model_file) if run.model_file is not None else None


def _live_and_die_with_the_supervisor() -> None:
    """Signals meant for the supervisor's whole group are the supervisor's to judge; its death is ours, even if we hang."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
