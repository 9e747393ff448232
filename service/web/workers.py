"""The workers that have shown themselves to the store."""

from fastapi import APIRouter

from service.store import queries
from service.web import API
from service.web.dependencies import TheStore
from service.web.views import WorkersView, worker_view

router = APIRouter(prefix=API, tags=["workers"])


@router.get("/workers", summary="List the workers")
def list_workers(store: TheStore) -> WorkersView:
    """Every worker that was seen, alive or gone."""
    return WorkersView(workers=[worker_view(worker) for worker in store.read(queries.workers)])
