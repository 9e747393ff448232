"""Measures the time to a target metric on the demo's digits: Optuna with a usual training loop, compared with Thawline.

    python -m bench.search [--record] [--seeds 5] [--trials 30]

Both sides use TPE and the median pruner. The target is the median over the seeds of the best final validation accuracy of the usual
loop at full budget; it is fixed before Thawline runs. A run that does not reach it counts as unsolved. Times start before the first
process of a run is started. Each run's winner is then trained again by the usual loop with one seed, and scored once on test images
that were not used in any search.
"""

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import httpx2
import optuna
import torch

from bench.asking import asked
from bench.replay import loop
from bench.replay.orders import THREADS, image_config
from bench.replay.served import finished, server
from bench.replay.workloads import Workload, digits
from bench.tables import machine, record, spread, table
from search_spaces import Params
from service.domain.parsing import parse_study

EPOCHS = 8
SPACE: dict[str, Any] = {
    "lr": {"type": "float", "low": 1e-4, "high": 0.1, "log": True},
    "batch_size": {"type": "categorical", "choices": [16, 32, 64]},
    "optimizer": {"type": "categorical", "choices": ["sgd", "adam", "adamw", "rmsprop"]},
    "momentum": {"type": "float", "low": 0.0, "high": 0.99, "when": {"optimizer": ["sgd", "rmsprop"]}},
    "frozen_layers": {"type": "int", "low": 0, "high": 4},
}
PRUNER = {"n_startup_trials": 5, "n_warmup_steps": 1}


@dataclass(frozen=True)
class Ended:
    """An ended trial: the seconds since the run began, and the final value; None if it was pruned."""

    seconds: float
    value: float | None
    params: Params


@dataclass(frozen=True)
class Search:
    """One search with one engine."""

    seconds: float
    trials: tuple[Ended, ...]

    @property
    def winner(self) -> Ended:
        return max((trial for trial in self.trials if trial.value is not None), key=lambda trial: trial.value or 0.0)

    @property
    def best(self) -> float:
        return self.winner.value or 0.0

    def seconds_to(self, target: float) -> float:
        """Seconds until the first trial that reached the target ended; infinite if none did."""
        return min((trial.seconds for trial in self.trials if trial.value is not None and trial.value >= target), default=math.inf)


def document(workload: Workload, seed: int, trials: int) -> dict[str, Any]:
    return {
        "name": f"search-{seed}",
        "data": workload.data.model_dump(mode="json"),
        "model": workload.model.model_dump(mode="json"),
        "search_space": SPACE,
        "fixed": {"epochs": EPOCHS, "image_size": workload.image_size},
        "objective": {"metric": "accuracy", "direction": "maximize"},
        "sampler": {"name": "tpe", "seed": seed},
        "pruner": {"name": "median", **PRUNER},
        "budget": {"trials": trials},
    }


def naive(study: dict[str, Any], began: float) -> list[Ended]:
    """Run Optuna with the usual fine-tuning loop in this process."""
    torch.set_num_threads(THREADS)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    spec, ended = parse_study(study), list[Ended]()

    def objective(trial: optuna.Trial) -> float:
        params, accuracy = asked(trial, spec.search_space), 0.0
        for epoch, metrics in enumerate(loop.fine_tune(image_config(spec, params, trial.number), loader_workers=0), start=1):
            accuracy = metrics["accuracy"]
            trial.report(accuracy, epoch)
            if epoch < EPOCHS and trial.should_prune():
                ended.append(Ended(time.time() - began, None, params))
                raise optuna.TrialPruned
        ended.append(Ended(time.time() - began, accuracy, params))
        return accuracy

    sampler, pruner = optuna.samplers.TPESampler(seed=spec.sampler.seed), optuna.pruners.MedianPruner(**PRUNER)
    optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner).optimize(objective, n_trials=spec.budget.trials)
    return ended


def run_naive(study: dict[str, Any]) -> Search:
    began = time.time()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as apart:
        trials = apart.submit(naive, study, began).result()
    return Search(time.time() - began, tuple(trials))


def run_thawline(study: dict[str, Any]) -> Search:
    began = time.time()
    with tempfile.TemporaryDirectory() as folder, server(Path(folder) / "home") as (_, address):
        with httpx2.Client(base_url=f"{address}/api/v1/", timeout=60, trust_env=False) as http:
            trials = finished(http, study)
        seconds = time.time() - began
    return Search(seconds, tuple(_ended(trial, began) for trial in trials))


def _ended(trial: dict[str, Any], began: float) -> Ended:
    seconds = datetime.fromisoformat(trial["finished_at"]).timestamp() - began
    return Ended(seconds, trial["value"] if trial["state"] == "complete" else None, trial["params"])


def tested(workload: Workload, params: Params) -> float:
    """The accuracy on the test images, after the usual loop has trained the configuration with another seed."""
    spec = parse_study(document(workload, seed=1_000, trials=1))
    return loop.last(loop.fine_tune(image_config(spec, params, 0), loader_workers=0, measured_on="test"))["accuracy"]


def cells(engine: str, searches: Sequence[Search], target: float, tests: Sequence[float]) -> list[object]:
    times = [search.seconds_to(target) for search in searches]
    complete = [sum(trial.value is not None for trial in search.trials) for search in searches]
    return [
        engine, f"{sum(map(math.isfinite, times))} of {len(times)}", spread(times), spread([search.best for search in searches]),
        spread([search.seconds for search in searches]), spread(complete), spread(tests),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="append the table to RESULTS.md")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=30, help="the budget of a run")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workload = digits(Path(folder))
        studies = [document(workload, seed, given.trials) for seed in range(given.seeds)]
        theirs = [run_naive(study) for study in studies]
        target = statistics.median(search.best for search in theirs)
        ours = [run_thawline(study) for study in studies]
        torch.set_num_threads(THREADS)
        rows = [
            cells(engine, searches, target, [tested(workload, search.winner.params) for search in searches])
            for engine, searches in (("naive, TPE and median pruner", theirs), ("thawline, the same", ours))
        ]
    pairs = [theirs[seed].seconds_to(target) / ours[seed].seconds_to(target) for seed in range(given.seeds)]
    head = [
        "engine",
        "solved",
        "s to the target",
        "best at full budget",
        "s for the budget",
        "trials to full length",
        "winner on the test images",
    ]
    summary = (
        f"Target: {100 * target:.2f} % validation accuracy, the naive runs' median best of {given.trials} trials of {EPOCHS} epochs. "
        f"n = {given.seeds} seeds; median (least to greatest); unsolved counts as infinite. "
        f"Naive time over ours, seed by seed: {', '.join(f'{pair:.2f}' for pair in pairs)}."
    )
    body = f"{summary}\n\n{table(head, rows)}"
    print(body)
    if given.record:
        versions = (f"{name} {version(name)}" for name in ("torch", "optuna"))
        record(f"Search on {workload.title}: {machine(*versions)}", body)


if __name__ == "__main__":
    main()
