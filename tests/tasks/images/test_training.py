"""Runs of image regression and of image multi-label classification: they learn, report, and agree with heads trained together."""

import base64
import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from tests.tasks.images.conftest import Table
from trainer.configuration import TrainConfig
from trainer.data.examples import BadData
from trainer.heads import HeadEnsemble
from trainer.learners import Member, ModelLearner
from trainer.loop import TrainingLoop, train
from trainer.protocol import EpochMetrics, Failed, Finished, RunPrepared
from trainer.targets.labels.config import LabelTestReport
from trainer.targets.labels.scores import LabelPredictions
from trainer.targets.numbers.config import NumberTestReport
from trainer.targets.numbers.scores import Residuals
from trainer.tasks.image_multilabel.config import ImageMultilabelConfig, ImageMultilabelData, ImageMultilabelInfo
from trainer.tasks.image_regression.config import ImageRegressionConfig, ImageRegressionInfo
from trainer.tasks.images.config import ImageModel, ImageTableData
from trainer.tasks.images.task import ImageInputs

CPU = torch.device("cpu")
USUAL: dict[str, Any] = {"image_size": 16, "batch_size": 8, "lr": 3e-3, "seed": 3}


def regression(path: Path, **changes: Any) -> ImageRegressionConfig:
    data = ImageTableData(path=str(path), test=0.2)
    return ImageRegressionConfig(**{"data": data, "model": ImageModel(name="small_cnn"), **USUAL, **changes})


def multilabel(path: Path, **changes: Any) -> ImageMultilabelConfig:
    data = ImageMultilabelData(path=str(path), test=0.2)
    return ImageMultilabelConfig(**{"data": data, "model": ImageModel(name="small_cnn"), **USUAL, **changes})


def run(config: TrainConfig, **options: Any) -> list[Any]:
    return [fact for fact in train(config, device=CPU, **options) if fact.kind != "advanced"]


def last(facts: Sequence[Any]) -> Finished:
    assert isinstance(facts[-1], Finished), facts[-1]
    return facts[-1]


def test_a_regression_learns_and_reports_in_the_unit_of_the_data(numbers: Table) -> None:
    facts = run(regression(numbers(), epochs=12), score_test=True)
    prepared, finished = facts[0], last(facts)
    assert isinstance(prepared, RunPrepared) and isinstance(prepared.facts, ImageRegressionInfo)
    train_part = prepared.facts.numbers["train"]
    assert prepared.facts.images == {"train": 48, "validation": 16, "test": 16}
    assert 900 < train_part.mean < 1100 and 100 < train_part.std < 180
    assert finished.metrics.keys() >= {"rmse", "mae", "r2", "pearson", "spearman", "train_loss"}
    assert finished.metrics["r2"] > 0.5 and finished.metrics["rmse"] < prepared.facts.numbers["validation"].std
    report = finished.report
    assert len(report["residual_quantiles"]) == 5 and sorted(report["residual_quantiles"]) == list(report["residual_quantiles"])
    assert sum(one["count"] for one in report["bins"]) == 16 and 760 < report["bins"][0]["low"] < report["bins"][-1]["high"] < 1240
    worst = [abs(one["predicted"] - one["target"]) for one in report["worst_numbers"]]
    assert len(worst) == 16 and worst == sorted(worst, reverse=True) and report["worst_numbers"][0]["name"].endswith(".png")
    assert finished.test is not None
    scores = Residuals.of(NumberTestReport.model_validate(finished.test.report))
    assert scores is not None and len(scores) == 16
    assert finished.test.metrics["mae"] == pytest.approx(scores.scores("mae").mean(), rel=1e-5)
    assert finished.test.metrics["rmse"] == pytest.approx((scores.residuals**2).mean() ** 0.5, rel=1e-5)


@pytest.mark.parametrize("loss", ["mse", "l1", "huber"])
def test_each_loss_is_trained(numbers: Table, loss: str) -> None:
    facts = run(regression(numbers(), epochs=3, loss=loss, huber_delta=0.5))
    losses = [fact.metrics["train_loss"] for fact in facts if isinstance(fact, EpochMetrics)]
    assert losses[-1] < losses[0]


def test_a_multilabel_run_learns_and_chooses_its_threshold_on_the_validation_images(labels: Table, tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    facts = run(multilabel(labels(), epochs=12), score_test=True, model_file=model)
    prepared, finished = facts[0], next(fact for fact in facts if isinstance(fact, Finished))
    assert isinstance(prepared.facts, ImageMultilabelInfo) and prepared.facts.labels == ("blue", "green", "red")
    counts = prepared.facts.label_counts
    assert counts["train"][0] > counts["train"][2] > 0 and sum(prepared.facts.without_labels.values()) > 0
    assert finished.metrics.keys() >= {"f1", "micro_f1", "hamming", "subset_accuracy", "auroc", "average_precision", "loss"}
    assert finished.metrics["f1"] > 0.8 and finished.metrics["auroc"] > 0.9
    report, test = finished.report, finished.test
    assert list(report["per_label"]) == ["blue", "green", "red"] and 0.01 <= report["threshold"] <= 0.99
    assert test is not None and test.report["threshold"] == report["threshold"], "not chosen again on the test images"
    scores = LabelPredictions.of(LabelTestReport.model_validate(test.report))
    assert scores is not None and len(scores) == prepared.facts.images["test"]
    assert test.metrics["hamming"] == pytest.approx(scores.scores("hamming").mean(), abs=1e-12)
    assert test.metrics["loss"] == pytest.approx(scores.scores("loss").mean(), rel=1e-3)
    with safe_open(model, framework="pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["labels"]) == ["blue", "green", "red"] and float(metadata["threshold"]) == report["threshold"]


def test_the_examples_that_are_most_wrong_are_named(labels: Table) -> None:
    report = last(run(multilabel(labels(), epochs=1, lr=1e-6))).report
    assert report["worst_labels"], "hardly trained"
    losses = [one["loss"] for one in report["worst_labels"]]
    assert losses == sorted(losses, reverse=True) and all(one["name"].endswith(".png") for one in report["worst_labels"])
    assert all(one["missing"] or one["extra"] for one in report["worst_labels"])


def test_the_first_of_them_are_shown_as_small_pictures(labels: Table) -> None:
    config = multilabel(labels(), epochs=1, lr=1e-6)
    loop = TrainingLoop([Member(config=config, score_test=True)], ModelLearner.build, device=CPU, shown=3)
    finished = last([fact for fact in loop.events() if fact.kind != "advanced"])
    worst = finished.report["worst_labels"]
    assert len(worst) > 3 and ["picture" in one for one in worst] == [True] * 3 + [False] * (len(worst) - 3)
    assert finished.test is not None and not any("picture" in one for one in finished.test.report["worst_labels"])
    for one in worst[:3]:
        file = Path(config.data.path).with_name(one["name"])
        with Image.open(io.BytesIO(base64.b64decode(one["picture"]))) as shown, Image.open(file) as stored:
            pixels = [np.asarray(image.convert("RGB").resize((4, 4)), dtype=float) for image in (shown, stored)]
            assert shown.size == (16, 16) and abs(pixels[0] - pixels[1]).mean() < 15
    plain = last(run(config)).report["worst_labels"]
    assert plain == [{name: value for name, value in one.items() if name != "picture"} for one in worst], "the same report but for pictures"


def test_each_of_several_equal_images_has_its_own_name(labels: Table) -> None:
    table = labels(count=40)
    rows = table.read_text().splitlines()[1:]
    folder = f"{'d' * 200}/{'e' * 210}"
    (table.parent / folder).mkdir(parents=True)
    with table.open("a") as file:
        for row in rows:
            shutil.copy(table.parent / row.partition(",")[0], table.parent / folder)
            file.write(f"{folder}/{row}\n")
    worst = last(run(multilabel(table, epochs=1, lr=1e-6))).report["worst_labels"]
    names = [one["name"] for one in worst]
    assert len({*names}) == len(names) > 5 and max(map(len, names)) == 400
    plain = [name.rpartition("/")[2] for name in names]
    assert all(plain.count(name) == 2 for name in plain[:4]), "an image and its copy are equally wrong"


def test_a_report_does_without_pictures_of_files_that_are_gone(labels: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise BadData("a file is gone")

    monkeypatch.setattr(ImageInputs, "pictures", gone)
    loop = TrainingLoop([Member(config=multilabel(labels(), epochs=1, lr=1e-6))], ModelLearner.build, device=CPU, shown=3)
    worst = last([fact for fact in loop.events() if fact.kind != "advanced"]).report["worst_labels"]
    assert worst and all(one["name"].endswith(".png") and "picture" not in one for one in worst)


def test_heads_trained_together_are_those_trained_alone(numbers: Table, labels: Table, weights: ImageModel) -> None:
    head = {"model": weights, "frozen_layers": 4, "epochs": 3}
    table, sets = numbers(), labels()
    for configs in (
        [
            regression(table, **head, seed=1),
            regression(table, **head, seed=2, loss="l1", optimizer="sgd", lr=0.1),
            regression(table, **head, seed=3, loss="huber", huber_delta=0.3),
        ],
        [multilabel(sets, **head, seed=1), multilabel(sets, **head, seed=2, pos_weight="balanced", optimizer="sgd", lr=0.1)],
    ):
        together = [
            fact
            for fact in TrainingLoop([Member(config=one, score_test=True) for one in configs], HeadEnsemble.build, device=CPU).events()
            if isinstance(fact, EpochMetrics | Finished)
        ]
        for lane, config in enumerate(configs):
            alone = [fact for fact in run(config, share=False, score_test=True) if isinstance(fact, EpochMetrics | Finished)]
            own = [fact for fact in together if fact.lane == lane]
            for found, expected in zip(own, alone, strict=True):
                assert dict(found.metrics) == pytest.approx(dict(expected.metrics), rel=2e-3, abs=2e-3)
            assert own[-1].test.metrics == pytest.approx(alone[-1].test.metrics, rel=2e-3, abs=2e-3)  # type: ignore[union-attr]


def test_a_run_repeats_and_its_split_follows_from_the_content(labels: Table) -> None:
    path = labels()
    first = run(multilabel(path, epochs=1))
    assert last(run(multilabel(path, epochs=1))).metrics == last(first).metrics
    renamed = path.parent / "renamed"
    path.parent.joinpath("0.png").rename(path.parent / "first.png")
    path.write_text(path.read_text().replace("\n0.png", "\nfirst.png", 1))
    again = run(multilabel(path, epochs=1))
    assert again[0].facts.split == first[0].facts.split and not renamed.exists()


def test_a_label_without_a_training_image_is_refused(labels: Table) -> None:
    path = labels(30)
    lines = path.read_text().splitlines()
    path.write_text(
        "\n".join([lines[0], *(f"{line.split(',')[0]},{'odd' if line.startswith('7.') else 'blue|red'}" for line in lines[1:])])
    )
    found = {run(multilabel(path, epochs=1, data=ImageMultilabelData(path=str(path), seed=seed)))[-1].kind for seed in range(12)}
    assert found == {"finished", "failed"}, "the only image of the label is in the training part or not, by the seed"
    ends = [run(multilabel(path, epochs=1, data=ImageMultilabelData(path=str(path), seed=seed)))[-1] for seed in range(12)]
    (text,) = {end.detail for end in ends if isinstance(end, Failed)}
    assert "no example in the train part" in text and "odd" in text and "data.seed" in text
