"""Liveness, readiness and Prometheus metrics of the server."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client import Counter as CounterMetric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import operations
from service.rest_models import Alive, Ready
from service.store import Store, queries
from service.web.dependencies import Disk, TheStore, free_bytes
from service.web.problems import NOT_READY, ProblemError
from service.web.streams import Streams
from service.web.sweeper import Sweeper

UNMATCHED = "unmatched"
METHODS = frozenset({"GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"})

router = APIRouter(tags=["service"])


@router.get("/livez", summary="Check liveness")
async def livez() -> Alive:
    """200 as long as the process responds. Requires no token."""
    return Alive()


def sweeper_of(request: Request) -> Sweeper | None:
    """The app's sweeper; None if the app is read-only."""
    sweeper: Sweeper | None = request.app.state.sweeper
    return sweeper


@router.get("/readyz", summary="Check readiness")
def readyz(store: TheStore, sweeper: Annotated[Sweeper | None, Depends(sweeper_of)]) -> Ready:
    """503 if the database is unavailable or refuses writes, or if the check for lost workers is overdue."""
    store.read(queries.studies, limit=1)
    if sweeper is None:
        return Ready(sweep_age_seconds=None)
    operations.try_to_write(store)
    if sweeper.is_late():
        raise ProblemError(NOT_READY, "The check for lost workers is overdue; see the server's log.")
    return Ready(sweep_age_seconds=round(sweeper.age_seconds(), 3))


@router.get("/metrics", summary="Show Prometheus metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def show_metrics(request: Request) -> Response:
    """Studies and trials by state, training speed, saved time, workers, requests and open event streams."""
    figures: PrometheusMetrics = request.app.state.figures
    return Response(generate_latest(figures.registry), media_type=CONTENT_TYPE_LATEST)


class PrometheusMetrics:
    """The metrics of one app, in a separate registry."""

    def __init__(self, store: Store, streams: Streams, sweeper: Sweeper | None, disk: Disk) -> None:
        self.registry = CollectorRegistry()
        self.requests = CounterMetric(
            "thawline_http_requests", "Requests by method, route and status.", ["method", "route", "status"], registry=self.registry
        )
        Gauge("thawline_event_streams", "Open event streams.", registry=self.registry).set_function(lambda: streams.open)
        if sweeper:
            Gauge("thawline_sweep_age_seconds", "Seconds since the last check for lost workers.", registry=self.registry).set_function(
                sweeper.age_seconds
            )
        Gauge(
            "thawline_disk_free_bytes",
            "Free bytes on the disk of the embedded database, or else of THAW_HOME.",
            registry=self.registry,
        ).set_function(lambda: free_bytes(disk.path) or 0)
        self.registry.register(_Rows(store))


class _Rows(Collector):
    """Metrics that are read from the store at each scrape."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Yields nothing, so that the registry does not query the store when the collector is registered."""
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        with self.store.reading() as tx:
            studies, trials = queries.totals(tx)
            workers = queries.workers(tx)
            saved, throughput = queries.saved_seconds(tx).values(), queries.throughput(tx)
        alive = sum(worker.state == "alive" for worker in workers)
        saved_seconds = {"features": sum(one.features_seconds for one in saved), "duplicates": sum(one.duplicates_seconds for one in saved)}
        speed = throughput.samples_per_second
        yield _family("thawline_studies", "Studies by state.", "state", studies)
        yield _family("thawline_trials", "Trials by state.", "state", trials)
        yield _family("thawline_saved_seconds", "Saved seconds of training, by mechanism.", "by", saved_seconds)
        yield GaugeMetricFamily(
            "thawline_samples_per_second", "Training examples a second; trials trained together count once.", value=speed
        )
        yield GaugeMetricFamily("thawline_lanes_running", "Running trials that are trained together with others.", value=throughput.lanes)
        yield GaugeMetricFamily("thawline_workers_alive", "Workers that are alive.", value=alive)


def _family(name: str, help_text: str, label: str, values: Mapping[Any, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, help_text, labels=[label])
    for label_value, value in values.items():
        family.add_metric([str(label_value)], value)
    return family


class MetricsMiddleware:
    """Counts responses by method, route and status. The route label is the path template, so that the number of series is bounded."""

    def __init__(self, app: ASGIApp, figures: PrometheusMetrics) -> None:
        self.app = app
        self.figures = figures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def count_response(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", UNMATCHED)
                method = scope["method"] if scope["method"] in METHODS else "other"
                self.figures.requests.labels(method, route, str(message["status"])).inc()
            await send(message)

        await self.app(scope, receive, count_response)
