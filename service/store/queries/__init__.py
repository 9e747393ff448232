"""Every read. Each query takes a transaction: `store.read(queries.best_trial, study)`, or several in one `store.reading()`."""

from service.store.queries.answers import answer_under, session_key
from service.store.queries.attempts import attempts, log_chunks
from service.store.queries.changes import trials_changed_after
from service.store.queries.claims import strangers
from service.store.queries.confirmations import count_repeats, numbered, repeats
from service.store.queries.courses import courses
from service.store.queries.curves import Curve, Moved, curves, metric_names, trials_moved
from service.store.queries.events import events_after
from service.store.queries.extents import Extent, extents
from service.store.queries.history import History, changed_since
from service.store.queries.identity import identity
from service.store.queries.manifests import manifest
from service.store.queries.savings import Saved, Throughput, saved, throughput
from service.store.queries.standstills import standstills
from service.store.queries.studies import (
    Candidate,
    candidates,
    count_studies,
    counts,
    find_study,
    is_being_imported,
    studies,
    totals,
    unchecked_study,
)
from service.store.queries.tables import TableRow, table_rows
from service.store.queries.travelling import reports_between, trials_between
from service.store.queries.trends import completed_since, records
from service.store.queries.trials import Sort, best_trial, best_trials, find_trial, metrics, running_leases, trials
from service.store.queries.workers import count_live, find_worker, is_draining, loads, unavailabilities, workers

__all__ = [
    "Candidate", "Curve", "Extent", "History", "Moved", "Saved", "Sort", "TableRow", "Throughput", "answer_under", "attempts",
    "best_trial", "best_trials", "candidates", "changed_since", "completed_since", "count_live", "count_repeats", "count_studies",
    "counts", "courses", "curves", "events_after", "extents", "find_study", "find_trial", "find_worker", "identity",
    "is_being_imported", "is_draining", "loads", "log_chunks", "manifest", "metric_names", "metrics", "numbered", "records",
    "repeats", "reports_between", "running_leases", "saved", "session_key", "standstills", "strangers", "studies", "table_rows",
    "throughput", "totals", "trials", "trials_between", "trials_changed_after", "trials_moved", "unavailabilities",
    "unchecked_study", "workers",
]  # fmt: skip
