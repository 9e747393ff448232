"""The opponents train what they are told to, and the same that Thawline trains."""

import subprocess
import sys

import torch

from bench.replay import engines, loop
from bench.replay.orders import Order
from bench.replay.watching import pss, tree
from trainer.tasks.image_classification.config import ImageClassificationConfig


def small_batches(order: Order) -> dict[str, object]:
    return {"batch_size": 6, "seed": 3, "order_seed": 3, "lr": 0.01, "optimizer": "adamw"}


def test_the_usual_loop_leaves_frozen_stages_as_they_were_and_trains_the_rest(tiny: Order) -> None:
    config = tiny.configs[5].model_copy(update=small_batches(tiny) | {"frozen_layers": 2})
    model, frozen = loop.make_model(config, classes=2)
    assert len(frozen) == 2
    assert [any(p.requires_grad for p in part.parameters()) for part in model] == [False, False, True, True, True]
    metrics = list(loop.fine_tune(config, loader_workers=0))
    assert len(metrics) == config.epochs
    assert all(0 <= epoch["accuracy"] <= 1 for epoch in metrics)


def test_the_usual_loop_measures_as_our_step_does_when_nothing_is_learnt(tiny: Order) -> None:
    """With a learning rate of nearly nothing and the same last layer, all that is left is reading, normalising and measuring."""
    config = tiny.configs[5].model_copy(update=small_batches(tiny) | {"lr": 1e-30, "weight_decay": 0.0, "frozen_layers": 4})
    from trainer.loop import train
    from trainer.tasks.images.networks.factory import build

    model, _ = loop.make_model(config, classes=2)
    ours = build(config, 2)
    model[-1].load_state_dict(ours.head.state_dict())
    files = loop.Files(loop.split(config.data)["validation"], loop.plain_transform(config))
    theirs = loop.measure(model, torch.utils.data.DataLoader(files, batch_size=4))
    for fact in train(config, device=torch.device("cpu"), share=False):
        if fact.kind == "finished":
            assert abs(fact.metrics["loss"] - theirs["loss"]) < 1e-4
            assert fact.metrics["accuracy"] == theirs["accuracy"]
            return
    raise AssertionError("the run did not finish")


def test_the_usual_loop_and_our_step_run_every_point_through_optuna(tiny: Order) -> None:
    batches = {"batch_size": 6}

    def usual(config: ImageClassificationConfig) -> loop.Metrics:
        return loop.last(loop.fine_tune(config.model_copy(update=batches), 0))

    def our_step(config: ImageClassificationConfig) -> loop.Metrics:
        return engines.with_our_step(config.model_copy(update=batches))

    for training in (usual, our_step):
        outcome = engines.through_optuna(tiny, training)
        assert [trial.number for trial in outcome.trials] == [5, 9]
        assert outcome.busy_seconds >= sum(trial.seconds for trial in outcome.trials)
        assert all({"accuracy", "loss"} == trial.metrics.keys() for trial in outcome.trials)


def test_memory_is_that_of_a_process_and_all_below_it() -> None:
    nested = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    with subprocess.Popen([sys.executable, "-c", nested], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as outer:
        assert outer.stdout and outer.stdin
        outer.stdout.readline()  # the inner one runs
        found = tree(outer.pid)
        assert len(found) == 2
        assert all(pss(process) > 0 for process in found)
        outer.stdin.write(b"\n")
    assert pss(outer.pid) == 0
