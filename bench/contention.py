"""Measures how long 32 concurrent workers wait for the store (claims, reports, heartbeats), compared with Optuna's RDBStorage.

    python -m bench.contention [--record] [--workers 32] [--seconds 20] [--rounds 2] [--only sqlite|postgresql]

Each worker is a process that runs one trial at a time: it claims, sends a report and a heartbeat every second, and ends the trial after
ten reports, as a worker with epochs of one second does. Both sides use the same kind of database and sample at random, so that no sampler
is measured, and they run alternately. On Optuna's side a heartbeat is `record_heartbeat`, a claim is `ask` with all parameters, and an
end is `tell`. Failed calls are counted separately.
"""

import argparse
import multiprocessing
import sqlite3
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import optuna
from optuna.storages import RDBStorage
from sqlalchemy.exc import SQLAlchemyError

from bench.asking import asked
from bench.control_plane import FACTS, LANE_BYTES, OPTUNA, REPORTS, SPACE, accuracy, our_trials, postgresql
from bench.tables import machine, record, table
from service import operations
from service.domain.errors import StoreUnavailable
from service.domain.records import MetricReport
from service.domain.samplers import Random
from service.domain.spec import Budget, Objective, TrainingStudy
from service.operations import Searches, Write
from service.store import open_store
from service.store.migrate import upgrade
from trainer.protocol import Finished
from trainer.tasks.images.config import ImageData, ImageModel

PACE_SECONDS = 1.0  # between two reports, and between two heartbeats
WARM_SECONDS = 3.0
CALLS = ("claim", "report", "heartbeat", "end")
Waits = Mapping[str, list[float]]


class Account:
    """Seconds per call, by name. Failed calls are counted and not timed."""

    def __init__(self, since: float) -> None:
        """`since`: wall time before which nothing is counted, because the first calls of a process compile their statements."""
        self.since = since
        self.waits: dict[str, list[float]] = defaultdict(list)
        self.failures = 0

    @contextmanager
    def timed(self, call: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        except (StoreUnavailable, SQLAlchemyError, optuna.exceptions.StorageInternalError):
            self.failures += 1
        else:
            if time.time() >= self.since:
                self.waits[call].append(time.perf_counter() - started)


def make_ours(url: str) -> None:
    upgrade(url)
    store = open_store(url)
    spec = TrainingStudy(
        name="bench", task="image_classification", data=ImageData(path="data"), model=ImageModel(name="squeezenet1_1"),
        search_space=SPACE, fixed={"epochs": REPORTS}, objective=Objective(metric="accuracy", direction="maximize"),
        sampler=Random(), budget=Budget(trials=100_000),
    )  # fmt: skip
    operations.pass_check(store, operations.create_study(store, spec).id, FACTS)
    our_trials(store, Searches(), gathered=True)
    store.close()


def ours(url: str, until: float, account: Account) -> None:
    """Run trials sequentially through `service.operations`, until the wall time `until`."""
    store, searches, name = open_store(url), Searches(), multiprocessing.current_process().name
    while time.time() < until:
        claims = []
        with account.timed("claim"):
            claims = operations.claim_together(store, searches, name, LANE_BYTES)
        for claim in claims:
            for step in range(1, REPORTS + 1):
                _pause(until)
                metrics = {"accuracy": accuracy(claim.params, step)}
                with account.timed("report"):
                    operations.record(store, [Write(claim.lease, [MetricReport(step, metrics)])])
                with account.timed("heartbeat"):
                    operations.heartbeat(store, name, [claim.lease])
            result = Finished(
                step=REPORTS, metrics=metrics, report={"per_class_recall": {}, "confusion_matrix": ()}, train_seconds=1.0, peak_memory=1
            )  # fmt: skip
            with account.timed("end"):
                operations.record(store, [Write(claim.lease, outcome=result)])
    store.close()


def optunas_storage(url: str) -> RDBStorage:
    patient = {"connect_args": {"timeout": 30}} if url.startswith("sqlite") else {}
    return RDBStorage(url.replace("postgresql://", "postgresql+psycopg://"), engine_kwargs=patient)


def make_optunas(url: str) -> None:
    optuna.create_study(study_name="bench", storage=optunas_storage(url), direction="maximize")


def optunas(url: str, until: float, account: Account) -> None:
    """The same with Optuna's ask, report, record_heartbeat and tell."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = optunas_storage(url)
    study = optuna.load_study(study_name="bench", storage=storage, sampler=optuna.samplers.RandomSampler())
    while time.time() < until:
        trial, params = None, dict[str, Any]()
        with account.timed("claim"):
            trial = study.ask()
            params = asked(trial, SPACE)
        if trial is None or len(params) < 4:
            continue
        for step in range(1, REPORTS + 1):
            _pause(until)
            with account.timed("report"):
                trial.report(accuracy(params, step), step)
            with account.timed("heartbeat"):
                storage.record_heartbeat(trial._trial_id)
        with account.timed("end"):
            study.tell(trial, accuracy(params, REPORTS))


def _pause(until: float) -> None:
    time.sleep(max(0.0, min(PACE_SECONDS, until - time.time())))


def work(side: str, url: str, begin: float, seconds: float, number: int, workers: int) -> tuple[Waits, int]:
    """Run one worker. The workers start at different times within a second, as in practice."""
    account = Account(begin + WARM_SECONDS)
    time.sleep(max(0.0, begin + PACE_SECONDS * number / workers - time.time()))
    {"ours": ours, OPTUNA: optunas}[side](url, begin + WARM_SECONDS + seconds, account)
    return dict(account.waits), account.failures


def crowd(side: str, url: str, workers: int, seconds: float) -> tuple[Waits, int]:
    """Run all workers concurrently. Returns their wait times by call, and the number of failed calls."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.control_plane"])
    together: dict[str, list[float]] = defaultdict(list)
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        list(pool.map(abs, range(4 * workers)))  # waits until every process has started
        begin = time.time() + 2
        lives = [pool.submit(work, side, url, begin, seconds, number, workers) for number in range(workers)]
        failures = 0
        for life in lives:
            waits, failed = life.result()
            failures += failed
            for call, values in waits.items():
                together[call] += values
    return together, failures


def compare(kind: str, new_url: Callable[[str], str], workers: int, seconds: float, rounds: int) -> list[tuple[object, ...]]:
    """The rows of the table for one kind of database."""
    urls = {"ours": new_url("ours"), OPTUNA: new_url("optunas")}
    make_ours(urls["ours"])
    make_optunas(urls[OPTUNA])
    waits: dict[str, dict[str, list[float]]] = {side: defaultdict(list) for side in urls}
    failures = dict.fromkeys(urls, 0)
    for _ in range(rounds):
        for side, url in urls.items():
            found, failed = crowd(side, url, workers, seconds)
            failures[side] += failed
            for call, values in found.items():
                waits[side][call] += values
    rows = list[tuple[object, ...]]()
    for call in CALLS:
        mine, theirs = (percentiles(waits[side][call]) for side in urls)
        ratios = " and ".join(f"{b / a:.2g}" for a, b in zip(mine, theirs, strict=True))
        counts = f"{len(waits['ours'][call]):,}, {len(waits[OPTUNA][call]):,}"
        rows.append((f"{kind}: {call}", counts, *(f"{value:.1f}" for value in (*mine, *theirs)), ratios))
    rows.append((f"{kind}: calls that failed", "", failures["ours"], "", failures[OPTUNA], "", ""))
    return rows


def percentiles(values: list[float]) -> tuple[float, float]:
    """Median and 99th percentile, in milliseconds."""
    middle, high = np.percentile(values, [50, 99])
    return 1e3 * float(middle), 1e3 * float(high)


HEAD = ("what", "n, ours and Optuna's", "ours: p50 ms", "p99 ms", "Optuna: p50 ms", "p99 ms", "Optuna's over ours, p50 and p99")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="append the table to RESULTS.md")
    parser.add_argument("--workers", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", choices=["sqlite", "postgresql"])
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rows: list[tuple[object, ...]] = []
    sizes = (given.workers, given.seconds, given.rounds)
    with tempfile.TemporaryDirectory() as folder:
        if given.only in (None, "sqlite"):
            rows += compare("SQLite", lambda name: f"sqlite:///{folder}/{name}.db", *sizes)
        if given.only in (None, "postgresql"):
            with postgresql() as new_url:
                rows += compare("PostgreSQL", new_url, *sizes)
    body = table(HEAD, rows)
    print(body)
    if given.record:
        versions = (f"SQLite {sqlite3.sqlite_version}", f"Optuna {optuna.__version__}")
        title = f"{given.workers} workers at once, each a report and a heartbeat a second: {machine(*versions)}"
        record(title, f"{given.rounds} rounds of {given.seconds:g} s a side. `python -m bench.contention`.\n\n{body}")


if __name__ == "__main__":
    main()
