"""`thaw worker`: a worker in this process, with the signals that end it."""

import contextlib
import ctypes
import importlib.util
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

from service.cli import logging_config
from service.cli.failures import Failure
from service.settings import Settings
from service.worker.devices import cores, gpus, lay_out
from service.worker.process import TrainerProcess

if TYPE_CHECKING:
    from service.worker.supervisor import Supervisor

PR_SET_DUMPABLE = 4  # of Linux's <sys/prctl.h>
NO_TORCH = "A worker trains, and torch is not installed here: pip install 'thawline[trainer]'"


def run_worker(settings: Settings, slots: int | None, available_cores: int | None, parent: int | None) -> None:
    """Work until SIGTERM, SIGINT, or the end of the parent process. A second signal ends it at once. Raises Failure without torch."""
    require_torch()
    logging_config.configure_logging(settings, "worker")
    keep_to_ourselves(settings)
    layout = lay_out(gpus(), available_cores or cores(), slots)
    # Before all else, for a trainer imports for seconds, and by this thread, which lives as long as it is wanted.
    first = TrainerProcess(layout[0].command(settings), layout[0].environment(os.environ))
    from service.store import open_store
    from service.worker.supervisor import Supervisor

    store = open_store(settings.database_url)
    worker = Supervisor(store, settings, layout, trainer=first)
    heed_signals(worker)
    worker.run(is_child_of(parent))
    store.close()


def keep_to_ourselves(settings: Settings) -> None:
    """Restrict the home, new files and, on Linux, this process's memory and environment to its user.

    Trainers run as the same user and load files of third parties, so they must not be able to read the token and the database's password
    from this process. PR_SET_DUMPABLE prevents that, except for root.
    """
    if (remark := settings.protect_home()) is not None:
        sys.stderr.write(f"{remark}\n")
    with contextlib.suppress(OSError):
        os.umask(0o007 if settings.home_is_shared else 0o077)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def require_torch() -> None:
    """Raise Failure when torch is not installed. Does not import it."""
    if not has_torch():
        raise Failure(NO_TORCH)


def has_torch() -> bool:
    """Whether this environment can train."""
    return importlib.util.find_spec("torch") is not None


def heed_signals(worker: "Supervisor") -> None:
    """The first SIGTERM or SIGINT hands the trials back, the second one ends the process with its trainers."""
    already = False

    def leave(number: int, _frame: FrameType | None) -> None:
        nonlocal already
        if already:
            worker.abandon()
            os._exit(128 + number)
        already = True
        threading.Thread(target=worker.leave, name="leave").start()  # this thread may hold just now what `leave` waits for

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)


def is_child_of(parent: int | None) -> Callable[[], bool]:
    """A question that is answered with no once the parent has gone; always with yes when there is none."""
    return lambda: parent is None or os.getppid() == parent
