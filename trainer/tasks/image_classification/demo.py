"""`python -m trainer.tasks.image_classification.demo FOLDER`: makes data and pretrained weights for a study, without a download.

The data are the handwritten digits of scikit-learn (UCI, 8x8 pixels), as images of 16 pixels. `FOLDER/digits` has a folder for each of
the digits 5 to 9; `FOLDER/small_cnn.safetensors` is `small_cnn` trained from random values on the digits 0 to 4. So a study
fine-tunes the network to digits on which it was not trained.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits

from trainer import files
from trainer.loop import train
from trainer.protocol import Failed, Finished
from trainer.tasks.image_classification.config import ImageClassificationConfig
from trainer.tasks.images.config import ImageData, ImageModel

VERSION = 1  # of the folder's content; a folder of an older version is made again
SCALE = 2  # 8 pixels become 16
PRETRAINED, TUNED = range(5), range(5, 10)
HALF = (0.5, 0.5, 0.5)
MARKER = "demo.json"


def make(folder: Path) -> Mapping[str, Any]:
    """Make the data and weights unless the folder is complete. Returns the paths, and the results of the pretraining."""
    folder = folder.resolve()
    paths = {"data": str(folder / "digits"), "weights": str(folder / "small_cnn.safetensors")}
    marker = folder / MARKER
    if marker.is_file() and (found := json.loads(marker.read_text()))["version"] == VERSION:
        return {**paths, **found}
    folder.mkdir(parents=True, exist_ok=True)
    tuned, pretrained = _write_images(folder / "digits", TUNED), _write_images(folder / "pretraining", PRETRAINED)
    finished = _pretrain(folder / "pretraining", Path(paths["weights"]))
    facts = {
        "version": VERSION,
        "images": tuned,
        "pretraining_images": pretrained,
        "pretraining_accuracy": finished.metrics["accuracy"],
        "pretraining_seconds": finished.train_seconds,
        "weights_bytes": Path(paths["weights"]).stat().st_size,
    }
    files.write(marker, lambda file: file.write(json.dumps(facts).encode()))  # last, so that its presence means a complete folder
    return {**paths, **facts}


def _write_images(folder: Path, digits: Sequence[int]) -> int:
    """Write a folder for each digit, and rename the whole into place. Returns the number of images."""
    source = load_digits()
    beside = folder.with_name(f"{folder.name}.{os.getpid()}{files.TEMPORARY}")
    shutil.rmtree(beside, ignore_errors=True)
    count = 0
    for number, (pixels, digit) in enumerate(zip(source.images, source.target.tolist(), strict=True)):  # [8, 8], 0 to 16
        if digit in digits:
            place = beside / str(digit) / f"{number:04}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            grey = np.rint(pixels * (255 / 16)).astype(np.uint8).repeat(SCALE, 0).repeat(SCALE, 1)  # [16, 16]
            Image.fromarray(grey).convert("RGB").save(place)
            count += 1
    shutil.rmtree(folder, ignore_errors=True)
    beside.replace(folder)
    return count


def _pretrain(images: Path, weights: Path) -> Finished:
    config = ImageClassificationConfig(
        data=ImageData(path=str(images)), model=ImageModel(name="small_cnn", mean=HALF, std=HALF),
        image_size=8 * SCALE, epochs=8, batch_size=32, optimizer="adamw", lr=3e-3, schedule="one_cycle", weight_decay=0.01,
    )  # fmt: skip
    reached: Finished | None = None
    for event in train(config, device=torch.device("cpu"), model_file=weights):
        if isinstance(event, Failed):
            raise RuntimeError(f"the pretraining failed: {event.detail}")
        reached = event if isinstance(event, Finished) else reached
    assert reached is not None  # noqa: S101  (a run that does not fail finishes)
    return reached


def main() -> None:
    """Make the demo's data and weights, and print their paths as one line of JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.tasks.image_classification.demo", description="Make data and pretrained weights for a demo study."
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, help="number of PyTorch threads on the CPU")
    given = parser.parse_args()
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    sys.stdout.write(json.dumps(make(given.folder)) + "\n")


if __name__ == "__main__":
    main()
