"""Trains for four epochs with each library that `thawline.callbacks` serves: outside of a trial, in one, and in one that is pruned.

`python -m tests.examples.fits FOLDER` prints, for each library and case, the epochs that were trained and the reports, as JSON. It is a
process of its own because these libraries change global state and warn at their import.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"  # of all, the one that is imported anyway

import keras
import lightning.pytorch as pl
import torch
from ignite.engine import Events, create_supervised_evaluator, create_supervised_trainer
from ignite.metrics import Accuracy, Loss
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from thawline import callbacks, script

EPOCHS, PRUNED_AT = 4, 2
x = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
y = (x[:, 0] > 0).long()
loader = DataLoader(TensorDataset(x, y), 20)


def by_keras(folder: Path) -> int:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    given = (x.numpy(), y.numpy())
    return len(model.fit(*given, epochs=EPOCHS, validation_data=given, callbacks=[callbacks.keras()], verbose=0).epoch)


class Classifier(pl.LightningModule):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 2)
        self.trained = 0

    def training_step(self, batch: Any, index: int) -> Any:
        return nn.functional.cross_entropy(self.linear(batch[0]), batch[1])

    def validation_step(self, batch: Any, index: int) -> None:
        self.log("val_loss", nn.functional.cross_entropy(self.linear(batch[0]), batch[1]))

    def on_train_epoch_end(self) -> None:
        self.trained += 1

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def by_lightning(folder: Path) -> int:
    model = Classifier()
    quiet: dict[str, Any] = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = pl.Trainer(accelerator="cpu", max_epochs=EPOCHS, callbacks=[callbacks.lightning()], default_root_dir=folder, **quiet)
    trainer.fit(model, loader, loader)
    return model.trained


def by_transformers(folder: Path) -> int:
    small: dict[str, Any] = {
        "hidden_size": 4,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "intermediate_size": 4,
        "max_position_embeddings": 8,
    }
    examples = [{"input_ids": ids, "labels": label} for ids, label in zip((x > 0).long(), y, strict=True)]
    given: dict[str, Any] = {"eval_strategy": "epoch", "save_strategy": "no", "report_to": "none", "disable_tqdm": True, "use_cpu": True}
    trainer = Trainer(
        BertForSequenceClassification(BertConfig(vocab_size=2, **small)),
        TrainingArguments(str(folder), num_train_epochs=EPOCHS, per_device_train_batch_size=20, **given),
        train_dataset=examples,
        eval_dataset=examples,
        callbacks=[callbacks.transformers()],
    )
    trainer.train()
    return round(trainer.state.epoch or 0)


def by_ignite(folder: Path) -> int:
    model = nn.Linear(4, 2)
    trainer = create_supervised_trainer(model, torch.optim.SGD(model.parameters(), lr=0.1), nn.functional.cross_entropy)
    evaluator = create_supervised_evaluator(model, {"accuracy": Accuracy(), "loss": Loss(nn.functional.cross_entropy)})
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(loader))
    callbacks.ignite(evaluator, trainer)
    trainer.run(loader, max_epochs=EPOCHS)
    return int(trainer.state.epoch)


def answer(reports: Path, replies: Path, stop_at: int, received: list[dict[str, float]]) -> None:
    """The worker's end of the pipes, for one trial."""
    with reports.open() as lines, replies.open("w") as answers:
        for line in lines:
            received.append(json.loads(line))
            print("stop" if received[-1]["step"] >= stop_at else "continue", file=answers, flush=True)


def trial(folder: Path, train: Callable[[Path], int], stop_at: int) -> tuple[int, list[dict[str, float]]]:
    pipes = folder / "reports", folder / "replies"
    for pipe in pipes:
        os.mkfifo(pipe)
    received: list[dict[str, float]] = []
    worker = Thread(target=answer, args=(*pipes, stop_at, received))
    worker.start()
    os.environ |= {"THAW_REPORT_PIPE": str(pipes[0]), "THAW_REPLY_PIPE": str(pipes[1])}
    with pipes[0].open("w"):  # so that the reports end when the training does
        trained = train(folder)
    script._reset()
    for name in ("THAW_REPORT_PIPE", "THAW_REPLY_PIPE"):
        del os.environ[name]
    worker.join()
    for pipe in pipes:
        pipe.unlink()
    return trained, received


def main(folder: Path) -> None:
    found = dict[str, dict[str, Any]]()
    for train in (by_keras, by_lightning, by_transformers, by_ignite):
        cases = {"outside": train(folder), "trial": trial(folder, train, EPOCHS + 1), "pruned": trial(folder, train, PRUNED_AT)}
        found[train.__name__.removeprefix("by_")] = cases
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
