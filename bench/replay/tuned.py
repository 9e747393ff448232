"""Trains the recorded list with Ray Tune: a Trainable with reused actors, one epoch per step, without early stopping."""

import os
import time
from typing import Any

import ray
import torch
from ray import tune
from ray.tune import CheckpointConfig, RunConfig, TuneConfig, Tuner

from bench.replay.loop import fine_tune
from bench.replay.orders import THREADS, Order, Outcome, Trained
from trainer.tasks.image_classification.config import ImageClassificationConfig

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AIR_NEW_OUTPUT": "0", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1"}


class FineTuning(tune.Trainable):  # type: ignore[misc]  # Ray is Any to mypy
    """The usual loop, one epoch per step."""

    def setup(self, config: dict[str, Any]) -> None:
        torch.set_num_threads(config["threads"])
        self.reset_config(config)

    def reset_config(self, config: dict[str, Any]) -> bool:
        self.began, self.done = time.time(), 0
        self.trained = ImageClassificationConfig.model_validate_json(config["trial"]["config"])
        self.epochs = fine_tune(self.trained, config["loader_workers"])
        return True

    def step(self) -> dict[str, Any]:
        metrics, self.done = next(self.epochs), self.done + 1
        return {**metrics, "began": self.began, "ended": time.time(), "done": self.done == self.trained.epochs}


def tuned(order: Order) -> Outcome:
    """Run the points as a grid of one parameter, so that each one is run once and none is sampled."""
    os.environ.update(QUIET)
    ray.init(num_cpus=THREADS, num_gpus=0, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
    space = {
        "trial": tune.grid_search([{"number": n, "config": config.model_dump_json()} for n, config in order.configs.items()]),
        "threads": THREADS // order.slots,
        "loader_workers": order.loader_workers,
    }
    tuner = Tuner(
        tune.with_resources(FineTuning, {"cpu": THREADS // order.slots}),
        param_space=space,
        tune_config=TuneConfig(reuse_actors=True, max_concurrent_trials=order.slots, metric="accuracy", mode="max"),
        run_config=RunConfig(verbose=0, checkpoint_config=CheckpointConfig(checkpoint_at_end=False)),
    )
    grid = tuner.fit()  # Ray ends its processes when this one ends
    if grid.errors:
        raise RuntimeError(f"{grid.num_errors} trials failed, the first one with {grid.errors[0]}")
    trials, ends = list[Trained](), list[tuple[float, float]]()
    for result in (grid[place] for place in range(len(grid))):
        assert result.config and result.metrics
        metrics, number = result.metrics, result.config["trial"]["number"]
        ends.append((metrics["began"], metrics["ended"]))
        final = {name: metrics[name] for name in ("accuracy", "loss")}
        trials.append(Trained(number=number, seconds=metrics["ended"] - metrics["began"], metrics=final))
    return Outcome(trials=tuple(trials), busy_seconds=max(end for _, end in ends) - min(start for start, _ in ends))
