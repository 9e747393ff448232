"""Training runs of images: metrics, reports, checkpoints, models, and the digests of data and cached tensors."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.goldens.golden import Goldens
from tests.goldens.releases.make import paint, write_weights
from tests.goldens.training import MUCH, Config, Order, Trainer, cache_keys, started

ALL, FEW = ({"path": path, "validation": 0.3, "test": 0.2} for path in ("squares", "few"))  # few: of one class
STAGES = {"squeezenet1_1": 9, "small_cnn": 4}
CLOSE = 1e-4  # of a run beside others to the same alone: matrix products of other shapes add up in another order

ALONE: Mapping[str, Config] = {
    "defaults": {"batch_size": 32},
    "sgd": {"optimizer": "sgd", "lr": 0.05, "momentum": 0.5, "weight_decay": 0.01, "schedule": "cosine", "warmup_fraction": 0.2},
    "adam": {"optimizer": "adam", "lr": 0.003, "beta1": 0.8, "beta2": 0.99, "weight_decay": 0.01, "dropout": 0.3, "schedule": "one_cycle"},
    "adamw": {"weight_decay": 0.1, "label_smoothing": 0.1, "augmentation": "flip", "seed": 7, "order_seed": 5},
    "rmsprop": {"optimizer": "rmsprop", "momentum": 0.3, "schedule": "step", "lr_step_epochs": 1, "lr_gamma": 0.5, "augmentation": "crop"},
    "class weights": {"data": FEW, "class_weights": "balanced", "augmentation": "trivial_augment", "augmentation_views": 2},
    "sampling": {"data": FEW, "sampling": "balanced", "optimizer": "sgd", "lr": 0.01},
    "bfloat16": {"precision": "bfloat16", "epochs": 1},
    "diverging": {"optimizer": "sgd", "lr": 100.0, "weight_decay": 10.0, "momentum": 0.98},
    "large batch": {"batch_size": 31},
}
TOGETHER: tuple[Order, ...] = tuple(
    Order({"optimizer": "adamw", **changes}, **done)
    for changes, done in (
        ({"optimizer": "sgd", "lr": 0.05, "momentum": 0.5, "weight_decay": 0.01, "seed": 1}, {}),
        ({"optimizer": "adam", "lr": 0.01, "dropout": 0.3, "schedule": "cosine", "seed": 2, "epochs": 4}, {"checkpoints": True}),
        ({"weight_decay": 0.1, "label_smoothing": 0.1, "dropout": 0.5, "seed": 3}, {"score_test": True}),
        ({"optimizer": "rmsprop", "momentum": 0.3, "schedule": "one_cycle", "seed": 4, "epochs": 2}, {}),
        ({"optimizer": "sgd", "lr": 0.01, "class_weights": "balanced", "seed": 5}, {}),
        ({"optimizer": "sgd", "lr": 100.0, "weight_decay": 10.0, "momentum": 0.98, "seed": 6, "epochs": 6}, {}),
        ({"lr": 0.01, "seed": 7}, {"pruned_after": 1}),
    )
)


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainer]:
    """A trainer whose folder holds images and weights."""
    folder = tmp_path_factory.mktemp("trainer")
    make_files(folder)
    with started(folder) as running:
        yield running


def make_files(folder: Path) -> None:
    paint(folder / "squares")
    paint(folder / "few")
    for image in sorted((folder / "few" / "red").iterdir())[8:]:
        image.unlink()
    for model in STAGES:
        write_weights(folder / f"{model}.safetensors", model)


def config(model: str = "small_cnn", **changes: Any) -> Config:
    """A short run; of small_cnn from random values, of another model from its weights."""
    weights = "random" if model == "small_cnn" else f"{model}.safetensors"
    base = {"data": ALL, "model": {"name": model, "weights": weights}, "epochs": 3, "image_size": 16, "batch_size": 8, "seed": 3}
    return {**base, **({"image_size": 32} if model != "small_cnn" else {}), **changes}


def head_of(model: str, **changes: Any) -> Config:
    """A run of the head alone, on weights, with few images of one class."""
    own = {"model": {"name": model, "weights": f"{model}.safetensors"}, "frozen_layers": STAGES[model], "data": FEW}
    return config(model) | own | changes


def test_runs_alone(trainer: Trainer, goldens: Goldens) -> None:
    found = dict[str, Any]()
    for name, changes in ALONE.items():
        order = Order(config(**changes), checkpoints=name == "adam", score_test=name == "sgd", model_file=f"{name}.safetensors")
        found[name] = trainer.run(order).golden(trainer.folder)
    goldens.check_computed("training/alone.json", trainer.machine, found)


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_a_resumed_run_equals_the_uninterrupted_run(name: str, trainer: Trainer) -> None:
    whole = trainer.run(Order(config(**ALONE[name]), checkpoints=True))
    first, *_ = whole.checkpoints
    resumed = trainer.run(Order(config(**ALONE[name]), resume=first, checkpoints=True))
    assert resumed.epochs == {step: metrics for step, metrics in whole.epochs.items() if step > first["step"]} and len(resumed.epochs) == 2
    ends = [result.golden(trainer.folder) for result in (whole, resumed)]
    assert ends[0]["states"][-1] == ends[1]["states"][-1]
    assert ends[0]["confusion_matrix"] == ends[1]["confusion_matrix"]


def test_a_cancelled_run_continues_from_its_checkpoint(trainer: Trainer) -> None:
    whole = trainer.run(Order(config(**ALONE["adam"])))
    cancelled = trainer.run(Order(config(**ALONE["adam"]), cancelled_after=2))
    (left,) = cancelled.checkpoints
    assert left["step"] == 2 and cancelled.golden(trainer.folder)["stopped"] == 2
    resumed = trainer.run(Order(config(**ALONE["adam"]), resume=left))
    assert {**cancelled.epochs, **resumed.epochs} == whole.epochs


def test_a_pruned_run(trainer: Trainer, goldens: Goldens) -> None:
    pruned = trainer.run(Order(config(**ALONE["adamw"]), pruned_after=2))
    goldens.check_computed("training/pruned.json", trainer.machine, pruned.golden(trainer.folder))


def test_runs_on_a_frozen_prefix(trainer: Trainer, goldens: Goldens) -> None:
    """Computed in each epoch, stored, and read from what was stored."""
    frozen = config("squeezenet1_1", frozen_layers=6, augmentation="flip", augmentation_views=2)
    depths = {"computed": (0, 0), "stored": (6, 6), "read": (6, 6), "read deeper than stored": (5, 6)}
    found = {name: trainer.run(Order(frozen, depths=place)) for name, place in depths.items()}
    assert found["read"].epochs == found["stored"].epochs
    for result in found.values():
        assert result.epochs == {step: pytest.approx(metrics, rel=CLOSE) for step, metrics in found["computed"].epochs.items()}
    results = {name: result.golden(trainer.folder) for name, result in found.items()}
    goldens.check_computed("training/frozen-prefix.json", trainer.machine, results)


@pytest.mark.parametrize("model", STAGES)
def test_heads_trained_together(model: str, trainer: Trainer, goldens: Goldens) -> None:
    demand = {STAGES[model]: MUCH}
    orders = [Order(**{**vars(order), "config": head_of(model, **order.config), "demand": demand}) for order in TOGETHER]
    orders[0] = Order(orders[0].config, demand=demand, model_file=f"{model}-head.safetensors")
    together = trainer.run_together(orders)
    for order, result in zip(orders, together, strict=True):
        alone = trainer.run(Order(order.config, pruned_after=order.pruned_after, demand=demand))
        assert result.epochs == {step: pytest.approx(metrics, rel=CLOSE) for step, metrics in alone.epochs.items()}, order
    saved = together[1].checkpoints[0]
    resumed = trainer.run(Order(orders[1].config, resume=saved, demand=demand))
    assert resumed.epochs == {step: pytest.approx(together[1].epochs[step], rel=CLOSE) for step in (2, 3, 4)}
    results = {"together": [result.golden(trainer.folder) for result in together], "resumed": resumed.golden(trainer.folder)}
    goldens.check_computed(f"training/together-{model}.json", trainer.machine, results)


def test_digests_of_data(trainer: Trainer, goldens: Goldens) -> None:
    """Classes, parts, fingerprint, split and manifest of a folder, of one with parts of its own, and of a table with groups."""
    folder = trainer.folder
    for part, colours in (("train", ("blue", "red")), ("val", ("blue", "red"))):
        for colour in colours:
            (folder / "parts" / part / colour).mkdir(parents=True)
            for image in sorted((folder / "squares" / colour).iterdir())[: 5 if part == "val" else 12]:
                named = image if part == "val" else folder / "squares" / colour / f"{19 - int(image.stem):02}.bmp"
                (folder / "parts" / part / colour / image.name).write_bytes(named.read_bytes())
    rows = [f"{colour}/{number:02}.bmp,{colour},{number // 3}" for colour in ("blue", "green") for number in range(20)]
    (folder / "squares" / "labels.csv").write_text("\n".join(["path,label,group", *rows, ""]))
    data = {
        "a folder": ALL,
        "a folder with parts": {"path": "parts"},
        "a table": {"path": "squares/labels.csv", "validation": 0.3, "seed": 4},
    }
    found = {name: trainer.check(config(data=one)) for name, one in data.items()}
    found["weights"] = trainer.check(config("squeezenet1_1"))
    (folder / "squares" / "labels.csv").unlink()
    goldens.check_json("training/data.json", found)


def test_keys_of_the_cache(tmp_path: Path, goldens: Goldens) -> None:
    """The keys of pixels and outputs in an empty cache, whose digests name the files."""
    make_files(tmp_path)
    with started(tmp_path) as trainer:
        trainer.run(Order(config("squeezenet1_1", frozen_layers=2, augmentation="crop", augmentation_views=1, epochs=1), depths=(2, 2)))
        trainer.run(Order(head_of("small_cnn", epochs=1), demand={STAGES["small_cnn"]: MUCH}))
        trainer.run(Order(config(frozen_layers=1, epochs=1), depths=(1, 1)))  # random values: known by their seed
    goldens.check_json("training/cache-keys.json", cache_keys(tmp_path / "cache"))
