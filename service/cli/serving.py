"""`thaw serve` and `thaw dashboard`: the server in this process, with local workers as children that end with it."""

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
from service.cli.worker import NO_TORCH, has_torch, is_child_of, keep_to_ourselves
from service.domain.errors import NotADatabase, SchemaTooNew, SchemaTooOld, StoreUnavailable
from service.settings import Settings
from service.store import migrate, without_password
from service.timing import Backoff
from service.worker.devices import cores, gpus

END_SECONDS = 11.0  # a worker hands its trials back within ten
STEADY_SECONDS = 60.0  # a worker that lived so long is started again without delay
RESTART = (1.0, 30.0)  # seconds before a worker that died is started again


def run_server(settings: Settings, host: str, port: int, workers: int | None, slots: int | None, parent: int | None) -> None:
    """Serve until SIGTERM, SIGINT, or the end of the parent process; the workers end with it. Raises Failure, InvalidInput."""
    from service.web.serve import serve

    logging_config.configure_logging(settings, "server")
    keep_to_ourselves(settings)
    with LocalWorkers(settings, _count(workers), slots) as local:

        def ready(address: str) -> None:
            sys.stdout.write(f"Thawline serves at {address} (Ctrl-C ends it)\n")
            sys.stdout.flush()

        serve(settings, host, port, stop=_when_gone(parent), bound=local.start, ready=ready)


def upgrade_database(settings: Settings) -> None:
    """Create or migrate the tables. Raises SchemaTooNew, StoreUnavailable, InvalidInput."""
    if (remark := settings.protect_home()) is not None:
        sys.stderr.write(f"{remark}\n")
    migrate.upgrade(settings.database_url)
    sys.stdout.write("The database has this version's schema.\n")


def check_database(settings: Settings) -> None:
    """Raises Failure when the schema is an older one, SchemaTooNew, StoreUnavailable, InvalidInput."""
    if not migrate.check(settings.database_url):
        raise Failure("The database does not have this version's schema; run `thaw db upgrade`.")
    sys.stdout.write("The database has this version's schema.\n")


def _count(workers: int | None) -> int:
    if workers is None and not has_torch():
        sys.stderr.write(f"No local worker is started. {NO_TORCH}\n")
        return 0
    if workers and not has_torch():
        raise Failure(NO_TORCH)
    return 1 if workers is None else workers


def _when_gone(parent: int | None) -> threading.Event:
    """An event that is set when the parent process has gone; never, when there is none."""
    gone = threading.Event()
    wanted = is_child_of(parent)

    def look() -> None:
        while wanted():
            time.sleep(0.5)
        gone.set()

    if parent is not None:
        threading.Thread(target=look, name="parent", daemon=True).start()
    return gone


class LocalWorkers:
    """`thaw worker` processes on this machine, from `start` to the end of the block; who dies is started again, who left is not."""

    def __init__(self, settings: Settings, count: int, slots: int | None = None) -> None:
        """`slots` is how many each has; None leaves it to the worker."""
        self._settings = settings
        self._slots: list[str] = [] if slots is None else ["--slots", str(slots)]
        self._ending = threading.Event()
        shares = share_gpus(gpus(), count)
        self._minders = [
            threading.Thread(target=self._mind, args=(self._environment(share), max(1, cores() // count)), name=f"worker-{number}")
            for number, share in enumerate(shares)
        ]

    def __enter__(self) -> Self:
        return self

    def start(self) -> None:
        """Start all of them."""
        for minder in self._minders:
            minder.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ending.set()
        for minder in self._minders:
            if minder.is_alive():
                minder.join()

    def _mind(self, environment: dict[str, str], core_share: int) -> None:
        """Keep one worker alive."""
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
            worker = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603  (a fixed list)
            self._await(worker)
            if worker.returncode == 0 and not self._ending.is_set():
                sys.stderr.write("A worker left as it was told to; it is not started again.\n")
                return
            if time.monotonic() - started_at > STEADY_SECONDS:
                backoff.reset()
            elif not self._ending.is_set():
                delay = backoff.delay()
                sys.stderr.write(f"A worker ended with exit code {worker.returncode}; the next one starts in {delay:.0f} s.\n")
                self._ending.wait(delay)

    def _await(self, worker: subprocess.Popen[bytes]) -> None:
        """Until it has ended, by itself or because all are to end."""
        while worker.poll() is None and not self._ending.wait(0.1):
            pass
        if worker.poll() is None:
            worker.terminate()
            try:
                worker.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                worker.kill()  # its trainers end with their orders
                worker.wait()

    def _environment(self, gpu_share: Sequence[str] | None) -> dict[str, str]:
        return environment_of(self._settings) | ({} if gpu_share is None else {"CUDA_VISIBLE_DEVICES": ",".join(gpu_share)})


def environment_of(settings: Settings) -> dict[str, str]:
    """Our environment for a child, with the settings as they are here, flags included."""
    own = {
        "THAW_HOME": str(settings.home),
        "THAW_DATABASE_URL": settings.database_url,
        "THAW_HEARTBEAT_SECONDS": str(settings.heartbeat_seconds),
        "THAW_LEASE_SECONDS": str(settings.lease_seconds),
        "THAW_CACHE_BYTES": str(settings.cache_bytes),
        "THAW_LANE_BYTES": str(settings.lane_bytes),
        "THAW_DISK_FLOOR_BYTES": str(settings.disk_floor_bytes),
    }
    return {**os.environ, **own}


def share_gpus(found: Sequence[str], workers: int) -> list[Sequence[str] | None]:
    """The GPUs of each worker: divided, or shared in turn when there are fewer than workers; None where there is none."""
    if not found:
        return [None] * workers
    return [found[number::workers] or (found[number % len(found)],) for number in range(workers)]


def run_dashboard(settings: Settings, host: str, port: int) -> None:
    """Show the pages until SIGTERM or SIGINT. Raises Failure that names the database, TokenRequired, AddressUnavailable, InvalidInput."""
    from service.web.serve import show

    logging_config.configure_logging(settings, "dashboard")
    database = without_password(settings.database_url)

    def ready(address: str) -> None:
        sys.stdout.write(f"Thawline shows {database} at {address} (Ctrl-C ends it)\n")
        sys.stdout.flush()

    try:
        show(settings, host, port, ready=ready)
    except (NotADatabase, SchemaTooOld, SchemaTooNew, StoreUnavailable) as error:
        raise Failure(f"{database}: {error}") from error
