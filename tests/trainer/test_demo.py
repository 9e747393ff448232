"""The demo's data and weights: made in seconds, made once, and fit for a study."""

from pathlib import Path

import pytest
import torch

from trainer.data.images.dataset import find
from trainer.loop import train
from trainer.protocol import Finished
from trainer.tasks.image_classification import demo
from trainer.tasks.image_classification.config import ImageClassificationConfig
from trainer.tasks.images.config import ImageData, ImageModel


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("demo")
    demo.make(place)
    return place


def test_the_pretraining_learns_and_the_digits_are_there(folder: Path) -> None:
    made = demo.make(folder)
    assert made["pretraining_accuracy"] > 0.95 and made["images"] + made["pretraining_images"] == 1_797
    dataset = find(ImageData(path=made["data"]))
    assert dataset.classes == ("5", "6", "7", "8", "9") and sum(dataset.counts.values()) == made["images"]


def test_what_is_complete_is_not_made_again_and_what_is_not_is(folder: Path) -> None:
    weights = folder / "small_cnn.safetensors"
    before = weights.stat().st_mtime_ns
    demo.make(folder)
    assert weights.stat().st_mtime_ns == before
    (folder / demo.MARKER).unlink()
    (folder / "digits" / "5" / "stray.png").write_bytes(b"left by a crash")
    demo.make(folder)
    assert weights.stat().st_mtime_ns != before and not (folder / "digits" / "5" / "stray.png").exists()
    assert sorted(entry.name for entry in folder.iterdir()) == ["demo.json", "digits", "pretraining", "small_cnn.safetensors"]


def test_the_pretrained_network_helps_on_digits_that_it_has_not_seen(folder: Path) -> None:
    def accuracy(weights: str | None) -> float:
        model = ImageModel(name="small_cnn", weights=weights, mean=demo.HALF, std=demo.HALF)
        config = ImageClassificationConfig(
            data=ImageData(path=str(folder / "digits")), model=model, image_size=16, epochs=2, frozen_layers=4, lr=0.03
        )
        *_, finished = train(config, device=torch.device("cpu"))
        assert isinstance(finished, Finished)
        return finished.metrics["accuracy"]

    assert accuracy(str(folder / "small_cnn.safetensors")) > accuracy(None) + 0.1
