"""The recorded lists of configurations: their distributions, seeds, and files."""

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("lists")
OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")
SCHEDULES = ("constant", "cosine", "one_cycle")
WITH_MOMENTUM = ("sgd", "rmsprop")
EVERYTHING = None  # no stage is frozen; other values are the number of last stages that are trained

Params = Mapping[str, Any]


@dataclass(frozen=True)
class Recorded:
    """A list of configurations for any model. A point has the number of trained last stages in place of `frozen_layers`."""

    name: str
    what: str
    seed: int
    count: int
    epochs: int
    lr: tuple[float, float]
    trained: tuple[int | None, ...]  # number of last stages; EVERYTHING for all
    dropout: tuple[float, ...] = (0.0, 0.2, 0.5)
    label_smoothing: tuple[float, ...] = (0.0, 0.1)
    weight_decay: tuple[float, float] = (1e-6, 1e-2)
    momentum: tuple[float, float] = (0.5, 0.95)
    batch_size: int = 32
    augmentation: str = "none"

    @property
    def file(self) -> Path:
        return FOLDER / f"{self.name}.json"

    def draw(self) -> list[Params]:
        """Sample the points with a fixed seed."""
        generator = random.Random(self.seed)
        return [self._point(generator) for _ in range(self.count)]

    def points(self) -> list[Params]:
        """The points in the file."""
        found: list[Params] = json.loads(self.file.read_text())
        return found

    def space(self, stages: int) -> dict[str, Any]:
        """The search space of the points for a model with `stages` stages, as in a study document."""
        space: dict[str, Any] = {
            "lr": {"type": "float", "low": self.lr[0], "high": self.lr[1], "log": True},
            "optimizer": {"type": "categorical", "choices": list(OPTIMIZERS)},
            "momentum": {
                "type": "float", "low": self.momentum[0], "high": self.momentum[1], "when": {"optimizer": list(WITH_MOMENTUM)},
            },
            "weight_decay": {"type": "float", "low": self.weight_decay[0], "high": self.weight_decay[1], "log": True},
            "dropout": {"type": "categorical", "choices": list(self.dropout)},
            "label_smoothing": {"type": "categorical", "choices": list(self.label_smoothing)},
            "schedule": {"type": "categorical", "choices": list(SCHEDULES)},
        }  # fmt: skip
        if len(self.trained) > 1:
            levels = sorted({frozen(stages, trained) for trained in self.trained}, reverse=True)
            space["frozen_layers"] = {"type": "categorical", "choices": levels}
        return space

    def fixed(self, stages: int, image_size: int) -> dict[str, Any]:
        """The hyperparameters that are equal in all points."""
        fixed = {"epochs": self.epochs, "batch_size": self.batch_size, "image_size": image_size, "augmentation": self.augmentation}
        return fixed if len(self.trained) > 1 else fixed | {"frozen_layers": frozen(stages, self.trained[0])}

    def params(self, stages: int) -> list[Params]:
        """The points as parameters of trials, for a model with `stages` stages."""
        return [self._for_model(point, stages) for point in self.points()]

    def sample(self, wanted: int | None) -> tuple[int, ...]:
        """The numbers of `wanted` points, selected at random with a fixed seed; all points if `wanted` is None or too large.

        Systematic sampling: every k-th point in the order of trained stages, from a random start. Each depth is represented in
        proportion, so that the mean time of the sample estimates that of the list.
        """
        if wanted is None or wanted >= self.count:
            return tuple(range(self.count))
        generator, points = random.Random(0), self.points()
        order = sorted(generator.sample(range(self.count), self.count), key=lambda number: str(points[number]["trained"]))
        step = self.count / wanted
        start = generator.uniform(0, step)
        numbers = [order[int(start + step * place)] for place in range(wanted)]
        return tuple(generator.sample(numbers, wanted))

    def _for_model(self, point: Params, stages: int) -> Params:
        params = {name: value for name, value in point.items() if name != "trained"}
        return params | {"frozen_layers": frozen(stages, point["trained"])} if len(self.trained) > 1 else params

    def _point(self, generator: random.Random) -> Params:
        point: dict[str, Any] = {"lr": _log_uniform(generator, *self.lr), "optimizer": generator.choice(OPTIMIZERS)}
        # Sampled for every point, so that a point does not depend on the optimizers of earlier ones.
        momentum = generator.uniform(*self.momentum)
        if point["optimizer"] in WITH_MOMENTUM:
            point["momentum"] = momentum
        return point | {
            "weight_decay": _log_uniform(generator, *self.weight_decay),
            "dropout": generator.choice(self.dropout),
            "label_smoothing": generator.choice(self.label_smoothing),
            "schedule": generator.choice(SCHEDULES),
            "trained": generator.choice(self.trained),
        }


def frozen(stages: int, trained: int | None) -> int:
    """The number of frozen stages if the last `trained` stages are trained."""
    return 0 if trained is EVERYTHING else max(0, stages - trained)


def _log_uniform(generator: random.Random, low: float, high: float) -> float:
    return math.exp(generator.uniform(math.log(low), math.log(high)))


LISTS: Mapping[str, Recorded] = {
    each.name: each
    for each in (
        Recorded("A", "128 head-only configurations, 10 epochs", seed=1, count=128, epochs=10, lr=(1e-4, 1e-1), trained=(0,)),
        Recorded(
            "B", "24 configurations, the head alone, the last 1, 2 or 4 stages, or all trained, 5 epochs",
            seed=2, count=24, epochs=5, lr=(1e-5, 3e-3), trained=(0, 1, 2, 4, EVERYTHING),
        ),
        Recorded(
            "C", "8 configurations, nothing frozen, a fresh crop each epoch, 3 epochs",
            seed=3, count=8, epochs=3, lr=(1e-5, 3e-3), trained=(EVERYTHING,), augmentation="crop",
        ),
    )
}  # fmt: skip


def write(lists: Sequence[Recorded] = tuple(LISTS.values())) -> None:
    """Sample the lists and write their files, one point per line: `python -m bench.replay.recorded`."""
    for each in lists:
        each.file.write_text("[\n" + ",\n".join(json.dumps(point) for point in each.draw()) + "\n]\n")


if __name__ == "__main__":
    write()
