"""Callbacks that report the metrics of each epoch as a trial's, and end the training when the trial is pruned.

Each function imports its library when it is called, so that none of them is required. Outside of a trial they do nothing.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from thawline.script import report


def _numbers(logs: Mapping[str, Any] | None) -> dict[str, float]:
    """The entries that are single numbers, without those that count epochs or steps."""
    found = dict[str, float]()
    for name, value in (logs or {}).items():
        try:
            found[name] = float(value)
        except (TypeError, ValueError):
            continue
    return {name: value for name, value in found.items() if name not in ("epoch", "step")}


def keras() -> Any:
    """A callback for `model.fit(callbacks=[...])` of Keras 3, which reports the logs of each epoch."""

    def on_epoch_end(self: Any, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        if report(step=epoch + 1, **_numbers(logs)):
            self.model.stop_training = True

    return type("ThawlineCallback", (import_module("keras").callbacks.Callback,), {"on_epoch_end": on_epoch_end})()


def lightning(package: str = "lightning.pytorch") -> Any:
    """A callback for `Trainer(callbacks=[...])` of Lightning, which reports `callback_metrics` after each validation."""

    def on_validation_end(self: Any, trainer: Any, module: Any) -> None:
        if trainer.sanity_checking:
            return
        stop = report(step=trainer.current_epoch + 1, **_numbers(trainer.callback_metrics))
        if trainer.strategy.reduce_boolean_decision(stop, all=False):  # only the first of several processes gets the answer
            trainer.should_stop = True

    return type("ThawlineCallback", (import_module(package).Callback,), {"on_validation_end": on_validation_end})()


def transformers() -> Any:
    """A callback for `Trainer(callbacks=[...])` of Transformers, which reports each evaluation; evaluations are counted."""

    def on_evaluate(self: Any, args: Any, state: Any, control: Any, metrics: Mapping[str, Any] | None = None, **kwargs: Any) -> Any:
        if state.is_world_process_zero and report(step=None, **_numbers(metrics)):
            control.should_training_stop = True
        return control

    return type("ThawlineCallback", (import_module("transformers").TrainerCallback,), {"on_evaluate": on_evaluate})()


def ignite(evaluator: Any, trainer: Any) -> None:
    """Report the metrics of an evaluator of PyTorch Ignite whenever it has run, and end the trainer when the trial is pruned."""

    def on_completed(engine: Any) -> None:
        if report(step=trainer.state.epoch, **_numbers(engine.state.metrics)):
            trainer.terminate()

    evaluator.add_event_handler(import_module("ignite.engine").Events.COMPLETED, on_completed)
