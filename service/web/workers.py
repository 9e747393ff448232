"""Endpoints that list and drain workers."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from service import operations
from service.domain.records import Worker
from service.rest_models import WorkersView, WorkerView
from service.store import Transaction, queries
from service.web import API
from service.web.dependencies import TheStore
from service.web.requests import Keyed
from service.web.views import worker_view

router = APIRouter(prefix=API, tags=["workers"])

WorkerId = Annotated[str, Path(description="the worker's id", examples=["box-7-a1b2c3"])]


@router.get("/workers", summary="List the workers")
def list_workers(store: TheStore) -> WorkersView:
    """All workers, whether alive, draining or gone, with the trials that they are running."""
    with store.reading() as tx:
        loads, unavailable = queries.trials_by_worker(tx), queries.unavailabilities(tx)
        return WorkersView(workers=[worker_view(worker, loads.get(worker.id, []), unavailable) for worker in queries.workers(tx)])


@router.post("/workers/{worker}/drain", summary="Drain a worker", response_model=WorkerView)
def drain_worker(worker: WorkerId, keyed: Keyed, store: TheStore) -> Response:
    """The worker claims no more trials, completes those it runs, and exits. No effect on a worker that is draining or gone."""
    return keyed.change(store, lambda key: operations.drain_worker(store, worker, key), _body)


def _body(tx: Transaction, worker: Worker) -> str:
    return worker_view(worker, queries.trials_by_worker(tx).get(worker.id, []), queries.unavailabilities(tx)).model_dump_json()
