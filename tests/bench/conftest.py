"""A workload that takes no time: two classes of a dozen noisy squares, and a network of random weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from bench.replay.orders import Order
from bench.replay.workloads import Workload
from trainer.tasks.images.config import ImageData, ImageModel
from trainer.tasks.images.networks.factory import staged

IMAGES = 12  # a class


@pytest.fixture
def tiny(tmp_path: Path) -> Order:
    """Two head-only points of list A, two epochs."""
    noise = np.random.default_rng(0)
    for label, brightness in (("dark", 0), ("light", 128)):
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(IMAGES):
            pixels = noise.integers(brightness, brightness + 127, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / label / f"{number}.png")
    torch.manual_seed(0)
    weights = tmp_path / "weights.safetensors"
    save_file(staged("small_cnn", 10, 16).network.state_dict(), weights)
    workload = Workload(
        name="digits",
        data=ImageData(path=str(tmp_path / "data"), validation=0.25),
        model=ImageModel(name="small_cnn", weights=str(weights)),
        image_size=16,
    )
    return Order(engine="naive", workload=workload, recorded="A", numbers=(5, 9), epochs=2)
