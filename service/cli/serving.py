"""`thaw serve`, `thaw dashboard` and `thaw db`: runs the server in this process, with local workers as child processes."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from service.cli import logging_config
from service.cli.failures import Failure
from service.cli.worker import NO_TORCH, has_torch, is_child_of, restrict_access
from service.domain.errors import NotADatabase, SchemaTooNew, SchemaTooOld, StoreUnavailable
from service.settings import Settings
from service.store import migrate, without_password
from service.timing import Backoff
from service.worker.devices import cores, gpus

END_SECONDS = 11.0  # a worker releases its trials within ten seconds
STEADY_SECONDS = 60.0  # a worker that ran for longer than this is restarted without delay
RESTART = (1.0, 30.0)  # shortest and longest delay before a failed worker is restarted, in seconds


def run_server(settings: Settings, host: str, port: int, workers: int | None, slots: int | None, parent: int | None) -> None:
    """Serve until SIGTERM, SIGINT, or the parent process exits; then stop the workers. Raises Failure, InvalidInput."""
    from service.web.serve import serve

    logging_config.configure_logging(settings, "server")
    restrict_access(settings)
    with LocalWorkers(settings, _count(workers), slots) as local:

        def ready(address: str) -> None:
            sys.stdout.write(f"Thawline serves at {address} (press Ctrl-C to stop)\n")
            sys.stdout.flush()

        serve(settings, host, port, stop=_parent_exited(parent), bound=local.start, ready=ready)


def upgrade_database(settings: Settings) -> None:
    """Create or migrate the tables. Raises SchemaTooNew, StoreUnavailable, InvalidInput."""
    if (warning := settings.protect_home()) is not None:
        sys.stderr.write(f"{warning}\n")
    migrate.upgrade(settings.database_url)
    sys.stdout.write("The database has the schema of this version.\n")


def check_database(settings: Settings) -> None:
    """Raises Failure if the schema is older than this version, SchemaTooNew, StoreUnavailable, InvalidInput."""
    if not migrate.check(settings.database_url):
        raise Failure("The database has an older schema than this version; run `thaw db upgrade`.")
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

    def __init__(self, settings: Settings, count: int, slots: int | None = None) -> None:
        """`slots` is the number of slots of each worker; None: the default of `thaw worker`."""
        self._settings = settings
        self._slots: list[str] = [] if slots is None else ["--slots", str(slots)]
        self._ending = threading.Event()
        shares = share_gpus(gpus(), count)
        self._threads = [
            threading.Thread(target=self._supervise, args=(self._environment(share), max(1, cores() // count)), name=f"worker-{number}")
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

    def _supervise(self, environment: dict[str, str], core_share: int) -> None:
        """Run one worker, and restart it if it fails."""
        backoff = Backoff(*RESTART)
        command = [
            sys.executable,
            "-P",
            "-m",
            "service.cli",
            "worker",
            "--cores",
            str(core_share),
            "--parent",
            str(os.getpid()),
            *self._slots,
        ]
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
            worker.terminate()
            try:
                worker.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                worker.kill()  # its trainers exit when their standard input is closed
                worker.wait()

    def _environment(self, gpu_share: Sequence[str] | None) -> dict[str, str]:
        return environment_of(self._settings) | ({} if gpu_share is None else {"CUDA_VISIBLE_DEVICES": ",".join(gpu_share)})


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


def share_gpus(found: Sequence[str], workers: int) -> list[Sequence[str] | None]:
    """Divide the GPUs among the workers. Several workers share a GPU if there are fewer GPUs than workers; None means no GPU."""
    if not found:
        return [None] * workers
    return [found[number::workers] or (found[number % len(found)],) for number in range(workers)]


def run_dashboard(settings: Settings, host: str, port: int) -> None:
    """Serve the pages read-only until SIGTERM or SIGINT.

    Raises Failure with the database's URL, TokenRequired, AddressUnavailable, InvalidInput.
    """
    from service.web.serve import show

    logging_config.configure_logging(settings, "dashboard")
    database = without_password(settings.database_url)

    def ready(address: str) -> None:
        sys.stdout.write(f"Thawline shows {database} at {address} (press Ctrl-C to stop)\n")
        sys.stdout.flush()

    try:
        show(settings, host, port, ready=ready)
    except (NotADatabase, SchemaTooOld, SchemaTooNew, StoreUnavailable) as error:
        raise Failure(f"{database}: {error}") from error
