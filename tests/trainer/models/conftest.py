"""Models and images for the tests: real networks, with values that are cheap to make."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import trainer.tasks.images.catalogue as catalogue
from trainer.models import StagedModel
from trainer.tasks.image_classification.config import ImageClassificationConfig
from trainer.tasks.images.config import ImageData, ImageModel
from trainer.tasks.images.networks.factory import staged
from trainer.tasks.images.networks.families import BY_MODEL

ONE_OF_EACH = (
    "convnext_tiny", "efficientnet_b0", "mobilenet_v2", "mobilenet_v3_small", "resnet18", "shufflenet_v2_x0_5",
    "small_cnn", "squeezenet1_1", "swin_t", "swin_v2_t", "vgg11_bn", "vit_b_32",
)  # fmt: skip
CLASSES = 7
PATTERN = torch.randn(1_000_003, generator=torch.Generator().manual_seed(0))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for `sample` runs once for each family, with a name of it; one that asks for `every_model` for all names."""
    if "sample" in metafunc.fixturenames:
        metafunc.parametrize("sample", ONE_OF_EACH)
    if "every_model" in metafunc.fixturenames:
        metafunc.parametrize("every_model", BY_MODEL)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Two test processes of several threads each would wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def config() -> Callable[..., ImageClassificationConfig]:
    """A config for a model by name; further arguments are hyperparameters, but `weights`."""

    def make(name: str, *, weights: str | Path | None = None, **hyperparameters: Any) -> ImageClassificationConfig:
        model = ImageModel(name=name, weights=None if weights is None else str(weights))
        return ImageClassificationConfig(data=ImageData(path="data"), model=model, **hyperparameters)

    return make


@pytest.fixture
def networks() -> SimpleNamespace:
    """What makes networks and their input: `seeded`, `calibrated`, `images`, `small_size`."""
    return SimpleNamespace(seeded=seeded, calibrated=calibrated, images=images, small_size=small_size)


def images(count: int, size: int, seed: int = 1) -> Tensor:
    """Noise as normalised images [count, 3, size, size]."""
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def small_size(name: str) -> int:
    """An image size in pixels that costs little and is odd where the model allows it."""
    model = catalogue.load(name)
    return max(model.smallest_image, 33 if model.image_step == 1 else model.image_step)


def seeded(name: str, image_size: int) -> StagedModel:
    """The model with torchvision's own random initial values."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return staged(name, CLASSES, image_size)


def calibrated(name: str, image_size: int) -> nn.Module:
    """A network of any size, quickly and in evaluation mode.

    Nothing is initialised: each tensor is taken from another place of one pattern, and BatchNorm then measures one batch,
    so that activations neither vanish nor explode and the logits depend on the images. Only BatchNorm is in training mode
    meanwhile: dropout and dropped paths would make the outcome a matter of luck.
    """
    family = BY_MODEL[name]
    with torch.device("cpu" if family.name == "swin" else "meta"):  # Swin computes index buffers when it is made
        network = family.make(name, CLASSES, image_size)
    if family.name != "swin":
        network.to_empty(device="cpu")
    for index, (title, tensor) in enumerate(network.state_dict().items()):
        _fill(title, tensor, start=index * 7_919 % 500_000)
    for module in network.eval().modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
            module.momentum = 1.0
    with torch.no_grad():
        network(images(4, image_size))
    return network.eval()


def _fill(title: str, tensor: Tensor, start: int) -> None:
    if title.endswith(("relative_position_index", "relative_coords_table")):
        return
    if tensor.ndim < 2:
        tensor.fill_(1 if title.endswith(("weight", "running_var")) else 0)
        return
    values = PATTERN[start:] * (2 / tensor[0].numel()) ** 0.5
    for place in range(0, tensor.numel(), len(values)):
        piece = tensor.view(-1)[place : place + len(values)]
        piece.copy_(values[: len(piece)])
