"""The engines that train in one process, which reads an Order on standard input and prints an Outcome as its last line."""

import sys
import time
from collections.abc import Callable

import optuna
import torch

from bench.asking import asked
from bench.replay import loop
from bench.replay.orders import THREADS, Order, Outcome, Trained, image_config
from trainer.protocol import Failed, Finished
from trainer.tasks.image_classification.config import ImageClassificationConfig

Training = Callable[[ImageClassificationConfig], loop.Metrics]


def naive(order: Order) -> Outcome:
    """Optuna with the usual fine-tuning loop."""
    return through_optuna(order, lambda config: loop.last(loop.fine_tune(config, order.loader_workers)))


def strong(order: Order) -> Outcome:
    """Optuna with Thawline's training loop: pixels stay in memory, and trials share nothing."""
    return through_optuna(order, with_our_step)


def through_optuna(order: Order, training: Training) -> Outcome:
    """Run the list sequentially, as enqueued trials of an in-memory study."""
    spec, trained = order.spec, list[Trained]()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    for number, params in order.params.items():
        study.enqueue_trial(dict(params), user_attrs={"number": number})

    def objective(trial: optuna.Trial) -> float:
        started, number = time.perf_counter(), trial.user_attrs["number"]
        metrics = training(image_config(spec, asked(trial, spec.search_space), number))
        trained.append(Trained(number=number, seconds=time.perf_counter() - started, metrics=metrics))
        return metrics.get("accuracy", float("nan"))

    started = time.perf_counter()
    study.optimize(objective, n_trials=len(order.numbers))
    return Outcome(trials=tuple(trained), busy_seconds=time.perf_counter() - started)


def with_our_step(config: ImageClassificationConfig) -> loop.Metrics:
    """The metrics after the last epoch; empty if the trial diverged."""
    from trainer.loop import train

    for fact in train(config, device=torch.device("cpu"), share=False):
        match fact:
            case Finished():
                return {"accuracy": fact.metrics["accuracy"], "loss": fact.metrics["loss"]}
            case Failed(reason="diverged"):
                return {}
            case Failed():
                raise RuntimeError(fact.detail)
    raise AssertionError("a run finishes or fails")


def ray(order: Order) -> Outcome:
    """Ray Tune with reused actors and the usual fine-tuning loop."""
    from bench.replay.tuned import tuned

    return tuned(order)


def main() -> None:
    order = Order.model_validate_json(sys.stdin.read())
    torch.set_num_threads(THREADS // order.slots)
    engine = {"naive": naive, "strong": strong, "ray": ray}[order.engine]
    outcome = engine(order)
    sys.stdout.write(outcome.model_dump_json() + "\n")
    sys.stdout.flush()  # the time is measured when this line arrives


if __name__ == "__main__":
    main()
