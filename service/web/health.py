"""The server's health: the background sweep for lost workers and obsolete rows, liveness, readiness, Prometheus metrics."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client import Counter as CounterMetric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from pydantic import Field
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import operations
from service.domain.errors import StoreUnavailable
from service.domain.records import SinkStatus, Study, Trial
from service.domain.states import StudyState, TrialState
from service.reaper import Reaper
from service.rest_models import View
from service.settings import Settings
from service.store import Store, queries
from service.web.dependencies import Disk, TheStore, free_bytes
from service.web.events import Streams
from service.web.problems import NOT_READY, ProblemError

log = logging.getLogger("thawline.web")

LATE_AFTER_SWEEPS = 12
TIDY_SECONDS = 60.0  # between two checks of imports and workers; an import without progress between two checks is aborted
REMOVAL_SECONDS = 1.0  # limit on the time in which one sweep removes rows of deleted studies and failed imports


class Sweeper:
    """Runs a sweep every `look_seconds` between `start` and `stop`. A failed sweep is logged; the next one is the retry."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._reaper = Reaper(store, settings.lease_seconds)
        self._cleanup = Cleanup(store)
        self._pause_seconds = settings.look_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)
        self._made_at = time.monotonic()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread. Waits up to 5 seconds for a sweep in progress."""
        self._stopping.set()
        self._thread.join(timeout=5)

    def age_seconds(self) -> float:
        """Seconds since the last successful sweep, or since the sweeper was created."""
        age = self._reaper.seconds_since_sweep
        return time.monotonic() - self._made_at if age is None else age

    def is_late(self) -> bool:
        """Whether no sweep has succeeded for `LATE_AFTER_SWEEPS` intervals."""
        return self.age_seconds() > LATE_AFTER_SWEEPS * self._pause_seconds

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._reaper.sweep()
            except Exception:
                log.exception("the sweep for lost trials failed")
            try:
                self._cleanup.sweep()
            except Exception:
                log.exception("obsolete rows could not be removed")
            self._stopping.wait(self._pause_seconds)


class Cleanup:
    """Removes the rows of deleted studies, failed imports, workers without a heartbeat for 30 days, and excess idempotency keys."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._imports: Mapping[str, int] = {}
        self._looked_at: float | None = None

    def sweep(self) -> None:
        """Remove hidden rows for at most `REMOVAL_SECONDS`; once a minute also stalled imports, old workers and excess keys.

        StoreUnavailable is logged, not raised.
        """
        now = self._clock()
        try:
            if self._looked_at is None or now - self._looked_at >= TIDY_SECONDS:
                self._imports = operations.sweep_imports(self._store, self._imports)
                operations.forget_workers(self._store)
                operations.forget_sinks(self._store)
                operations.bound_keys(self._store)
                self._looked_at = now
            while operations.remove_hidden(self._store) and self._clock() - now < REMOVAL_SECONDS:
                pass
        except StoreUnavailable as error:
            log.warning("obsolete rows could not be removed: %s", error)


UNMATCHED = "unmatched"
REQUEST_SECONDS = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0)  # limits of the buckets
LISTED_STUDIES = 100  # of which the progress is a metric, newest first: the number of series is bounded
METHODS = frozenset({"GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"})

router = APIRouter(tags=["service"])


class Alive(View):
    status: str = Field(default="alive")


class Ready(View):
    status: str = Field(default="ready")
    sweep_age_seconds: float | None = Field(description="seconds since the last check for lost workers; null on a read-only server")


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
    """Studies and trials, failures, attempts, training speed, saved time, workers and devices, requests and open event streams."""
    figures: PrometheusMetrics = request.app.state.figures
    return Response(generate_latest(figures.registry), media_type=CONTENT_TYPE_LATEST)


class PrometheusMetrics:
    """The metrics of one app, in a separate registry."""

    def __init__(self, store: Store, streams: Streams, sweeper: Sweeper | None, disk: Disk) -> None:
        self.registry = CollectorRegistry()
        self.requests = CounterMetric(
            "thawline_http_requests", "Requests by method, route and status.", ["method", "route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "thawline_http_request_seconds", "Seconds until a response began, by method and route.", ["method", "route"],
            buckets=REQUEST_SECONDS, registry=self.registry,
        )  # fmt: skip
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

    def describe(self) -> Iterator[Metric]:
        """Yields nothing, so that the registry does not query the store when the collector is registered."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        with self.store.reading() as tx:
            studies, trials = queries.totals(tx)
            failures, attempts = queries.failures(tx), queries.attempt_ends(tx)
            open_studies = queries.studies(tx, LISTED_STUDIES, states=(StudyState.ACTIVE, StudyState.PAUSED))
            counts, best = queries.counts(tx, [one.id for one in open_studies]), queries.best_trials(tx, open_studies)
            workers = queries.workers(tx)
            sinks = queries.sinks(tx)
            saved, throughput = queries.saved_seconds(tx).values(), queries.throughput(tx)
        alive = [worker for worker in workers if worker.state == "alive"]
        devices = Counter(name for worker in alive for name in worker.device_names or worker.devices)
        saved_seconds = {"features": sum(one.features_seconds for one in saved), "duplicates": sum(one.duplicates_seconds for one in saved)}
        speed = throughput.samples_per_second
        yield _family("thawline_studies", "Studies by state.", "state", studies)
        yield _family("thawline_trials", "Trials by state.", "state", trials)
        yield _family("thawline_failed_trials", "Failed trials by reason.", "reason", failures)
        yield _family(
            "thawline_attempts", "Attempts at trials by their end: lost is an expired lease; running has not ended.", "end", attempts
        )
        yield from _of_studies(open_studies, counts, best)
        yield _family("thawline_saved_seconds", "Saved seconds of training, by mechanism.", "by", saved_seconds)
        yield GaugeMetricFamily(
            "thawline_samples_per_second", "Training examples a second; trials trained together count once.", value=speed
        )
        yield GaugeMetricFamily("thawline_lanes_running", "Running trials that are trained together with others.", value=throughput.lanes)
        yield GaugeMetricFamily("thawline_workers_alive", "Workers that are alive.", value=len(alive))
        yield GaugeMetricFamily("thawline_slots", "Slots of the workers that are alive.", value=sum(one.slots for one in alive))
        yield _family("thawline_devices", "Devices of the workers that are alive.", "device", devices)
        unusable = sum(len(one.unusable) for one in alive)
        yield GaugeMetricFamily("thawline_unusable_devices", "Devices that a worker found and cannot use.", value=unusable)
        yield from _of_sinks(sinks)


def _of_studies(studies: Sequence[Study], counts: Mapping[str, Mapping[TrialState, int]], best: Mapping[str, Trial]) -> Iterator[Metric]:
    trials = GaugeMetricFamily("thawline_study_trials", "Trials of the search of an open study, by state.", labels=["study", "state"])
    for one in studies:
        for state, count in counts[one.id].items():
            trials.add_metric([one.name, state], count)
    yield trials
    budgets = {one.name: one.spec.budget.trials for one in studies if one.spec.budget.trials is not None}
    yield _family("thawline_study_budget_trials", "Trials that the budget of an open study allows.", "study", budgets)
    values = {one.name: value for one in studies if one.id in best and (value := best[one.id].value) is not None}
    yield _family("thawline_study_best", "Best value of the objective of an open study.", "study", values)


def _of_sinks(sinks: Sequence[SinkStatus]) -> Iterator[Metric]:
    counters = {name: {one.name: getattr(one, name) for one in sinks} for name in ("delivered", "skipped", "backlog", "failures")}
    yield _family("thawline_sink_delivered_events", "Events that a sink has delivered.", "sink", counters["delivered"], CounterMetricFamily)
    yield _family("thawline_sink_skipped_events", "Events that a receiver refused.", "sink", counters["skipped"], CounterMetricFamily)
    yield _family("thawline_sink_backlog_events", "Events that a sink has not delivered yet.", "sink", counters["backlog"])
    yield _family("thawline_sink_failures", "Failed deliveries of a sink since the last success.", "sink", counters["failures"])


def _family(
    name: str,
    help_text: str,
    label: str,
    values: Mapping[Any, float],
    kind: type[GaugeMetricFamily | CounterMetricFamily] = GaugeMetricFamily,
) -> GaugeMetricFamily | CounterMetricFamily:
    family = kind(name, help_text, labels=[label])
    for label_value, value in values.items():
        family.add_metric([str(label_value)], value)
    return family


class MetricsMiddleware:
    """Counts and times responses. The route label is the path template, so that the number of series is bounded."""

    def __init__(self, app: ASGIApp, figures: PrometheusMetrics) -> None:
        self.app = app
        self.figures = figures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        began_at = time.perf_counter()

        async def count_response(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", UNMATCHED)
                method = scope["method"] if scope["method"] in METHODS else "other"
                self.figures.requests.labels(method, route, str(message["status"])).inc()
                self.figures.seconds.labels(method, route).observe(time.perf_counter() - began_at)
            await send(message)

        await self.app(scope, receive, count_response)
