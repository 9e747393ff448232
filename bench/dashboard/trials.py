"""Generates trials like those of a search: parameters that approach the best, learning curves, and some failed trials."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log10
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces import SearchSpace
from service.domain.states import TrialState

NAMES = ("accuracy", "loss", "f1", "recall", "precision")  # of metrics, the objective first
WORKERS = 8
SECONDS_A_STEP = 0.8
CLASSES = tuple("abcdefghij")
SPACE = SearchSpace.model_validate(
    {
        "lr": {"type": "float", "low": 1.0e-5, "high": 0.1, "log": True},
        "weight_decay": {"type": "float", "low": 1.0e-6, "high": 0.1, "log": True},
        "batch_size": {"type": "categorical", "choices": [16, 32, 64]},
        "optimizer": {"type": "categorical", "choices": ["sgd", "adam", "adamw", "rmsprop"]},
        "frozen_layers": {"type": "int", "low": 0, "high": 9},
        "dropout": {"type": "float", "low": 0.0, "high": 0.5},
        "momentum": {"type": "float", "low": 0.0, "high": 0.99, "when": {"optimizer": ["sgd", "rmsprop"]}},
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """An ended trial."""

    number: int
    state: TrialState
    params: Mapping[str, Any]
    curves: Mapping[str, NDArray[np.float64]]  # by metric, float64 [steps]; NaN at the step where it diverged
    worker: str
    started_at: float
    finished_at: float
    reason: str | None = None
    detail: str | None = None

    @property
    def steps(self) -> int:
        """The number of steps."""
        return len(next(iter(self.curves.values())))

    def metrics(self) -> dict[str, float]:
        """The last value of each metric; empty if there are no steps."""
        return {name: float(curve[-1]) for name, curve in self.curves.items() if self.steps}

    def result(self) -> dict[str, Any]:
        """The report of the run besides its metrics."""
        seconds = max(self.finished_at - self.started_at, 0.1)
        result: dict[str, Any] = {
            "environment": {"torch": "2.11", "device": "cpu"},
            "reuse": {"pixels": "cached", "depth": self.params["frozen_layers"], "validation_depth": 0, "place": "disk", "lanes": 1},
        }
        if self.steps:
            result["pace"] = {
                "samples_per_second": round(1200.0 * self.steps * SECONDS_A_STEP / seconds, 3), "seconds_left": 0.0,
                "memory": 1_400_000_000,
                "seconds": {"data": 0.1 * seconds, "forward": 0.5 * seconds, "backward": 0.3 * seconds, "measure": 0.1 * seconds},
                "saved_seconds": round(0.4 * seconds * self.params["frozen_layers"] / 9, 3),
            }  # fmt: skip
        if self.state is TrialState.COMPLETE:
            hits = round(100 * self.metrics()[NAMES[0]])
            result |= {
                "per_class_recall": {name: hits / 100 for name in CLASSES}, "train_seconds": seconds, "peak_memory": 1_500_000_000,
                "confusion_matrix": [[hits if row == column else (100 - hits) // 9 for column in CLASSES] for row in CLASSES],
            }  # fmt: skip
        return result


def made(trials: int, steps: int, metrics: int, began_at: float) -> Iterator[Made]:
    """Generate ended trials with a fixed seed, as run by eight concurrent workers. `began_at` is in seconds since 1970."""
    random = np.random.default_rng(0)
    free_at = [began_at] * WORKERS
    for number in range(trials):
        worker = min(range(WORKERS), key=free_at.__getitem__)
        params = _params(random, number / trials)
        quality = _quality(params)
        state, taken, reason, detail = _fate(random, quality, number / trials, steps)
        finished_at = free_at[worker] + (0.5 + taken) * SECONDS_A_STEP * random.uniform(0.8, 1.2)
        yield Made(
            number=number, state=state, params=params, curves=_curves(random, quality, taken, NAMES[:metrics], reason == "diverged"),
            worker=f"box-{worker // 4}:{100 + worker}", started_at=free_at[worker], finished_at=finished_at, reason=reason, detail=detail,
        )  # fmt: skip
        free_at[worker] = finished_at + 0.2


def _params(random: np.random.Generator, progress: float) -> dict[str, Any]:
    """Sample from the whole space at first, and later increasingly near the best."""
    near = random.random() < 0.8 * progress
    params: dict[str, Any] = {
        "lr": float(10 ** np.clip(random.normal(-2.5, 0.4) if near else random.uniform(-5, -1), -5, -1)),
        "weight_decay": float(10 ** np.clip(random.normal(-3.5, 0.6) if near else random.uniform(-6, -1), -6, -1)),
        "batch_size": int(random.choice([16, 32, 64])),
        "optimizer": str(random.choice(["adam", "adamw"] if near else ["sgd", "adam", "adamw", "rmsprop"])),
        "frozen_layers": int(np.clip(round(random.normal(4, 1)), 0, 9)) if near else int(random.integers(0, 10)),
        "dropout": float(random.uniform(0, 0.5)),
    }
    if params["optimizer"] in ("sgd", "rmsprop"):
        params["momentum"] = float(random.uniform(0, 0.99))
    return params


def _quality(params: Mapping[str, Any]) -> float:
    """The final accuracy of the parameters, from 0.1 to 0.95."""
    distance = abs(log10(params["lr"]) + 2.5) / 4 + abs(log10(params["weight_decay"]) + 3.5) / 20
    distance += abs(params["frozen_layers"] - 4) / 40 + (params["optimizer"] == "sgd") / 15 + abs(params["dropout"] - 0.2) / 5
    return 0.1 + 0.85 * exp(-distance)


def _fate(random: np.random.Generator, quality: float, progress: float, steps: int) -> tuple[TrialState, int, str | None, str | None]:
    """State, number of steps, reason and detail of the trial's end."""
    chance = random.random()
    if chance < 0.02:
        return TrialState.FAILED, 0, "out_of_memory", "the batch of 64 images did not fit into 8 GB"
    if chance < 0.04:
        step = int(random.integers(1, max(2, steps // 10)))
        return TrialState.FAILED, step, "diverged", f"loss is nan at step {step}"
    if quality < 0.35 + 0.4 * progress:
        step = max(1, int(steps * random.choice([0.05, 0.1, 0.2, 0.5])))
        return TrialState.PRUNED, step, None, f"accuracy {quality:.3f} at epoch {step} is below the median of the trials before"
    return TrialState.COMPLETE, steps, None, None


def _curves(
    random: np.random.Generator, quality: float, steps: int, names: Sequence[str], diverged: bool
) -> dict[str, NDArray[np.float64]]:
    """Saturating curves with decreasing noise. The loss falls as the accuracy rises. The last step of a diverged trial is NaN."""
    step = np.arange(1, steps + 1)
    rise = 1 - np.exp(-step / (8 + 12 * (1 - quality)))
    noise = random.normal(0, 0.02, (len(names), steps)) / np.sqrt(1 + step / 10)
    shares = {name: np.clip(0.1 + (quality - 0.1) * rise + noise[place], 0, 1) for place, name in enumerate(names)}
    curves = {name: -np.log(np.clip(share, 0.01, 1)) if name == "loss" else share for name, share in shares.items()}
    for curve in curves.values() if diverged else ():
        curve[-1] = np.nan
    return curves
