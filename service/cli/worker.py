"""`thaw worker`: runs a worker in this process, and stops it on signals."""

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
NO_TORCH = "Training needs torch, which is not installed: pip install 'thawline[trainer]'"


def run_worker(settings: Settings, slots: int | None, available_cores: int | None, parent: int | None) -> None:
    """Run until SIGTERM, SIGINT, or the parent process exits. A second signal ends it at once. Raises Failure if torch is missing."""
    require_torch()
    logging_config.configure_logging(settings, "worker")
    restrict_access(settings)
    layout = lay_out(gpus(), available_cores or cores(), slots)
    # Started before the slow imports below, because importing torch takes the trainer seconds. Started by the main thread, because the
    # kernel kills a trainer when the thread that started it ends (PR_SET_PDEATHSIG).
    first = TrainerProcess(layout[0].command(settings), layout[0].environment(os.environ))
    from service.store import open_store
    from service.worker.supervisor import Supervisor

    store = open_store(settings.database_url)
    worker = Supervisor(store, settings, layout, trainer=first)
    install_signal_handlers(worker)
    worker.run(is_child_of(parent))
    store.close()


def restrict_access(settings: Settings) -> None:
    """Restrict the home, new files and, on Linux, this process's memory and environment to its user.

    Trainers run as the same user and load files of third parties, so they must not be able to read the token and the database's password
    from this process. PR_SET_DUMPABLE prevents that, except for root.
    """
    if (warning := settings.protect_home()) is not None:
        sys.stderr.write(f"{warning}\n")
    with contextlib.suppress(OSError):
        os.umask(0o007 if settings.home_is_shared else 0o077)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def require_torch() -> None:
    """Raises Failure if torch is not installed. Does not import it."""
    if not has_torch():
        raise Failure(NO_TORCH)


def has_torch() -> bool:
    """Whether torch is installed. Does not import it."""
    return importlib.util.find_spec("torch") is not None


def install_signal_handlers(worker: "Supervisor") -> None:
    """Make the first SIGTERM or SIGINT release the trials, and the second one kill the trainers and end the process."""
    leaving = False

    def leave(number: int, _frame: FrameType | None) -> None:
        nonlocal leaving
        if leaving:
            worker.abandon()
            os._exit(128 + number)
        leaving = True
        # In a thread of its own: the handler interrupts the main thread, which may hold a lock that `leave` acquires.
        threading.Thread(target=worker.leave, name="leave").start()

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)


def is_child_of(parent: int | None) -> Callable[[], bool]:
    """A function that returns whether `parent` is still the parent process; always True if `parent` is None."""
    return lambda: parent is None or os.getppid() == parent
