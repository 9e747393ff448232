"""Our processes as the fault suite starts them: the real server or a real worker with a toy trainer, an account of what was acknowledged,
and perhaps one planted mutant. They are forked, since an import takes longer than many a process lives here.
"""

import ctypes
import importlib
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from service.domain.records import Lease
from service.operations import Write
from service.settings import Settings
from tests.chaos.history import HISTORY, note
from trainer.protocol import Finished

__all__ = ["HISTORY", "MUTANT", "SLOTS", "note", "plant", "run"]
TOY = Path(__file__).with_name("toy.py")
MUTANT, SLOTS = "THAW_CHAOS_MUTANT", "THAW_CHAOS_SLOTS"
FAULTS = "THAW_CHAOS_FAULTS"  # modules with an `install()` that puts a scenario's own hooks into the process
PR_SET_PDEATHSIG = 1


def plant(name: str | None) -> None:
    """Break the product in the way of that mutant: `tests.chaos.mutants.<name>.plant()`."""
    if name:
        importlib.import_module(f"tests.chaos.mutants.{name}").plant()


def keep_account() -> None:
    """Note each write that the control plane has acknowledged or refused, at the moment when it says so."""
    from service.worker.store_client import StoreClient

    record = StoreClient.record

    def noted(self: StoreClient, writes: Sequence[Write]) -> list[Lease]:
        lost = record(self, writes)
        gone = {(lease.trial, lease.attempt) for lease in lost}
        for write in writes:
            refused = (write.lease.trial, write.lease.attempt) in gone
            note("refused" if refused else "acknowledged", **facts_of(write))
        return lost

    StoreClient.record = noted  # type: ignore[method-assign]


def facts_of(write: Write) -> dict[str, Any]:
    """What a write says, as far as the checker compares it."""
    outcome = write.outcome
    return {
        "trial": write.lease.trial,
        "number": write.lease.number,
        "attempt": write.lease.attempt,
        "steps": [report.step for report in write.reports],
        "checkpoint": write.checkpoint and write.checkpoint.step,
        "outcome": outcome and type(outcome).__name__.lower(),
        "metrics": dict(outcome.metrics) if isinstance(outcome, Finished) else None,
    }


def work(toy_options: Sequence[str]) -> None:
    """A worker until it is told to leave."""
    from service.cli.processes import install_signal_handlers
    from service.store import open_store
    from service.worker.context import Timeouts
    from service.worker.devices import SlotLayout, lay_out
    from service.worker.supervisor import Supervisor

    settings = Settings.from_environment()
    toy = (sys.executable, "-P", str(TOY), *toy_options)
    patience = Timeouts(start=60, prepare=60, stall=60, grace=2)
    worker = Supervisor(
        open_store(settings.database_url), settings, SlotLayout(lay_out((), 1, int(os.environ.get(SLOTS, "1")))), toy, patience
    )
    install_signal_handlers(worker)
    note("born")
    worker.run()


def serve() -> None:
    """A server until it is told to end."""
    from service.web.serve import serve as serve_http

    serve_http(Settings.from_environment(), port=int(os.environ.get("THAW_CHAOS_PORT", "0")))


def run(arguments: Sequence[str], environment: Mapping[str, str], output: str) -> None:
    """The whole life of a process: `serve`, `work` with the toy's options, or `claim`. It dies with the process that it was forked from."""
    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.environ.clear()
    os.environ.update(environment)
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(relativeCreated)6.0f %(name)s: %(message)s", force=True)
    keep_account()
    plant(os.environ.get(MUTANT))
    for name in filter(None, os.environ.get(FAULTS, "").split(",")):
        importlib.import_module(name).install()
    match arguments[0]:
        case "serve":
            serve()
        case "claim":
            from tests.chaos.claimants import train

            train(*arguments[1:])
        case _:
            work(arguments[1:])
