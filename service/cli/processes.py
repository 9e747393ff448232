"""`thaw serve`, `thaw worker`, `thaw dashboard` and `thaw db`: servers, workers, and workers as child processes of a server."""

import contextlib
import ctypes
import importlib.util
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from service.cli.console import Failure, configure_logging, print_json
from service.domain.errors import NotADatabase, SchemaTooNew, SchemaTooOld, StoreUnavailable
from service.settings import Settings
from service.timing import Backoff
from service.worker.devices import Device, SlotLayout, cores, layout_of
from service.worker.discovery import Discovery, find_devices, select
from service.worker.process import TrainerProcess

if TYPE_CHECKING:
    from service.worker.supervisor import Supervisor

log = logging.getLogger(__name__)

PR_SET_DUMPABLE = 4  # of Linux's <sys/prctl.h>
NO_TORCH = "Training needs torch, which is not installed: pip install 'thawline[trainer]'"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """The options of `thaw worker` about its slots; None: the default."""

    slots: int | None = None
    slots_per_gpu: int | Literal["auto"] | None = None
    gpus: str | None = None  # indices and ids of the GPUs to use; the worker then never trains on the CPU
    gpu_workers: int = 1  # number of workers that use the same GPUs

    def layout(self, available_cores: int) -> SlotLayout:
        """The slots on the devices of this machine. Raises Failure if `gpus` names a device that is not there."""
        found = find_devices()
        for step in found.tried:
            log.info("devices: %s", step)
        devices = found.devices if self.gpus is None else chosen(found, self.gpus)
        packs = self.slots_per_gpu == "auto"
        count = len(devices) * self.slots_per_gpu if isinstance(self.slots_per_gpu, int) and devices else self.slots
        # The search for devices is not repeated.
        faults = () if found.fault is None else (replace(found.fault, remedy=f"{found.fault.remedy}; then restart the worker"),)
        layout = layout_of(devices, available_cores, count, faults, self.gpus is not None, self.gpu_workers)
        return replace(layout, packed_by=self.gpu_workers if packs else 0)


def chosen(found: Discovery, names: str) -> tuple[Device, ...]:
    """The devices with these indices and ids. Raises Failure with the devices that were found."""
    try:
        return select(found.devices, names)
    except ValueError as error:
        fault = "" if found.fault is None else f"\n{found.fault.name}: {found.fault.detail}. {found.fault.remedy}."
        raise Failure(f"--gpus: {error}.{fault}") from None


def run_worker(settings: Settings, options: WorkerOptions, available_cores: int | None, parent: int | None) -> None:
    """Run until SIGTERM, SIGINT, or the parent process exits. A second signal ends it at once.

    Without torch it runs only scripts. Raises Failure if it may run none, or if `options` name a GPU that is not there.
    """
    if not settings.allow_scripts:
        require_torch()
    if missing := [folder for folder in settings.allow_scripts if not folder.is_dir()]:
        raise Failure(f"--allow-scripts: {missing[0]} is no folder; create it, or name another one.")
    configure_logging(settings, "worker")
    restrict_access(settings)
    exit_on_signals()  # until there is a worker: the search for devices waits for a slow driver for a minute
    layout = options.layout(available_cores or cores())
    for fault in layout.faults:
        log.error("%s cannot be used, and trials train on the CPU: %s. %s.", fault.name, fault.detail, fault.remedy)
    log.info("slots: %s", ", ".join(slot.display for slot in layout.slots))
    # Started before the slow imports below, because importing torch takes the trainer seconds. Started by the main thread, because the
    # kernel kills a trainer when the thread that started it ends (PR_SET_PDEATHSIG).
    slot = layout.slots[0]
    trains = has_torch()
    first = TrainerProcess(slot.command(settings), slot.environment(os.environ)) if trains else None
    from service.store import open_store
    from service.worker.supervisor import Supervisor

    store = open_store(settings.database_url)
    worker = Supervisor(store, settings, layout, None if trains else (), trainer=first)
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


def exit_on_signals() -> None:
    """Make SIGTERM and SIGINT end the process with exit code 0, because no trial has to be released yet."""

    def leave(_number: int, _frame: FrameType | None) -> None:
        sys.exit(0)  # in the main thread; what it waits for is interrupted, and its child processes are killed

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)


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


END_SECONDS = 11.0  # a worker releases its trials within ten seconds
STEADY_SECONDS = 60.0  # a worker that ran for longer than this is restarted without delay
RESTART = (1.0, 30.0)  # shortest and longest delay before a failed worker is restarted, in seconds


@dataclass(frozen=True, slots=True)
class LocalOptions:
    """The number of workers of a server, None for the default, and their options."""

    workers: int | None
    each: WorkerOptions


def run_server(settings: Settings, host: str, port: int, local_options: LocalOptions, parent: int | None) -> None:
    """Serve until SIGTERM, SIGINT, or the parent process exits; then stop the workers. Raises Failure, InvalidInput."""
    from service.web.serve import serve

    configure_logging(settings, "server")
    restrict_access(settings)
    with LocalWorkers(settings, _count(local_options.workers), local_options.each) as local:

        def ready(address: str) -> None:
            sys.stdout.write(f"Thawline serves at {address} (press Ctrl-C to stop)\n")
            sys.stdout.flush()

        serve(settings, host, port, stop=_parent_exited(parent), bound=local.start, ready=ready)


def upgrade_database(settings: Settings, *, as_json: bool) -> None:
    """Create or migrate the tables. Raises SchemaTooNew, StoreUnavailable, InvalidInput."""
    from service.store import migrate

    if (warning := settings.protect_home()) is not None:
        sys.stderr.write(f"{warning}\n")
    migrate.upgrade(settings.database_url)
    _print_schema(True, as_json)


def check_database(settings: Settings, *, as_json: bool) -> None:
    """Raises Failure if the schema is older than this version, SchemaTooNew, StoreUnavailable, InvalidInput."""
    from service.store import migrate

    _print_schema(is_current := migrate.check(settings.database_url), as_json)
    if not is_current:
        raise Failure("The database has an older schema than this version; run `thaw db upgrade`.")


def _print_schema(is_current: bool, as_json: bool) -> None:
    if as_json:
        print_json({"schema_is_current": is_current})
    elif is_current:
        sys.stdout.write("The database has the schema of this version.\n")


def _count(workers: int | None) -> int:
    if workers is None and not has_torch():
        sys.stderr.write(f"No local worker is started. {NO_TORCH}\n")
        return 0
    if workers and not has_torch():
        raise Failure(NO_TORCH)
    return 1 if workers is None else workers


def _parent_exited(parent: int | None) -> threading.Event:
    """An event that is set when the parent process has exited; never, if `parent` is None."""
    exited = threading.Event()
    parent_lives = is_child_of(parent)

    def poll() -> None:
        while parent_lives():
            time.sleep(0.5)
        exited.set()

    if parent is not None:
        threading.Thread(target=poll, name="parent", daemon=True).start()
    return exited


class LocalWorkers:
    """Runs `thaw worker` processes from `start` to the end of the block. Restarts failed workers, but not those that were drained."""

    def __init__(self, settings: Settings, count: int, options: WorkerOptions) -> None:
        """`options` are those of each worker, except that they divide its GPUs. Raises Failure if it names a GPU that is not there."""
        self._settings = settings
        given = {"--slots": options.slots, "--slots-per-gpu": options.slots_per_gpu}
        self._options = [word for name, value in given.items() if value is not None for word in (name, str(value))]
        self._names_gpus = options.gpus is not None
        self._ending = threading.Event()
        shares = _shares(count, options.gpus)
        self._threads = [
            threading.Thread(
                target=self._supervise, args=(share, max(1, cores() // count), gpu_workers(shares, share)), name=f"worker-{number}"
            )
            for number, share in enumerate(shares)
        ]

    def __enter__(self) -> Self:
        return self

    def start(self) -> None:
        """Start all workers."""
        for thread in self._threads:
            thread.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ending.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def command(self, share: Sequence[Device] | None, core_share: int, workers_on_share: int = 1) -> list[str]:
        """The command of a worker with this share of the GPUs, which so many workers use, and so many cores."""
        named = ["--gpus", ",".join(device.id for device in share)] if share and self._names_gpus else []
        shared = ["--gpu-workers", str(workers_on_share)] if workers_on_share > 1 else []
        start = [sys.executable, "-P", "-m", "service.cli", "worker", "--cores", str(core_share), "--parent", str(os.getpid())]
        return [*start, *self._options, *named, *shared]

    def _supervise(self, share: Sequence[Device] | None, core_share: int, workers_on_share: int) -> None:
        """Run one worker on its share of the GPUs, and restart it if it fails."""
        command, environment = self.command(share, core_share, workers_on_share), self._environment(share)
        backoff = Backoff(*RESTART)
        while not self._ending.is_set():
            started_at = time.monotonic()
            # In its own session, so that Ctrl-C reaches only the server, which then stops the workers.
            worker = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603  (a fixed list)
            self._await(worker)
            if worker.returncode == 0 and not self._ending.is_set():
                sys.stderr.write("A local worker was drained and has exited; it is not restarted.\n")
                return
            if time.monotonic() - started_at > STEADY_SECONDS:
                backoff.reset()
            elif not self._ending.is_set():
                delay = backoff.delay()
                sys.stderr.write(f"A local worker failed with exit code {worker.returncode}; it is restarted in {delay:.0f} s.\n")
                self._ending.wait(delay)

    def _await(self, worker: subprocess.Popen[bytes]) -> None:
        """Wait until the worker has exited; when the block ends, terminate it."""
        while worker.poll() is None and not self._ending.wait(0.1):
            pass
        if worker.poll() is None:
            end_process(worker, END_SECONDS)  # trainers of a killed worker exit when their standard input is closed

    def _environment(self, gpu_share: Sequence[Device] | None) -> dict[str, str]:
        if gpu_share is None or self._names_gpus:
            return environment_of(self._settings)
        variable = "HIP_VISIBLE_DEVICES" if gpu_share[0].kind == "rocm" else "CUDA_VISIBLE_DEVICES"
        return environment_of(self._settings) | {variable: ",".join(device.id for device in gpu_share)}


def end_process(process: subprocess.Popen[Any], seconds: float) -> None:
    """Terminate the process, and kill it if it has not exited after `seconds`. Returns when it has exited."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def environment_of(settings: Settings) -> dict[str, str]:
    """The environment for a child process: this process's, with the settings, command-line options included."""
    overrides = {
        "THAW_HOME": str(settings.home),
        "THAW_DATABASE_URL": settings.database_url,
        "THAW_HEARTBEAT_SECONDS": str(settings.heartbeat_seconds),
        "THAW_LEASE_SECONDS": str(settings.lease_seconds),
        "THAW_CACHE_BYTES": str(settings.cache_bytes),
        "THAW_LANE_BYTES": str(settings.lane_bytes),
        "THAW_DISK_FLOOR_BYTES": str(settings.disk_floor_bytes),
    }
    return {**os.environ, **overrides}


def _shares(count: int, gpus: str | None) -> list[Sequence[Device] | None]:
    if count == 0 or (count == 1 and gpus is None):  # a single worker finds its devices itself
        return [None] * count
    found = find_devices()
    return share_gpus(found.devices if gpus is None else chosen(found, gpus), count)


def share_gpus(found: Sequence[Device], workers: int) -> list[Sequence[Device] | None]:
    """Divide the GPUs among the workers. Several workers share a GPU if there are fewer GPUs than workers; None means no GPU."""
    if not found:
        return [None] * workers
    return [found[number::workers] or (found[number % len(found)],) for number in range(workers)]


def gpu_workers(shares: Sequence[Sequence[Device] | None], share: Sequence[Device] | None) -> int:
    """The number of workers that use the GPUs of this share: one, unless there are fewer GPUs than workers."""
    return shares.count(share) if share else 1


def run_dashboard(settings: Settings, host: str, port: int) -> None:
    """Serve the pages read-only until SIGTERM or SIGINT.

    Raises Failure with the database's URL, TokenRequired, AddressUnavailable, InvalidInput.
    """
    from service.store import without_password
    from service.web.serve import show

    configure_logging(settings, "dashboard")
    database = without_password(settings.database_url)

    def ready(address: str) -> None:
        sys.stdout.write(f"Thawline shows {database} at {address} (press Ctrl-C to stop)\n")
        sys.stdout.flush()

    try:
        show(settings, host, port, ready=ready)
    except (NotADatabase, SchemaTooOld, SchemaTooNew, StoreUnavailable) as error:
        raise Failure(f"{database}: {error}") from error
