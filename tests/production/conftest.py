"""Small trained models of all six tasks, in folders as `thaw train` writes them."""

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from service.domain.export import Exported, Origin, Reached
from service.domain.spec import Objective
from tests.tasks.images.conftest import COLOURS, picture
from tests.trainer.text.conftest import write_bert
from trainer.configuration import TrainConfig
from trainer.loop import train
from trainer.protocol import Failed, Finished, RunPrepared
from trainer.tasks.registry import spec_of

HOST = torch.device("cpu")
METRICS = {
    "image_classification": "accuracy", "image_regression": "rmse", "image_multilabel": "f1",
    "text_classification": "accuracy", "text_regression": "rmse", "text_multilabel": "f1",
}  # fmt: skip
TARGETS = {"classification": "label", "regression": "number", "multilabel": "labels"}
COUNT = 100
Row = Mapping[str, str]


@dataclass(frozen=True)
class Trained:
    """A model's folder, the result of its run, and the rows of the table that it was trained on."""

    folder: Path
    exported: Exported
    finished: Finished
    rows: tuple[Row, ...]

    @property
    def target(self) -> str:
        """The column of the targets."""
        return TARGETS[self.exported.config.task.partition("_")[2]]

    @property
    def column(self) -> str:
        """The column of the input."""
        return "text" if self.exported.config.task.startswith("text") else "path"

    def of(self, part: str) -> list[Row]:
        """The rows of a part."""
        return [row for row in self.rows if row["split"] == part]

    def table(self, file: Path, rows: list[Row], *columns: str) -> Path:
        """A file with these columns of the rows, beside the images."""
        with file.open("w", newline="") as opened:
            csv.writer(opened).writerows([columns, *([row[column] for column in columns] for row in rows)])
        return file


Train = Callable[..., Trained]


def part_of(number: int) -> str:
    return {0: "test", 1: "val"}.get(number % 4, "train")


def rows_of_texts() -> list[Row]:
    """Texts of 1 to 20 words. w5 and w6 decide about the label, the number of words about the number, w7 to w9 about the labels."""
    generator, rows = torch.Generator().manual_seed(0), list[Row]()
    for number in range(COUNT):
        words = torch.randint(4, 30, (int(torch.randint(1, 21, (1,), generator=generator)),), generator=generator).tolist()
        rows.append(
            {
                "text": " ".join(f"w{word}" for word in words),
                "label": "yes" if 5 in words or 6 in words else "no",
                "number": str(len(words) / 2),
                "labels": "|".join(sorted({f"w{word}" for word in words if word in (7, 8, 9)})),
                "split": part_of(number),
            }
        )
    return rows


def rows_of_images(folder: Path) -> list[Row]:
    """Images with squares of colours: their names are the labels, blue decides about the label. The brightness decides about the number."""
    random, rows = np.random.default_rng(2), list[Row]()
    for number in range(COUNT):
        own = [colour for colour, share in zip(COLOURS, (0.6, 0.4, 0.25), strict=True) if random.random() < share]
        brightness = float(random.uniform(-40, 40))
        picture(random, brightness, own).save(folder / f"{number}.png")
        label, value = "blue" if "blue" in own else "other", f"{1000 + 4 * brightness:.3f}"
        rows.append({"path": f"{number}.png", "label": label, "number": value, "labels": "|".join(own), "split": part_of(number)})
    return rows


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Trains a model of a task, once for equal arguments. Afterwards the weights that it started from are gone."""
    known = dict[str, Trained]()

    def trained(task: str, **values: Any) -> Trained:
        key = f"{task} {values}"
        if key not in known:
            known[key] = _train(task, tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("model"), values)
        return known[key]

    return trained


def _train(task: str, data: Path, folder: Path, values: Mapping[str, Any]) -> Trained:
    modality, _, kind = task.partition("_")
    rows, target, file = (rows_of_texts() if modality == "text" else rows_of_images(data)), TARGETS[kind], data / "table.csv"
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows([rows[0].keys(), *(row.values() for row in rows)])
    role = "label" if kind == "classification" else "target"
    if modality == "text":
        section: dict[str, Any] = {"path": str(file), "target": target, "near_duplicates": False}
        settings: dict[str, Any] = {"model": {"name": str(write_bert(data / "bert"))}, "max_length": 12, "epochs": 4, "lr": 3e-3}
    else:
        section = {"path": str(file), "columns": {role: target}}
        settings = {"model": {"name": "small_cnn"}, "image_size": 16, "epochs": 4, "lr": 3e-3}
    config = TrainConfig.of_task(task)(task=task, data=section, batch_size=16, **{**settings, **values})
    events = list(train(config, device=HOST, model_file=folder / "model.safetensors", score_test=True))
    assert not [event for event in events if isinstance(event, Failed)], events
    (prepared,) = [event for event in events if isinstance(event, RunPrepared)]
    (finished,) = [event for event in events if isinstance(event, Finished)]
    metric = METRICS[task]
    objective = Objective(metric=metric, direction=spec_of(task).metrics[metric].direction)
    exported = Exported(
        note="Not confirmed: this is a test.",
        confirmed=None,
        origin=Origin(study="0" * 16, study_name="a test", trial=3, params={}),
        reached=Reached(objective=objective, value=finished.metrics[metric], metrics=finished.metrics, steps=config.epochs),
        config=config,
        facts=prepared.facts,
        environment={},
    )
    (folder / "config.yaml").write_text(exported.to_yaml())
    if modality == "text":
        (data / "bert").rename(data / "moved")
    return Trained(folder, exported, finished, tuple(rows))
