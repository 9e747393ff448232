"""The workers that have shown themselves to the store, and what they run."""

from fastapi import APIRouter

from service.store import queries
from service.web import API
from service.web.dependencies import TheStore
from service.web.views import WorkersView, worker_view

router = APIRouter(prefix=API, tags=["workers"])


@router.get("/workers", summary="List the workers")
def list_workers(store: TheStore) -> WorkersView:
    """Every worker that was seen, alive or gone, with the trials that it runs now."""
    with store.reading() as tx:
        loads = queries.loads(tx)
        return WorkersView(workers=[worker_view(worker, loads.get(worker.id, [])) for worker in queries.workers(tx)])
