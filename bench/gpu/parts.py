"""Runs the parts of a run one after the other, each as a process with a time limit."""

import contextlib
import gc
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.forkserver import ensure_running
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from bench.gpu.needs import Needs, absent, requirements
from bench.gpu.rows import WHOLE, Rows, State

if TYPE_CHECKING:
    import torch

GRACE_SECONDS = 4.0  # in which a part that is stopped can end its servers and trainers


class Stopped(BaseException):
    """The part has reached its time limit. Not an Exception, so that no case catches it."""


class NotHere(Exception):
    """This device or this version of the product does not have what the case measures."""


class Unexpected(Exception):
    """The product did something else than the case expects."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What a part gets: where it writes, its device and its time."""

    rows: Rows
    out: Path  # for logs
    folder: Path  # for data, weights and databases; removed after the run
    tiny: bool
    device_name: str
    part: str = ""
    deadline: float = 0.0  # by time.monotonic

    @property
    def device(self) -> "torch.device":
        """The device to measure."""
        import torch

        return torch.device(self.device_name)

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device_name.startswith("cuda")

    @property
    def seconds_left(self) -> float:
        """Seconds until the part is stopped."""
        return self.deadline - time.monotonic()

    def sized(self, usual: int, tiny: int) -> int:
        """A size, which depends on `tiny`."""
        return tiny if self.tiny else usual

    def row(self, what: str, state: State = "ok", **values: object) -> None:
        """Write a row of this part."""
        self.rows.add(self.part, what, state, **values)

    def case(self, what: str, work: Callable[[], Mapping[str, object]], seconds: float = 0.0) -> None:
        """Write a row with the values that `work` returns, or with its error. Left out if less than `seconds` are left."""
        if self.seconds_left < (1.0 if self.tiny else seconds):
            self.row(what, "left out", needs_seconds=seconds)
            return
        started_at = time.monotonic()
        try:
            self.row(what, "ok", **work(), case_seconds=time.monotonic() - started_at)
        except NotHere as reason:
            self.row(what, "not here", reason=str(reason))
        except Exception as error:  # of any type: a case that fails must not end the others
            self.row(what, "failed", error=f"{type(error).__name__}: {error}", trace=traceback.format_exc(limit=-6))
        gc.collect()
        if self.on_gpu:
            _empty_cache()


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a run. `work` is a function of a module, because another process imports it by name."""

    name: str
    work: Callable[[Bench], None]
    seconds: float  # its limit where later parts need all of their time
    least_seconds: float  # with less it is left out
    needs: Needs = "trainer"  # the packages that it imports


def forkserver() -> BaseContext:
    """Forks the parts from a process that has imported torch but never used it. That process is started, and not waited for."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.gpu.works", "bench.gpu.speed"])
    ensure_running()
    return context


def perform(parts: Sequence[Part], bench: Bench, deadline: float, context: BaseContext) -> None:
    """Run the parts until the deadline, by time.monotonic. Time that a part does not use is given to the next one."""
    started_at = time.monotonic()
    first: BaseProcess = context.Process(target=os.getpid)  # type: ignore[attr-defined]
    first.start()  # waits until the process that all are forked from has imported torch
    first.join()
    bench.rows.add("start", WHOLE, seconds=time.monotonic() - started_at)
    for place, part in enumerate(parts):
        left = deadline - time.monotonic() - GRACE_SECONDS
        limit = min(left, max(part.seconds, left - sum(later.seconds for later in parts[place + 1 :])))
        if lacking := absent(requirements(part.needs)):
            bench.rows.add(part.name, WHOLE, "left out", missing=lacking)
        elif limit < part.least_seconds:
            bench.rows.add(part.name, WHOLE, "left out", needs_seconds=part.least_seconds, seconds_left=max(0.0, left))
        else:
            receiver, sender = context.Pipe(duplex=False)
            given = replace(bench, part=part.name, deadline=time.monotonic() + limit)
            process = context.Process(target=_run, args=(part.work, given, sender))  # type: ignore[attr-defined]
            _supervise(process, receiver, given, limit)


def _supervise(process: BaseProcess, receiver: Connection, bench: Bench, limit: float) -> None:
    """Run the process, stop it at the limit, and write the row of the part."""
    started_at = time.monotonic()
    process.start()
    assert process.pid is not None
    try:
        process.join(limit)
        stopped = process.is_alive()
        if stopped:
            process.terminate()
            process.join(GRACE_SECONDS)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the part, and what it started and did not end
        process.kill()
        process.join()
    seconds = time.monotonic() - started_at
    if stopped:
        bench.row(WHOLE, "stopped", seconds=seconds, limit_seconds=limit)
    elif process.exitcode == 0:
        bench.row(WHOLE, seconds=seconds)
    else:
        error = receiver.recv() if receiver.poll() else "the process ended without an error message"
        bench.row(WHOLE, "failed", seconds=seconds, exit_code=process.exitcode, error=error)


def _run(work: Callable[[Bench], None], bench: Bench, sender: Connection) -> None:
    """The part's process."""
    os.setsid()  # so that the whole group can be killed
    signal.signal(signal.SIGTERM, _stop)
    gc.freeze()  # imported modules are never freed; scanning them after each case would take longer than small cases
    try:
        if bench.tiny:
            _use_one_thread()
        work(bench)
    except Stopped:
        return
    except BaseException:
        sender.send(traceback.format_exc(limit=-12))
        raise


def _empty_cache() -> None:
    import torch

    with contextlib.suppress(RuntimeError):  # after an error from which the process cannot recover
        torch.cuda.empty_cache()


def _use_one_thread() -> None:
    import torch

    torch.set_num_threads(1)  # more only wait for each other on small data


def _stop(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # cleaning up is not interrupted again
    raise Stopped
