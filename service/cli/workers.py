"""Commands on workers: who is there, and the word that lets one go."""

from service.answers import Worker
from service.cli.console import console, duration, table
from service.client import Client
from service.settings import Settings


def list_workers(settings: Settings) -> None:
    """A line for each worker."""
    with Client(settings.server, settings.token) as client:
        rows = [_row(worker) for worker in client.workers()]
    console().print(table(("worker", "state", "slots", "devices", "runs", "heartbeat"), rows))


def drain_worker(settings: Settings, worker: str) -> None:
    """Tell the worker to end its trials and go, and say what its state is now."""
    with Client(settings.server, settings.token) as client:
        drained = client.drain_worker(worker)
    console().print(f"{drained.id}: {drained.state}, {len(drained.running)} under way")


def _row(worker: Worker) -> tuple[str, ...]:
    runs = " ".join(f"{one.study}:{one.number}" for one in worker.running)
    devices = " ".join(dict.fromkeys(worker.devices))
    return worker.id, worker.state, str(worker.slots), devices, runs or "-", f"{duration(worker.silent_seconds)} ago"
