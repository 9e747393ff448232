"""Creates a large database of Thawline and one of Optuna with the same trials.

    python -m bench.dashboard.database FOLDER [--trials 2000] [--steps 200] [--metrics 4]

writes FOLDER/thawline.db and FOLDER/optuna.db. The rows equal those of workers that gather the reports of a trial. Studies, trials and
events are written by the product's code, attempts and the 1.6 million metrics directly.
"""

import argparse
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from bench.dashboard import optunas
from bench.dashboard.trials import CLASSES, NAMES, SPACE, Made, made
from service import operations
from service.domain.spec import Budget, Objective, TrainingStudy
from service.domain.states import EventKind, TrialState
from service.store import Transaction, open_store
from service.store.codec import finite, kind_of
from service.store.migrate import upgrade
from service.store.rows import HeldTrial
from service.store.schema import attempt
from service.store.unit_of_work import Step, StudyUnitOfWork, locked
from trainer.protocol import FailureReason
from trainer.tasks.image_classification.config import ImageClassificationInfo
from trainer.tasks.images.config import ImageData, ImageModel

FACTS = ImageClassificationInfo(
    classes=CLASSES, images={"train": 6000, "validation": 1000}, fingerprint="f" * 64, split="5" * 64, weights_sha256=None
)
COLUMNS = ("trial", "step", "name", "attempt", "value", "kind", "seq")  # of the table metric
COPIED_TOGETHER = 50_000  # rows per COPY; PostgreSQL checks their foreign keys at its end, during which it sends nothing
NAME = "dashboard"


def make(url: str, trials: int = 2_000, steps: int = 200, metrics: int = 4, name: str = NAME) -> str:
    """Create a study with ended trials in the database at `url`, which is created if necessary. Returns the study's id.

    The study is active, and its budget allows a thousand further trials. Raises NameTaken.
    """
    upgrade(url)
    store = open_store(url)
    try:
        spec = TrainingStudy(
            name=name, task="image_classification", data=ImageData(path="/data/images", location="workers"),
            model=ImageModel(name="squeezenet1_1"), search_space=SPACE, fixed={"epochs": steps, "image_size": 64},
            objective=Objective(metric=NAMES[0], direction="maximize"), budget=Budget(trials=trials + 1_000),
        )  # fmt: skip
        study = operations.pass_check(store, operations.create_study(store, spec).id, FACTS)
        found = list(made(trials, steps, metrics, _began_at(trials, steps)))
        with store.writing() as tx:
            with locked(tx, study.id) as uow:
                uow.study = replace(uow.study, started_at=found[0].started_at if found else None)
                added = uow.add([_step(uow, one) for one in found if uow.study.created == one.number])
            if added:
                tx.execute(insert(attempt), [_attempt(one) for one in added])
            _copy(tx, _metric_rows(added, found))
        return study.id
    finally:
        store.close()


def _began_at(trials: int, steps: int) -> float:
    """A start time so early that all trials have ended by now."""
    return time.time() - trials * steps * 0.2 - 60


def _step(uow: StudyUnitOfWork, one: Made) -> Step:
    """Write the ended trial and its events."""
    new, metrics = uow.new_trial(one.params, source="sampler"), one.metrics()
    fields: dict[str, Any] = {"number": one.number, "state": TrialState.RUNNING, "attempt": 1}
    uow.emit(EventKind.TRIAL_STARTED, **fields, params=dict(one.params), worker=one.worker, source="sampler", step=0)
    value = metrics.get(NAMES[0])
    reason: FailureReason | None = one.reason  # type: ignore[assignment]
    ended = replace(
        new, state=one.state, value=finite(value), value_kind=kind_of(value), metrics=metrics, step=one.steps, attempt=1, heartbeat=1,
        reason=reason, detail=one.detail, worker=one.worker, result=one.result(), queued_at=one.started_at, started_at=one.started_at,
        finished_at=one.finished_at,
    )  # fmt: skip
    body = {"value": finite(value), "reason": one.reason, "detail": one.detail, "worker": one.worker, "duplicate_of": None}
    return Step(ended, EventKind(f"trial_{'completed' if one.state is TrialState.COMPLETE else one.state}"), body)


def _attempt(one: HeldTrial) -> dict[str, Any]:
    return {
        "trial": one.id, "attempt": 1, "worker": one.worker, "resumed": 0, "started_at": one.started_at, "ended_at": one.finished_at,
        "ending": str(one.state), "step": one.step, "detail": one.detail,
    }  # fmt: skip


def _metric_rows(added: Iterable[HeldTrial], found: Sequence[Made]) -> Iterator[tuple[Any, ...]]:
    """The rows in the order of the primary key, in which both databases insert fastest."""
    for stored, one in zip(added, found, strict=True):
        names = sorted(one.curves)
        table = [one.curves[name].tolist() for name in names]
        for step, values in enumerate(zip(*table, strict=True), 1):
            for name, value in zip(names, values, strict=True):
                sound = math.isfinite(value)
                yield stored.id, step, name, 1, value if sound else None, "finite" if sound else str(kind_of(value)), stored.changed


def _copy(tx: Transaction, rows: Iterator[tuple[Any, ...]]) -> None:
    """Insert metrics with the fastest method of the driver."""
    driver: Any = tx.connection.dbapi_connection
    if tx.dialect.name == "sqlite":
        driver.execute("PRAGMA cache_size = -200000")  # KB; large enough that no page is written twice
        driver.executemany(f"INSERT INTO metric ({', '.join(COLUMNS)}) VALUES (?, ?, ?, ?, ?, ?, ?)", rows)  # noqa: S608 - constants
        return
    with driver.cursor() as cursor:
        while some := list(islice(rows, COPIED_TOGETHER)):
            with cursor.copy(f"COPY metric ({', '.join(COLUMNS)}) FROM STDIN") as copy:
                for row in some:
                    copy.write_row(row)


def main() -> None:
    """Create both databases, and print the time of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    for name, default in (("trials", 2_000), ("steps", 200), ("metrics", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for file, maker in (("thawline.db", make), ("optuna.db", optunas.make)):
        began = time.monotonic()
        maker(f"sqlite:///{(args.folder / file).absolute()}", args.trials, args.steps, args.metrics)
        print(f"{args.folder / file}: {(args.folder / file).stat().st_size / 1e6:.1f} MB in {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main()
