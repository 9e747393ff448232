"""The warm trainer process: orders in, lines of progress out, one task after the other."""

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
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import assert_never

import torch
from pydantic import ValidationError

from trainer import memory
from trainer.cache import Cache
from trainer.checkpoints import Checkpoints
from trainer.contract import (
    LINES,
    ORDERS,
    Advanced,
    Answer,
    Cancel,
    Check,
    Checked,
    Exported,
    Failed,
    Measured,
    Prepared,
    Progress,
    Ready,
    Run,
    Saved,
    Stopped,
)
from trainer.data import BadData
from trainer.models.errors import UnfitModel
from trainer.task import Expected, inspect
from trainer.train import train

ADVANCED_SECONDS = 0.25  # at most one Advanced line in so many
PR_SET_PDEATHSIG = 1
log = logging.getLogger(__name__)

Line = Progress | Checked | Exported | Stopped | Ready
Told = Generator[Progress | Exported, None, None]


def serve(device: torch.device, cache: Cache | None = None) -> None:
    """Answer orders until standard input ends; then the process is gone at once. Never returns."""
    lines = Lines(_private_output())
    _live_and_die_with_the_supervisor()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    orders = Orders()
    gc.freeze()  # what was imported stays; without this each collection between tasks takes 0.2 s
    while True:
        lines.tell(Ready())
        task = orders.next_task()
        try:
            _perform(task, orders, lines, device, cache or Cache.none())
        except Exception as error:  # a run that breaks is an outcome; the process stays usable
            traceback.print_exc(limit=-12)
            lines.tell(Failed(reason="crashed", detail=f"{type(error).__name__}: {error}"))
        memory.release(device)


class Lines:
    """Our own end of the pipe to the supervisor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._advanced_at = 0.0

    def tell(self, line: Line) -> None:
        """Write the line whole; some of the many Advanced are left out."""
        if isinstance(line, Advanced):
            if time.monotonic() - self._advanced_at < ADVANCED_SECONDS:
                return
            self._advanced_at = time.monotonic()
        rest = memoryview(LINES.dump_json(line) + b"\n")
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]


class Unreadable(Exception):
    """What came in is no order."""


class Orders:
    """What the supervisor says, in the order in which it said it, read by a thread of its own."""

    def __init__(self) -> None:
        self._queue = queue.SimpleQueue[Check | Run | Answer | Cancel | Unreadable]()
        threading.Thread(target=self._read, name="orders", daemon=True).start()

    def _read(self) -> None:
        with open(0, "rb", closefd=False) as stream:
            for line in stream:
                try:
                    self._queue.put(ORDERS.validate_json(line))
                except ValidationError as error:
                    self._queue.put(Unreadable(f"{error.error_count()} faults in an order: {error.errors(include_url=False)[0]['msg']}"))
        os._exit(0)  # the supervisor is gone, or wants this process gone

    def next_task(self) -> Check | Run | Unreadable:
        """Wait for something to do. An answer or cancel that came too late for its run is passed over."""
        while True:
            match order := self._queue.get():
                case Check() | Run() | Unreadable():
                    return order
                case Answer() | Cancel():
                    continue
                case _:
                    assert_never(order)

    def cancel(self) -> Cancel | None:
        """The cancel that has come for the present run, if any. Does not wait."""
        while not self._queue.empty():
            if isinstance(order := self._queue.get(), Cancel):
                return order
            log.warning("an order that does not belong here was passed over: %s", type(order).__name__)
        return None

    def decision(self) -> Answer | Cancel:
        """Wait for the pruner's word."""
        while True:
            if isinstance(order := self._queue.get(), Answer | Cancel):
                return order


def _perform(task: Check | Run | Unreadable, orders: Orders, lines: Lines, device: torch.device, cache: Cache) -> None:
    match task:
        case Check():
            lines.tell(_checked(task, device, cache))
        case Run():
            _run(task, orders, lines, device, cache)
        case Unreadable():
            raise task
        case _:
            assert_never(task)


def _checked(order: Check, device: torch.device, cache: Cache) -> Checked | Failed:
    try:
        return Checked(facts=inspect(order.config, device, cache))
    except (BadData, UnfitModel) as error:
        return Failed(reason="bad_data", detail=str(error))
    except (MemoryError, RuntimeError) as error:
        if (lack := memory.lack(error)) is None:
            raise
        return Failed(reason="out_of_memory", detail=lack)


def _run(order: Run, orders: Orders, lines: Lines, device: torch.device, cache: Cache) -> None:
    folder = Path(order.checkpoint_folder) if order.checkpoint_folder is not None else None
    checkpoints = Checkpoints(folder, seconds=order.checkpoint_seconds, resume=order.resume)
    told = train(
        order.config,
        device=device,
        cache=cache,
        demand=order.demand,
        checkpoints=checkpoints,
        expected=Expected(order.fingerprint, order.weights_sha256),
        model_file=Path(order.model_file) if order.model_file is not None else None,
    )
    with closing(told):
        end = _follow(told, order, orders, lines)
    if end is not None:
        if isinstance(end, Cancel) and end.save and (written := checkpoints.write()):
            lines.tell(Saved(checkpoint=written))
        lines.tell(Stopped(step=checkpoints.step))


def _follow(told: Told, order: Run, orders: Orders, lines: Lines) -> Answer | Cancel | None:
    """Pass on what the run tells; what ended it from outside, or None when it came to its own end."""
    for fact in told:
        lines.tell(fact)
        if isinstance(fact, Measured) and fact.step in order.decision_steps:
            word = orders.decision()
            if isinstance(word, Cancel) or not word.go_on:
                return word
        elif isinstance(fact, Prepared | Advanced) and (cancel := orders.cancel()):
            return cancel
    return None


def _private_output() -> int:
    """Keep standard output for our lines alone: whatever else prints, prints to standard error."""
    sys.stdout.flush()
    private = os.dup(1)
    os.dup2(2, 1)
    return private


def _live_and_die_with_the_supervisor() -> None:
    """Signals meant for the supervisor's whole group are the supervisor's to judge; its death is ours, even if we hang."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
