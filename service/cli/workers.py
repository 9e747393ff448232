"""List and drain workers."""

from collections.abc import Iterator

from service.cli.console import console, duration, table
from service.client import Client
from service.rest_models import WorkerView
from service.settings import Settings


def list_workers(settings: Settings) -> None:
    """A line for each worker."""
    with Client(settings.server, settings.token) as client:
        workers = client.workers()
    console().print(table(("worker", "state", "slots", "devices", "runs", "heartbeat"), [_row(worker) for worker in workers]))
    for worker in workers:
        for remark in _remarks(worker):
            console().print(f"{worker.id}: {remark}")


def drain_worker(settings: Settings, worker: str) -> None:
    """Tell the worker to end its trials and go, and say what its state is now."""
    with Client(settings.server, settings.token) as client:
        drained = client.drain_worker(worker)
    console().print(f"{drained.id}: {drained.state}, {len(drained.running)} under way")


def _remarks(worker: WorkerView) -> Iterator[str]:
    for one in worker.unavailable:
        yield f"claims no trials of {one.study}, because it cannot read the {one.what}: {one.detail}"
    if worker.set_aside:
        yield f"the database did not accept {worker.set_aside} of its results; they are in THAW_HOME/spool, and its log has the reasons"


def _row(worker: WorkerView) -> tuple[str, ...]:
    runs = " ".join(f"{one.study}:{one.number}" for one in worker.running)
    devices = " ".join(dict.fromkeys(worker.devices))
    return worker.id, worker.state, str(worker.slots), devices, runs or "-", f"{duration(worker.silent_seconds)} ago"
